//! Every kernel of [`Compute`](crate::Compute) in burn's own operations: what a backend without kernels of its own runs,
//! and the oracle in tests. Under `Autodiff`, burn differentiates the forward functions; the `*_backward` functions are the
//! same gradients written out.

use burn::tensor::activation;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{FloatDType, Int, Shape, Tensor, TensorMetadata, TensorPrimitive};

use crate::compute::{NormScale, UnembedGradients};
use crate::ops::flat;

/// √(2/π) doubled: `0.5 (1 + tanh u)` is `sigmoid(2u)`.
const TWO_ROOT_2_PI: f64 = 1.595_769_121_605_730_7;
const CUBIC: f64 = 0.044_715;

fn float<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn bare<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn rows<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 2> {
    let (rows, width) = flat(&x.shape());
    float(B::float_reshape(x, Shape::from([rows, width])))
}

fn shaped<B: Backend>(x: Tensor<B, 2>, shape: Shape) -> FloatTensor<B> {
    B::float_reshape(bare(x), shape)
}

/// A row vector that broadcasts over rows.
fn row<B: Backend>(vector: FloatTensor<B>) -> Tensor<B, 2> {
    float::<B, 1>(vector).unsqueeze()
}

/// [`crate::ops::gelu_new`], as `x · sigmoid(2u)` with `u = √(2/π) (x + 0.044715 x³)`.
pub fn gelu_new<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let x = rows::<B>(x);
    shaped(x.clone() * gelu_gate(x), shape)
}

/// Gradient of [`gelu_new`].
pub fn gelu_new_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let x = rows::<B>(x);
    let gate = gelu_gate(x.clone());
    let slope = (x.clone() * x.clone() * (3.0 * CUBIC) + 1.0) * TWO_ROOT_2_PI;
    let local = gate.clone() + x * slope * (gate.clone() * (gate.neg() + 1.0));
    shaped(local * rows::<B>(grad), shape)
}

fn gelu_gate<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let square = x.clone() * x.clone();
    activation::sigmoid((square * CUBIC + 1.0) * x * TWO_ROOT_2_PI)
}

/// [`crate::ops::gelu`].
pub fn gelu_erf<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let x = rows::<B>(x);
    shaped(x.clone() * normal_distribution(x), shape)
}

/// Gradient of [`gelu_erf`]: `Φ(x) + x φ(x)`.
pub fn gelu_erf_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let x = rows::<B>(x);
    let density = (x.clone() * x.clone() * -0.5).exp() * (1.0 / std::f64::consts::TAU.sqrt());
    shaped((normal_distribution(x.clone()) + x * density) * rows::<B>(grad), shape)
}

fn normal_distribution<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

/// [`crate::ops::silu_mul`].
pub fn silu_mul<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let shape = gate.shape();
    let gate = rows::<B>(gate);
    shaped(gate.clone() * activation::sigmoid(gate) * rows::<B>(up), shape)
}

/// Gradients of [`silu_mul`].
pub fn silu_mul_backward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = gate.shape();
    let (gate, up, grad) = (rows::<B>(gate), rows::<B>(up), rows::<B>(grad));
    let s = activation::sigmoid(gate.clone());
    let slope = s.clone() * (gate.clone() * (s.clone().neg() + 1.0) + 1.0);
    let for_gate = grad.clone() * up * slope;
    (shaped(for_gate, shape.clone()), shaped(grad * gate * s, shape))
}

/// [`crate::ops::layer_norm`].
pub fn layer_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    scale: NormScale,
) -> FloatTensor<B> {
    let shape = x.shape();
    let normed = divided(centered(rows::<B>(x)), scale);
    shaped(normed * row(weight) + row(bias), shape)
}

/// Gradients of [`layer_norm`] with respect to `x`, `weight` and `bias`.
pub fn layer_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: NormScale,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let (for_centered, for_weight, grad) = norm_backward(centered(rows::<B>(x)), weight, rows::<B>(grad), scale);
    let for_bias = bare(grad.sum_dim(0).squeeze::<1>());
    (shaped(centered(for_centered), shape), for_weight, for_bias)
}

/// [`crate::ops::rms_norm`].
pub fn rms_norm<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, scale: NormScale) -> FloatTensor<B> {
    let shape = x.shape();
    shaped(divided(rows::<B>(x), scale) * row(weight), shape)
}

