//! The kernels of [`crate::kernels`] as operations of burn's processor backend.

use burn::backend::Flex;
use burn::tensor::ops::{FloatTensor, FloatTensorOps, IntTensor, IntTensorOps};
use burn::tensor::{DType, FloatDType, IntDType, Shape, TensorData, TensorMetadata};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::compute::{Compute, NormScale, UnembedGradients};
use crate::kernels::{self, GradientsMut, Heads, Matrix};
use crate::ops::flat;
use crate::plain::{Run, runs};

/// An f32 tensor whose elements stand one after another.
pub(crate) fn contiguous(x: FlexTensor) -> FlexTensor {
    let x = match x.dtype() {
        DType::F32 => x,
        _ => Flex::float_cast(x, FloatDType::F32),
    };
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// The elements of a tensor from [`contiguous`].
pub(crate) fn floats(x: &FlexTensor) -> &[f32] {
    x.as_slice().unwrap_or_else(|| unreachable!("`contiguous` made it f32 and contiguous"))
}

/// An i32 tensor whose elements stand one after another.
fn contiguous_ints(x: FlexTensor) -> FlexTensor {
    let x = match x.dtype() {
        DType::I32 => x,
        _ => Flex::int_cast(x, IntDType::I32),
    };
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

fn ints(x: &FlexTensor) -> &[i32] {
    x.as_slice().unwrap_or_else(|| unreachable!("`contiguous_ints` made it i32 and contiguous"))
}

pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape))
}

fn width(x: &FlexTensor) -> usize {
    flat(&x.shape()).1
}

impl Compute for Flex {
    fn gelu_new(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        tensor(kernels::gelu_new(floats(&x)), x.shape())
    }

