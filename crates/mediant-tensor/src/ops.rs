//! Functions over burn tensors that the models and dictionaries are made of, each with its gradient under `Autodiff`.
//!
//! A "row" is a vector along the last dimension; functions over `D` dimensions act on every row by itself. No result
//! depends on which other rows are in the batch, nor on the number of threads.

use burn::tensor::{FloatDType, Int, Shape, Tensor, TensorPrimitive};

use crate::{Compute, NormScale};

fn wrap<C: Compute, const D: usize>(primitive: C::FloatTensorPrimitive) -> Tensor<C, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn bare<C: Compute, const D: usize>(tensor: Tensor<C, D>) -> C::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

/// GELU in its tanh form, GPT-2's `gelu_new`: `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))` (Hendrycks & Gimpel 2016,
/// arXiv:1606.08415).
pub fn gelu_new<C: Compute, const D: usize>(x: Tensor<C, D>) -> Tensor<C, D> {
    wrap(C::gelu_new(bare(x)))
}

/// GELU by the error function: `x Φ(x)`, with Φ the normal distribution (Hendrycks & Gimpel 2016, arXiv:1606.08415).
pub fn gelu<C: Compute, const D: usize>(x: Tensor<C, D>) -> Tensor<C, D> {
    wrap(C::gelu_erf(bare(x)))
}

/// `silu(gate) · up` with `silu(x) = x · sigmoid(x)`: the SwiGLU of Llama (Shazeer 2020, arXiv:2002.05202).
/// Both have one shape.
pub fn silu_mul<C: Compute, const D: usize>(gate: Tensor<C, D>, up: Tensor<C, D>) -> Tensor<C, D> {
    wrap(C::silu_mul(bare(gate), bare(up)))
}

/// LayerNorm over the last dimension: `(x − mean) / scale · weight + bias`, with the scale `√(var + eps)` of the population
/// variance (Ba et al. 2016, arXiv:1607.06450) or a frozen one. `weight` and `bias` are `[width]`.
pub fn layer_norm<C: Compute, const D: usize>(
    x: Tensor<C, D>,
    weight: Tensor<C, 1>,
    bias: Tensor<C, 1>,
    scale: NormScale,
) -> Tensor<C, D> {
    wrap(C::layer_norm_affine(bare(x), bare(weight), bare(bias), scale))
}

/// RMSNorm over the last dimension: `x / scale · weight`, with the scale `√(mean(x²) + eps)` (Zhang & Sennrich 2019,
/// arXiv:1910.07467) or a frozen one.
pub fn rms_norm<C: Compute, const D: usize>(x: Tensor<C, D>, weight: Tensor<C, 1>, scale: NormScale) -> Tensor<C, D> {
    wrap(C::rms_norm(bare(x), bare(weight), scale))
}

/// `[rows, units, width]` as `[units, rows, width]`, and back: the numbers of one unit beside each other.
pub fn swap_units<C: Compute>(x: Tensor<C, 3>) -> Tensor<C, 3> {
    wrap(C::swap_units(bare(x)))
}

/// What a norm whose scale is computed divides each row by, `[rows]` for `[rows, width]`: `√(mean((x − mean)²) + eps)` if
/// `centered` (LayerNorm), else `√(mean(x²) + eps)` (RMSNorm).
pub fn norm_scales<C: Compute>(x: Tensor<C, 2>, centered: bool, eps: f64) -> Tensor<C, 1> {
    wrap(C::norm_scales(bare(x), centered, eps))
}

/// A norm taken apart, for hooks inside it: the normalised rows are `centered / scale`, before weight and bias.
pub struct NormParts<C: Compute, const D: usize> {
    /// `x − mean` (LayerNorm) or `x` (RMSNorm), `[…, width]`.
    pub centered: Tensor<C, D>,
    /// TransformerLens' `hook_scale`: `√(mean(centered²) + eps)` or the frozen scale, `[…, 1]`.
    pub scale: Tensor<C, D>,
}

/// The parts of [`layer_norm`].
pub fn layer_norm_parts<C: Compute, const D: usize>(x: Tensor<C, D>, scale: NormScale) -> NormParts<C, D> {
    let mean = x.clone().mean_dim(D - 1);
    rms_norm_parts(x - mean, scale)
}

/// The parts of [`rms_norm`].
pub fn rms_norm_parts<C: Compute, const D: usize>(x: Tensor<C, D>, scale: NormScale) -> NormParts<C, D> {
    let scale = match scale {
        NormScale::Computed { eps } => ((x.clone() * x.clone()).mean_dim(D - 1) + eps).sqrt(),
        NormScale::Frozen(scale) => {
            let mut shape = x.dims();
            shape[D - 1] = 1;
            Tensor::full(shape, scale, &x.device())
        }
    };
    NormParts { centered: x, scale }
}

