use burn::tensor::FloatDType;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use crate::plain;

/// What [`Compute::unembed_loss`] gives back for the backward pass.
#[derive(Clone, Debug)]
pub struct UnembedGradients<C: Backend> {
    /// Gradient of the loss with respect to the hidden rows, `[rows, width]`.
    pub hidden: FloatTensor<C>,
    /// Gradient of the loss with respect to the unembedding, `[vocabulary, width]`.
    pub unembed: FloatTensor<C>,
}

/// What a norm divides its rows by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormScale {
    /// The root of each row's own variance (LayerNorm) or mean square (RMSNorm) plus `eps`.
    Computed {
        /// What is added under the root.
        eps: f64,
    },
    /// One number for every row, without a gradient.
    Frozen(f32),
}

/// A burn backend with our own kernels. Float tensors are f32, integer tensors i32.
///
/// The methods work on backend primitives of any rank; callers use the functions of [`crate::ops`] instead. Each default
/// body is the same computation in burn's own operations ([`crate::plain`]): what CUDA runs, and what tests compare with.
/// `Flex` overrides them by kernels over slices; `Autodiff<B>` runs `B`'s method forward and `B`'s `*_backward` backward.
pub trait Compute: Backend<FloatElem = f32, IntElem = i32> {
    /// See [`crate::ops::gelu_new`].
    fn gelu_new(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_new::<Self>(x)
    }

    /// Gradient of [`Self::gelu_new`] at `x`, times `grad`.
    fn gelu_new_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_new_backward::<Self>(x, grad)
    }

    /// See [`crate::ops::gelu`].
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_erf::<Self>(x)
    }

    /// Gradient of [`Self::gelu_erf`] at `x`, times `grad`.
    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::gelu_erf_backward::<Self>(x, grad)
    }

    /// See [`crate::ops::silu_mul`].
    fn silu_mul(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::silu_mul::<Self>(gate, up)
    }

    /// Gradients of [`Self::silu_mul`] with respect to `gate` and `up`.
    fn silu_mul_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::silu_mul_backward::<Self>(gate, up, grad)
    }

    /// See [`crate::ops::layer_norm`].
    fn layer_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: NormScale,
    ) -> FloatTensor<Self> {
        plain::layer_norm::<Self>(x, weight, bias, scale)
    }

    /// Gradients of [`Self::layer_norm_affine`] with respect to `x`, `weight` and `bias`.
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: NormScale,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain::layer_norm_backward::<Self>(x, weight, grad, scale)
    }

    /// See [`crate::ops::rms_norm`].
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, scale: NormScale) -> FloatTensor<Self> {
        plain::rms_norm::<Self>(x, weight, scale)
    }

    /// Gradients of [`Self::rms_norm`] with respect to `x` and `weight`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: NormScale,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::rms_norm_backward::<Self>(x, weight, grad, scale)
    }

    /// See [`crate::ops::norm_scales`].
    fn norm_scales(x: FloatTensor<Self>, centered: bool, eps: f64) -> FloatTensor<Self> {
        plain::norm_scales::<Self>(x, centered, eps)
    }

    /// Gradient of [`Self::norm_scales`] with respect to `x`; `grad` is `[rows]`.
    fn norm_scales_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        centered: bool,
        eps: f64,
    ) -> FloatTensor<Self> {
        plain::norm_scales_backward::<Self>(x, grad, centered, eps)
    }

    /// See [`crate::ops::linear`]; `x` is `[rows, in]`.
    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        plain::linear::<Self>(x, weight, bias)
    }

    /// See [`crate::ops::matmul_rounded`].
    fn matmul_rounded(a: FloatTensor<Self>, b: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self> {
        plain::matmul_rounded::<Self>(a, b, to)
    }

    /// Sum over rows of a `[rows, width]` tensor, as `[width]`: the gradient of a bias.
    fn sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::sum_rows::<Self>(x)
    }

    /// See [`crate::ops::swap_units`].
    fn swap_units(x: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::swap_units::<Self>(x)
    }

    /// See [`crate::ops::causal_softmax`]; the last two dimensions are query and key.
    fn causal_softmax(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::causal_softmax::<Self>(scores)
    }

    /// Gradient of [`Self::causal_softmax`], from its result.
    fn causal_softmax_backward(pattern: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::causal_softmax_backward::<Self>(pattern, grad)
    }

    /// See [`crate::ops::attention`].
    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        plain::attention::<Self>(q, k, v, scale)
    }

    /// Gradients of [`Self::causal_attention`] with respect to `q`, `k` and `v`.
    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain::attention_backward::<Self>(q, k, v, grad, scale)
    }

    /// See [`crate::ops::attention_qkv`].
    fn attention_qkv(qkv: FloatTensor<Self>, lengths: &[usize], heads: usize, scale: f32) -> FloatTensor<Self> {
        plain::attention_qkv::<Self>(qkv, lengths, heads, scale)
    }

    /// Gradient of [`Self::attention_qkv`].
    fn attention_qkv_backward(
        qkv: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        lengths: &[usize],
        heads: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        plain::attention_qkv_backward::<Self>(qkv, grad, lengths, heads, scale)
    }

    /// See [`crate::ops::token_nll`].
    fn token_nll(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        plain::token_nll::<Self>(logits, targets)
    }

    /// Gradient of [`Self::token_nll`] with respect to the logits; `grad` is `[rows]`.
    fn token_nll_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::token_nll_backward::<Self>(logits, targets, grad)
    }

    /// See [`crate::ops::unembed_loss`]. The gradients of the scalar are computed in the same pass, when asked for: the
    /// logits are then never kept.
    fn unembed_loss(
        hidden: FloatTensor<Self>,
        unembed: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        gradients: bool,
    ) -> (FloatTensor<Self>, Option<UnembedGradients<Self>>) {
        plain::unembed_loss::<Self>(hidden, unembed, targets, weights, gradients)
    }

    /// See [`crate::ops::embedding`]; `ids` has two dimensions.
    fn embed(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        Self::embedding(table, ids)
    }

    /// Gradient of [`Self::embed`] with respect to its table of `rows` rows: row i is the sum of those rows of
    /// `grad`, in order, whose id is i.
    fn embed_grad(rows: usize, ids: IntTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::embed_grad::<Self>(rows, ids, grad)
    }
}

#[cfg(feature = "cuda")]
impl Compute for burn::backend::Cuda {
    /// bf16 and f16 inputs on the tensor cores, with f32 sums and an f32 result: burn's own product would round the result
    /// to the type of its inputs. Where cubecl has no such kernel, the rounded numbers are multiplied as f32, which is the
    /// same product, only slower: TF32 holds every bf16 and every f16.
    fn matmul_rounded(a: FloatTensor<Self>, b: FloatTensor<Self>, to: FloatDType) -> FloatTensor<Self> {
        use burn::tensor::ops::FloatTensorOps;
        use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

        if to == FloatDType::F32 {
            return Self::float_matmul(a, b);
        }
        let (left, right) = (Self::float_cast(a.clone(), to), Self::float_cast(b.clone(), to));
        let product = matmul(left, right, None, MatmulStrategy::default(), burn::tensor::DType::F32);
        product.unwrap_or_else(|_| plain::matmul_rounded::<Self>(a, b, to))
    }
}
