//! Kernels of the processor backend over plain slices: rayon over fixed blocks of rows, loops that vectorise.
//!
//! Blocks have sizes that depend on shapes alone and partial sums are added in the order of the blocks, so no result
//! depends on the number of threads. Loops multiply and add without fusing, so they also give one result for every
//! processor; only the matrix products differ between instruction sets, in the last bits.

mod attention;
mod build;
mod elementwise;
mod loss;
mod math;
mod norm;
mod product;
mod softmax;
pub mod sparse;
mod table;
mod tile;
pub mod topk;

pub(crate) use attention::{GradientsMut, Heads, attention, attention_backward};
pub use build::{build, simd};
pub(crate) use elementwise::{gelu_erf, gelu_erf_backward, gelu_new, gelu_new_backward, silu_mul, silu_mul_backward};
pub(crate) use loss::{token_nll, token_nll_backward, unembed_loss};
pub use math::exp;
pub(crate) use norm::{
    layer_norm, layer_norm_backward, norm_scales, norm_scales_backward, rms_norm, rms_norm_backward, sum_rows,
};
pub(crate) use product::linear;
pub use product::{Matrix, MatrixMut, least_rows, matmul_into, matmul_over};
pub(crate) use softmax::{causal_softmax, causal_softmax_backward};
pub(crate) use table::embedding_grad;
