//! [`Compute`] with gradients: the inner backend's kernel forward, its `*_backward` backward.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Shape, TensorMetadata};

use crate::compute::{Compute, NormScale, UnembedGradients};

/// Declares an operation of `$n` differentiable inputs: what its backward pass keeps, and the gradients of the inputs from
/// that and the gradient of the result.
macro_rules! operation {
    ($name:ident, $n:literal, $B:ident, $State:ty, |$state:pat_param, $grad:ident| $gradients:expr) => {
        #[derive(Debug)]
        struct $name;

        impl<$B: Compute> Backward<$B, $n> for $name {
            type State = $State;

            fn backward(self, ops: Ops<$State, $n>, grads: &mut Gradients, _: &mut Checkpointer) {
                let $grad = grads.consume::<$B>(&ops.node);
                let $state = ops.state;
                let gradients: [FloatTensor<$B>; $n] = $gradients.into();
                for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let Some(parent) = parent {
                        grads.register::<$B>(parent.id, gradient);
                    }
                }
            }
        }
    };
}

/// Runs an operation: keeps `$state` only if an input is tracked.
macro_rules! run {
    ($name:ident, [$($input:ident),+], $state:expr, $output:expr) => {
        match $name
            .prepare::<S>([$($input.node.clone()),+])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = $state;
                prep.finish(state, $output)
            }
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

operation!(GeluNew, 1, B, FloatTensor<B>, |x, grad| [B::gelu_new_backward(x, grad)]);

operation!(GeluErf, 1, B, FloatTensor<B>, |x, grad| [B::gelu_erf_backward(x, grad)]);

operation!(SiluMul, 2, B, (FloatTensor<B>, FloatTensor<B>), |(gate, up), grad| {
    B::silu_mul_backward(gate, up, grad)
});

operation!(LayerNorm, 3, B, (FloatTensor<B>, FloatTensor<B>, NormScale), |(x, weight, scale), grad| {
    B::layer_norm_backward(x, weight, grad, scale)
});

operation!(RmsNorm, 2, B, (FloatTensor<B>, FloatTensor<B>, NormScale), |(x, weight, scale), grad| {
    B::rms_norm_backward(x, weight, grad, scale)
});

operation!(NormScales, 1, B, (FloatTensor<B>, bool, f64), |(x, centered, eps), grad| [B::norm_scales_backward(
    x, grad, centered, eps
)]);

operation!(CausalSoftmax, 1, B, FloatTensor<B>, |pattern, grad| [B::causal_softmax_backward(pattern, grad)]);

operation!(Attention, 3, B, ([FloatTensor<B>; 3], f32), |([q, k, v], scale), grad| B::attention_backward(
    q, k, v, grad, scale
));

operation!(AttentionQkv, 1, B, (FloatTensor<B>, Vec<usize>, usize, f32), |(qkv, lengths, heads, scale), grad| [
    B::attention_qkv_backward(qkv, grad, &lengths, heads, scale)
]);

operation!(TokenNll, 1, B, (FloatTensor<B>, IntTensor<B>), |(logits, targets), grad| [B::token_nll_backward(
    logits, targets, grad
)]);

operation!(UnembedLoss, 2, B, Option<UnembedGradients<B>>, |gradients, grad| {
    let gradients = gradients.unwrap_or_else(|| unreachable!("asked for when tracked"));
    let factor = B::float_reshape(grad, Shape::from([1, 1]));
    [gradients.hidden, gradients.unembed].map(|x| B::float_mul(x, factor.clone()))
});

operation!(Embed, 1, B, (usize, IntTensor<B>), |(rows, ids), grad| [B::embed_grad(rows, ids, grad)]);

/// `x · weight + bias`. The inputs are `x`, `weight` and, if `N` is 3, `bias`; products whose result nobody asks for are left
/// out.
#[derive(Debug)]
struct Linear;

impl<B: Compute, const N: usize> Backward<B, N> for Linear {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        for (input, parent) in ops.parents.into_iter().enumerate() {
            let Some(parent) = parent else { continue };
            let gradient = match input {
                0 => B::affine(grad.clone(), B::float_transpose(weight.clone()), None),
                1 => B::float_matmul(B::float_transpose(x.clone()), grad.clone()),
                _ => B::sum_rows(grad.clone()),
            };
            grads.register::<B>(parent.id, gradient);
        }
    }
}