/// Gradients of [`rms_norm`] with respect to `x` and `weight`.
pub fn rms_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: NormScale,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let (for_x, for_weight, _) = norm_backward(rows::<B>(x), weight, rows::<B>(grad), scale);
    (shaped(for_x, shape), for_weight)
}

/// [`crate::ops::norm_scales`].
pub fn norm_scales<B: Backend>(x: FloatTensor<B>, centered: bool, eps: f64) -> FloatTensor<B> {
    let x = rows::<B>(x);
    let x = if centered { self::centered(x) } else { x };
    bare(root_mean_square(x, eps).squeeze_dim::<1>(1))
}

/// Gradient of [`norm_scales`] with respect to `x`.
pub fn norm_scales_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    centered: bool,
    eps: f64,
) -> FloatTensor<B> {
    let shape = x.shape();
    let x = rows::<B>(x);
    let x = if centered { self::centered(x) } else { x };
    let [rows, width] = x.dims();
    let factor = float::<B, 1>(grad).reshape([rows, 1]) / (root_mean_square(x.clone(), eps) * width as f64);
    shaped(x * factor, shape)
}

fn centered<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clone() - x.mean_dim(1)
}

fn root_mean_square<B: Backend>(x: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
    ((x.clone() * x).mean_dim(1) + eps).sqrt()
}

fn divided<B: Backend>(x: Tensor<B, 2>, scale: NormScale) -> Tensor<B, 2> {
    match scale {
        NormScale::Computed { eps } => x.clone() / root_mean_square(x, eps),
        NormScale::Frozen(scale) => x / scale,
    }
}

/// Gradients of `x / scale · weight` with respect to `x` and `weight`; `grad` is handed back.
fn norm_backward<B: Backend>(
    x: Tensor<B, 2>,
    weight: FloatTensor<B>,
    grad: Tensor<B, 2>,
    scale: NormScale,
) -> (Tensor<B, 2>, FloatTensor<B>, Tensor<B, 2>) {
    let normed = divided(x.clone(), scale);
    let for_normed = grad.clone() * row(weight);
    let for_weight = bare((grad.clone() * normed.clone()).sum_dim(0).squeeze::<1>());
    let for_x = match scale {
        NormScale::Computed { eps } => {
            let along = (for_normed.clone() * normed.clone()).mean_dim(1);
            (for_normed - normed * along) / root_mean_square(x, eps)
        }
        NormScale::Frozen(scale) => for_normed / scale,
    };
    (for_x, for_weight, grad)
}

/// [`crate::ops::linear`] on `[rows, in]`.
pub fn linear<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, bias: Option<FloatTensor<B>>) -> FloatTensor<B> {
    let x = rows::<B>(x);
    let single = x.dims()[0] == 1;
    let x = if single { Tensor::cat(vec![x.clone(), x], 0) } else { x };
    let y = x.matmul(float(weight));
    let y = if single { y.narrow(0, 0, 1) } else { y };
    bare(match bias {
        Some(bias) => y + row(bias),
        None => y,
    })
}

/// Sum over the rows of `[rows, width]`.
pub fn sum_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    bare(rows::<B>(x).sum_dim(0).squeeze::<1>())
}

pub(crate) fn swap_units<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    bare(float::<B, 3>(x).swap_dims(0, 1))
}

/// [`crate::ops::causal_softmax`].
pub fn causal_softmax<B: Backend>(scores: FloatTensor<B>) -> FloatTensor<B> {
    let scores: Tensor<B, 4> = float(scores);
    let [_, _, queries, keys] = scores.dims();
    let hidden =
        Tensor::<B, 2, burn::tensor::Bool>::tril_mask([queries, keys], keys as i64 - queries as i64, &scores.device());
    let masked = scores.mask_fill(hidden.unsqueeze(), f32::NEG_INFINITY);
    bare(activation::softmax(masked, 3))
}

/// Gradient of [`causal_softmax`], from its result.
pub fn causal_softmax_backward<B: Backend>(pattern: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let shape = pattern.shape();
    let (pattern, grad) = (rows::<B>(pattern), rows::<B>(grad));
    let along = (pattern.clone() * grad.clone()).sum_dim(1);
    shaped(pattern * (grad - along), shape)
}