    fn swap_units(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        let shape = x.shape();
        let [rows, units, width] = [shape[0], shape[1], shape[2]];
        let values = floats(&x);
        let mut swapped = Vec::with_capacity(values.len());
        for unit in 0..units {
            (0..rows).for_each(|row| swapped.extend_from_slice(&values[(row * units + unit) * width..][..width]));
        }
        tensor(swapped, [units, rows, width])
    }

    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        tensor(kernels::gelu_erf(floats(&x)), x.shape())
    }

    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, grad) = (contiguous(x), contiguous(grad));
        tensor(kernels::gelu_erf_backward(floats(&x), floats(&grad)), x.shape())
    }

    fn gelu_new_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, grad) = (contiguous(x), contiguous(grad));
        tensor(kernels::gelu_new_backward(floats(&x), floats(&grad)), x.shape())
    }

    fn silu_mul(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (contiguous(gate), contiguous(up));
        tensor(kernels::silu_mul(floats(&gate), floats(&up)), gate.shape())
    }

    fn silu_mul_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gate, up, grad) = (contiguous(gate), contiguous(up), contiguous(grad));
        let (for_gate, for_up) = kernels::silu_mul_backward(floats(&gate), floats(&up), floats(&grad));
        (tensor(for_gate, gate.shape()), tensor(for_up, up.shape()))
    }

    fn layer_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: NormScale,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
        let y = kernels::layer_norm(floats(&x), floats(&weight), floats(&bias), scale);
        tensor(y, x.shape())
    }

    fn layer_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: NormScale,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
        let (for_x, for_weight, for_bias) =
            kernels::layer_norm_backward(floats(&x), floats(&weight), floats(&grad), scale);
        (tensor(for_x, x.shape()), tensor(for_weight, weight.shape()), tensor(for_bias, weight.shape()))
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, scale: NormScale) -> FloatTensor<Self> {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let y = kernels::rms_norm(floats(&x), floats(&weight), scale);
        tensor(y, x.shape())
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: NormScale,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
        let (for_x, for_weight) = kernels::rms_norm_backward(floats(&x), floats(&weight), floats(&grad), scale);
        (tensor(for_x, x.shape()), tensor(for_weight, weight.shape()))
    }

    fn norm_scales(x: FloatTensor<Self>, centered: bool, eps: f64) -> FloatTensor<Self> {
        let x = contiguous(x);
        let rows = flat(&x.shape()).0;
        tensor(kernels::norm_scales(floats(&x), width(&x), centered, eps as f32), [rows])
    }

    fn norm_scales_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        centered: bool,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (x, grad) = (contiguous(x), contiguous(grad));
        let for_x = kernels::norm_scales_backward(floats(&x), width(&x), floats(&grad), centered, eps as f32);
        tensor(for_x, x.shape())
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        let (x, bias) = (contiguous(x), bias.map(contiguous));
        let rows = flat(&x.shape()).0;
        let outputs = weight.shape()[1];
        // A transposed weight is read where it stands.
        let y = if weight.is_contiguous() || !weight.clone().transpose(0, 1).is_contiguous() {
            let weight = contiguous(weight);
            let view = Matrix::new(floats(&weight), weight.shape()[0], outputs, outputs);
            kernels::linear(floats(&x), view, bias.as_ref().map(floats))
        } else {
            let weight = contiguous(weight.transpose(0, 1));
            let inputs = weight.shape()[1];
            let view = Matrix::new(floats(&weight), outputs, inputs, inputs).t();
            kernels::linear(floats(&x), view, bias.as_ref().map(floats))
        };
        tensor(y, [rows, outputs])
    }

    fn sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        tensor(kernels::sum_rows(floats(&x), width(&x)), [width(&x)])
    }

    fn causal_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        let scores = contiguous(scores);
        let shape = scores.shape();
        let [queries, keys] = [shape[shape.num_dims() - 2], width(&scores)];
        tensor(kernels::causal_softmax(floats(&scores), queries, keys), shape)
    }

    fn causal_softmax_backward(pattern: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (pattern, grad) = (contiguous(pattern), contiguous(grad));
        let keys = width(&pattern);
        let scores = kernels::causal_softmax_backward(floats(&pattern), floats(&grad), keys);
        tensor(scores, pattern.shape())
    }

    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let z = kernels::attention(q.shape()[0], heads(&q), heads(&k), heads(&v), scale);
        tensor(z, q.shape())
    }

    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (q, k, v, grad) = (contiguous(q), contiguous(k), contiguous(v), contiguous(grad));
        let [mut for_q, mut for_k, mut for_v] = [&q, &k, &v].map(|x| vec![0.0; x.shape().num_elements()]);
        let sequence = |x: &FlexTensor| (x.shape().num_elements() / x.shape()[0].max(1)).max(1);
        let out = for_q
            .chunks_mut(sequence(&q))
            .zip(for_k.chunks_mut(sequence(&k)))
            .zip(for_v.chunks_mut(sequence(&v)))
            .map(|((q, k), v)| GradientsMut::Apart(q, k, v))
            .collect();
        kernels::attention_backward(heads(&q), heads(&k), heads(&v), heads(&grad), scale, out);
        (tensor(for_q, q.shape()), tensor(for_k, k.shape()), tensor(for_v, v.shape()))
    }

    fn attention_qkv(qkv: FloatTensor<Self>, lengths: &[usize], n_heads: usize, scale: f32) -> FloatTensor<Self> {
        let qkv = contiguous(qkv);
        let runs: Vec<Run> = runs(lengths).collect();
        let parts: Vec<Vec<f32>> = runs
            .par_iter()
            .map(|run| {
                let [q, k, v] = packed(&qkv, *run, n_heads);
                kernels::attention(run.count, q, k, v, scale)
            })
            .collect();
        let shape = [qkv.shape()[0], width(&qkv) / 3];
        match <[Vec<f32>; 1]>::try_from(parts) {
            Ok([z]) => tensor(z, shape),
            Err(parts) => tensor(parts.concat(), shape),
        }
    }

    fn attention_qkv_backward(
        qkv: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        lengths: &[usize],
        n_heads: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (qkv, grad) = (contiguous(qkv), contiguous(grad));
        let (row, own) = (width(&qkv), width(&grad));
        let mut for_qkv = vec![0.0; qkv.shape().num_elements()];
        let mut rest = &mut for_qkv[..];
        let runs: Vec<(Run, &mut [f32])> = runs(lengths)
            .map(|run| {
                let out;
                (out, rest) = std::mem::take(&mut rest).split_at_mut(run.count * run.length * row);
                (run, out)
            })
            .collect();
        runs.into_par_iter().for_each(|(run, out)| {
            let [q, k, v] = packed(&qkv, run, n_heads);
            let grad = Heads { data: &floats(&grad)[run.start * own..], stride: own, ..q };
            let out = out.chunks_mut((run.length * row).max(1)).map(GradientsMut::Packed).collect();
            kernels::attention_backward(q, k, v, grad, scale, out);
        });
        tensor(for_qkv, qkv.shape())
    }

    fn token_nll(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let (logits, targets) = (contiguous(logits), contiguous_ints(targets));
        let nll = kernels::token_nll(floats(&logits), width(&logits), ints(&targets));
        tensor(nll, targets.shape())
    }

    fn token_nll_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, targets) = (contiguous(logits), contiguous_ints(targets));
        let grad = contiguous(grad);
        let (shape, vocab) = (logits.shape(), width(&logits));
        let owned = floats(&logits).to_vec();
        let for_logits = kernels::token_nll_backward(owned, vocab, ints(&targets), floats(&grad));
        tensor(for_logits, shape)
    }

    fn unembed_loss(
        hidden: FloatTensor<Self>,
        unembed: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        gradients: bool,
    ) -> (FloatTensor<Self>, Option<UnembedGradients<Self>>) {
        let (hidden, unembed) = (contiguous(hidden), contiguous(unembed));
        let (targets, weights) = (contiguous_ints(targets), contiguous(weights));
        let result = kernels::unembed_loss(
            floats(&hidden),
            floats(&unembed),
            width(&hidden),
            ints(&targets),
            floats(&weights),
            gradients,
        );
        let gradients = result
            .gradients
            .map(|(h, u)| UnembedGradients { hidden: tensor(h, hidden.shape()), unembed: tensor(u, unembed.shape()) });
        (tensor(vec![result.loss], [1]), gradients)
    }

    fn embed_grad(rows: usize, ids: IntTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (ids, grad) = (contiguous_ints(ids), contiguous(grad));
        let width = width(&grad);
        let table = kernels::embedding_grad(rows, width, ints(&ids), floats(&grad));
        tensor(table, [rows, width])
    }
}

/// `[batch, positions, heads, width]`.
fn heads(x: &FlexTensor) -> Heads<'_> {
    let shape = x.shape();
    Heads {
        data: floats(x),
        positions: shape[1],
        heads: shape[2],
        width: shape[3],
        stride: shape[2] * shape[3],
        offset: 0,
    }
}

/// Queries, keys and values of some sequences in `[rows, 3 · width]`.
fn packed(qkv: &FlexTensor, run: Run, heads: usize) -> [Heads<'_>; 3] {
    let row = width(qkv);
    [0, 1, 2].map(|part| Heads {
        data: &floats(qkv)[run.start * row..],
        positions: run.length,
        heads,
        width: row / 3 / heads.max(1),
        stride: row,
        offset: part * (row / 3),
    })
}