impl<B: Compute, S: CheckpointStrategy> Compute for Autodiff<B, S> {
    fn gelu_new(x: FloatTensor<Self>) -> FloatTensor<Self> {
        run!(GeluNew, [x], x.primitive.clone(), B::gelu_new(x.primitive))
    }

    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        run!(GeluErf, [x], x.primitive.clone(), B::gelu_erf(x.primitive))
    }

    fn silu_mul(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let state = || (gate.primitive.clone(), up.primitive.clone());
        run!(SiluMul, [gate, up], state(), B::silu_mul(gate.primitive, up.primitive))
    }

    fn layer_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: NormScale,
    ) -> FloatTensor<Self> {
        run!(
            LayerNorm,
            [x, weight, bias],
            (x.primitive.clone(), weight.primitive.clone(), scale),
            B::layer_norm_affine(x.primitive, weight.primitive, bias.primitive, scale)
        )
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, scale: NormScale) -> FloatTensor<Self> {
        run!(
            RmsNorm,
            [x, weight],
            (x.primitive.clone(), weight.primitive.clone(), scale),
            B::rms_norm(x.primitive, weight.primitive, scale)
        )
    }

    fn norm_scales(x: FloatTensor<Self>, centered: bool, eps: f64) -> FloatTensor<Self> {
        run!(NormScales, [x], (x.primitive.clone(), centered, eps), B::norm_scales(x.primitive, centered, eps))
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        let state = |x: &FloatTensor<Self>, weight: &FloatTensor<Self>| (x.primitive.clone(), weight.primitive.clone());
        match bias {
            Some(bias) => run!(
                Linear,
                [x, weight, bias],
                state(&x, &weight),
                B::affine(x.primitive, weight.primitive, Some(bias.primitive))
            ),
            None => run!(Linear, [x, weight], state(&x, &weight), B::affine(x.primitive, weight.primitive, None)),
        }
    }

    fn causal_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        let pattern = B::causal_softmax(scores.primitive);
        run!(CausalSoftmax, [scores], pattern.clone(), pattern)
    }

    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let state = |x: [&FloatTensor<Self>; 3]| (x.map(|x| x.primitive.clone()), scale);
        run!(
            Attention,
            [q, k, v],
            state([&q, &k, &v]),
            B::causal_attention(q.primitive, k.primitive, v.primitive, scale)
        )
    }

    fn attention_qkv(qkv: FloatTensor<Self>, lengths: &[usize], heads: usize, scale: f32) -> FloatTensor<Self> {
        run!(
            AttentionQkv,
            [qkv],
            (qkv.primitive.clone(), lengths.to_vec(), heads, scale),
            B::attention_qkv(qkv.primitive, lengths, heads, scale)
        )
    }

    fn token_nll(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        run!(TokenNll, [logits], (logits.primitive.clone(), targets.clone()), B::token_nll(logits.primitive, targets))
    }

    fn unembed_loss(
        hidden: FloatTensor<Self>,
        unembed: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        _gradients: bool,
    ) -> (FloatTensor<Self>, Option<UnembedGradients<Self>>) {
        let loss = |gradients| {
            let (hidden, unembed) = (hidden.primitive.clone(), unembed.primitive.clone());
            B::unembed_loss(hidden, unembed, targets, weights.primitive, gradients)
        };
        let loss =
            match UnembedLoss.prepare::<S>([hidden.node.clone(), unembed.node.clone()]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => {
                    let (loss, gradients) = loss(true);
                    prep.finish(gradients, loss)
                }
                OpsKind::UnTracked(prep) => prep.finish(loss(false).0),
            };
        (loss, None)
    }

    fn embed(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let rows = table.shape()[0];
        run!(Embed, [table], (rows, ids.clone()), B::embed(table.primitive, ids))
    }
}