/// `x · weight + bias`, with `weight` `[in, out]` as in GPT-2's Conv1D and `bias` `[out]`. Any number of rows gives the
/// same bits for each row.
pub fn linear<C: Compute, const D: usize>(
    x: Tensor<C, D>,
    weight: Tensor<C, 2>,
    bias: Option<Tensor<C, 1>>,
) -> Tensor<C, D> {
    let mut shape = x.shape();
    let rows = shape[..D - 1].iter().product();
    let x = x.reshape([rows, shape[D - 1]]);
    shape[D - 1] = weight.dims()[1];
    let y: Tensor<C, 2> = wrap(C::affine(bare(x), bare(weight), bias.map(bare)));
    y.reshape(shape)
}

/// Softmax over the keys that a query may see: query i of n sees keys 0 ..= i + (m − n) of m. The other entries are
/// exactly 0, whatever stands there. `scores`: `[batch, heads, queries, keys]`.
pub fn causal_softmax<C: Compute>(scores: Tensor<C, 4>) -> Tensor<C, 4> {
    wrap(C::causal_softmax(bare(scores)))
}

/// Causal attention without a stored pattern: `softmax(scale · q kᵀ, causal) v` per head.
///
/// `q`: `[batch, queries, heads, d_head]`; `k`, `v`: `[batch, keys, kv_heads, d_head]`, where `kv_heads` divides `heads`
/// (query head h reads key head `h / (heads / kv_heads)`) and the last query stands at the last key, as with a cache of
/// earlier keys. Returns `[batch, queries, heads, d_head]` (TransformerLens' `hook_z`).
pub fn attention<C: Compute>(q: Tensor<C, 4>, k: Tensor<C, 4>, v: Tensor<C, 4>, scale: f32) -> Tensor<C, 4> {
    wrap(C::causal_attention(bare(q), bare(k), bare(v), scale))
}

/// [`attention`] on the packed output of GPT-2's `c_attn` for sequences of several lengths, one below the other: `qkv` is
/// `[rows, 3 · width]` (queries, keys, values; heads side by side in each), `lengths` has the rows of each sequence, the
/// result is `[rows, width]`.
pub fn attention_qkv<C: Compute>(qkv: Tensor<C, 2>, lengths: &[usize], heads: usize, scale: f32) -> Tensor<C, 2> {
    wrap(C::attention_qkv(bare(qkv), lengths, heads, scale))
}

/// Cross-entropy of each row in nats: `logsumexp(logits) − logits[target]`. `logits`: `[rows, vocabulary]`, `targets`:
/// `[rows]`. Nothing of the vocabulary's size is kept but the logits.
pub fn token_nll<C: Compute>(logits: Tensor<C, 2>, targets: Tensor<C, 1, Int>) -> Tensor<C, 1> {
    wrap(C::token_nll(bare(logits), targets.into_primitive()))
}

/// `Σᵢ weightsᵢ · cross-entropy(hiddenᵢ · unembedᵀ, targetsᵢ)` as a `[1]` tensor, in blocks of rows, so that the logits of
/// all rows never exist together. `hidden`: `[rows, width]`; `unembed`: `[vocabulary, width]` (the layout of `lm_head.weight`
/// and of a tied embedding); `targets`, `weights`: `[rows]`, weights without a gradient.
pub fn unembed_loss<C: Compute>(
    hidden: Tensor<C, 2>,
    unembed: Tensor<C, 2>,
    targets: Tensor<C, 1, Int>,
    weights: Tensor<C, 1>,
) -> Tensor<C, 1> {
    let targets = targets.into_primitive();
    let (loss, _) = C::unembed_loss(bare(hidden), bare(unembed), targets, bare(weights), false);
    wrap(loss)
}

/// Rows of `table` (`[rows, width]`) by `ids` (`[batch, positions]`): `[batch, positions, width]`. The gradient adds in the
/// order of the ids.
pub fn embedding<C: Compute>(table: Tensor<C, 2>, ids: Tensor<C, 2, Int>) -> Tensor<C, 3> {
    wrap(C::embed(bare(table), ids.into_primitive()))
}

/// `a · b` where `a` may have a single row: it is then padded, because a product of one row takes another path through the
/// matrix library and differs in the last bits from the same row in a batch.
pub fn matmul<C: Compute>(a: Tensor<C, 2>, b: Tensor<C, 2>) -> Tensor<C, 2> {
    if a.dims()[0] != 1 {
        return a.matmul(b);
    }
    Tensor::cat(vec![a.clone(), a], 0).matmul(b).narrow(0, 0, 1)
}

/// `a · b` of numbers rounded to `to`, summed in f32, the result f32. With `F32` the numbers are taken as they are (CUDA's
/// kernels round them to TF32).
pub fn matmul_rounded<C: Compute>(a: Tensor<C, 2>, b: Tensor<C, 2>, to: FloatDType) -> Tensor<C, 2> {
    wrap(C::matmul_rounded(bare(a), bare(b), to))
}

/// Shape of `rows` flattened to two dimensions.
pub(crate) fn flat(shape: &Shape) -> (usize, usize) {
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width.max(1), width)
}