/// [`crate::ops::attention`].
pub fn attention<B: Backend>(q: FloatTensor<B>, k: FloatTensor<B>, v: FloatTensor<B>, scale: f32) -> FloatTensor<B> {
    let heads = q.shape()[2];
    let (q, k, v) = (heads_first::<B>(q, 1), heads_first::<B>(k, heads), heads_first::<B>(v, heads));
    let scores = q.matmul(k.swap_dims(2, 3)) * scale;
    let pattern: Tensor<B, 4> = float(causal_softmax::<B>(bare(scores)));
    bare(pattern.matmul(v).swap_dims(1, 2))
}

/// `[batch, positions, heads, d_head]` to `[batch, heads, positions, d_head]`, each head repeated so that there are at
/// least `heads`.
fn heads_first<B: Backend>(x: FloatTensor<B>, heads: usize) -> Tensor<B, 4> {
    let x: Tensor<B, 4> = float::<B, 4>(x).swap_dims(1, 2);
    let [batch, own, positions, width] = x.dims();
    let group = (heads / own).max(1);
    x.reshape([batch, own, 1, positions, width]).repeat_dim(2, group).reshape([batch, own * group, positions, width])
}

/// Gradients of [`attention`].
pub fn attention_backward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (heads, kv_heads) = (q.shape()[2], k.shape()[2]);
    let (q, k, v) = (heads_first::<B>(q, 1), heads_first::<B>(k, heads), heads_first::<B>(v, heads));
    let grad: Tensor<B, 4> = float::<B, 4>(grad).swap_dims(1, 2);
    let scores = q.clone().matmul(k.clone().swap_dims(2, 3)) * scale;
    let pattern: Tensor<B, 4> = float(causal_softmax::<B>(bare(scores)));
    let for_v = pattern.clone().swap_dims(2, 3).matmul(grad.clone());
    let for_pattern = grad.matmul(v.swap_dims(2, 3));
    let for_scores = causal_softmax_backward::<B>(bare(pattern), bare(for_pattern));
    let for_scores: Tensor<B, 4> = float::<B, 4>(for_scores) * scale;
    let for_q = for_scores.clone().matmul(k);
    let for_k = for_scores.swap_dims(2, 3).matmul(q);
    (bare(for_q.swap_dims(1, 2)), heads_last(for_k, kv_heads), heads_last(for_v, kv_heads))
}

/// Undoes [`heads_first`]: gradients of the copies of one head are added.
fn heads_last<B: Backend>(x: Tensor<B, 4>, own: usize) -> FloatTensor<B> {
    let [batch, heads, positions, width] = x.dims();
    let x = x.reshape([batch, own, heads / own, positions, width]);
    let x: Tensor<B, 4> = x.sum_dim(2).reshape([batch, own, positions, width]);
    bare(x.swap_dims(1, 2))
}

/// [`crate::ops::attention_qkv`].
pub fn attention_qkv<B: Backend>(qkv: FloatTensor<B>, lengths: &[usize], heads: usize, scale: f32) -> FloatTensor<B> {
    let qkv: Tensor<B, 2> = float(qkv);
    let parts = runs(lengths).map(|run| {
        let [q, k, v] = unpack::<B>(run.sequences(&qkv), heads);
        let z: Tensor<B, 4> = float(attention::<B>(q, k, v, scale));
        let [batch, positions, heads, d_head] = z.dims();
        z.reshape([batch * positions, heads * d_head])
    });
    bare(Tensor::cat(parts.collect(), 0))
}

/// Gradient of [`attention_qkv`].
pub fn attention_qkv_backward<B: Backend>(
    qkv: FloatTensor<B>,
    grad: FloatTensor<B>,
    lengths: &[usize],
    heads: usize,
    scale: f32,
) -> FloatTensor<B> {
    let (qkv, grad): (Tensor<B, 2>, Tensor<B, 2>) = (float(qkv), float(grad));
    let parts = runs(lengths).map(|run| {
        let [q, k, v] = unpack::<B>(run.sequences(&qkv), heads);
        let grad = B::float_reshape(bare(run.sequences(&grad)), q.shape());
        let (q, k, v) = attention_backward::<B>(q, k, v, grad, scale);
        let parts = [q, k, v].map(|part| {
            let part: Tensor<B, 4> = float(part);
            let [batch, positions, heads, d_head] = part.dims();
            part.reshape([batch * positions, heads * d_head])
        });
        Tensor::cat(parts.into(), 1)
    });
    bare(Tensor::<B, 2>::cat(parts.collect(), 0))
}

/// Neighbouring sequences of one length.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The first row.
    pub(crate) start: usize,
    /// Number of sequences.
    pub(crate) count: usize,
    /// Rows of each.
    pub(crate) length: usize,
}

impl Run {
    /// `[count, length, width]` of `[rows, width]`.
    fn sequences<B: Backend>(self, x: &Tensor<B, 2>) -> Tensor<B, 3> {
        let width = x.dims()[1];
        x.clone().narrow(0, self.start, self.count * self.length).reshape([self.count, self.length, width])
    }
}

/// Sequences of these lengths, one below the other, as few runs.
pub(crate) fn runs(lengths: &[usize]) -> impl Iterator<Item = Run> {
    lengths.chunk_by(|a, b| a == b).scan(0, |next, same| {
        let run = Run { start: *next, count: same.len(), length: same[0] };
        *next += run.count * run.length;
        Some(run)
    })
}

fn unpack<B: Backend>(qkv: Tensor<B, 3>, heads: usize) -> [FloatTensor<B>; 3] {
    let [batch, positions, packed] = qkv.dims();
    let width = packed / 3;
    [0, 1, 2].map(|part| {
        let x = qkv.clone().narrow(2, part * width, width);
        bare(x.reshape([batch, positions, heads, width / heads]))
    })
}

/// [`crate::ops::token_nll`].
pub fn token_nll<B: Backend>(logits: FloatTensor<B>, targets: IntTensor<B>) -> FloatTensor<B> {
    let log_probs = activation::log_softmax(float::<B, 2>(logits), 1);
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).unsqueeze_dim(1);
    bare(log_probs.gather(1, targets).squeeze_dim::<1>(1).neg())
}

/// Gradient of [`token_nll`] with respect to the logits.
pub fn token_nll_backward<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let probs = activation::softmax(float::<B, 2>(logits), 1);
    let [rows, _] = probs.dims();
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).unsqueeze_dim(1);
    let minus_one = Tensor::<B, 2>::full([rows, 1], -1.0, &probs.device());
    let off_target = probs.scatter(1, targets, minus_one, burn::tensor::IndexingUpdateOp::Add);
    bare(off_target * float::<B, 1>(grad).unsqueeze_dim(1))
}

/// [`crate::ops::unembed_loss`], with the gradients of the scalar when asked for.
pub fn unembed_loss<B: Backend>(
    hidden: FloatTensor<B>,
    unembed: FloatTensor<B>,
    targets: IntTensor<B>,
    weights: FloatTensor<B>,
    gradients: bool,
) -> (FloatTensor<B>, Option<UnembedGradients<B>>) {
    let (hidden, unembed): (Tensor<B, 2>, Tensor<B, 2>) = (float(hidden), float(unembed));
    let logits = hidden.clone().matmul(unembed.clone().transpose());
    let nll: Tensor<B, 1> = float(token_nll::<B>(bare(logits.clone()), targets.clone()));
    let loss = (nll * float(weights.clone())).sum();
    let gradients = gradients.then(|| {
        let for_logits: Tensor<B, 2> = float(token_nll_backward::<B>(bare(logits), targets, weights));
        UnembedGradients {
            hidden: bare(for_logits.clone().matmul(unembed)),
            unembed: bare(for_logits.transpose().matmul(hidden)),
        }
    });
    (bare(loss), gradients)
}

/// [`crate::ops::matmul_rounded`].
pub fn matmul_rounded<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, to: FloatDType) -> FloatTensor<B> {
    if to == FloatDType::F32 {
        return B::float_matmul(a, b);
    }
    let rounded = |x| B::float_cast(B::float_cast(x, to), FloatDType::F32);
    B::float_matmul(rounded(a), rounded(b))
}

/// Gradient of [`crate::ops::embedding`] with respect to its table of `rows` rows.
pub fn embed_grad<B: Backend>(rows: usize, ids: IntTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let grad = self::rows::<B>(grad);
    let [count, width] = grad.dims();
    let table = Tensor::<B, 2>::zeros([rows, width], &grad.device());
    let ids = Tensor::<B, 1, Int>::from_primitive(B::int_reshape(ids, Shape::from([count])));
    bare(table.select_assign(0, ids, grad, burn::tensor::IndexingUpdateOp::Add))
}
