//! Training on the CPU: losses and gradients by hand, sparse where the codes are.
//!
//! With x' = x − b_dec, z = x' W_enc + b_enc, f the codes and x̂ = f W_dec + b_dec, all families share
//! ∂L/∂x̂ = 2/B (x̂ − x) and, for the active latents alone, ∂L/∂f = ∂L/∂x̂ · W_decᵀ (plus what sparsity costs). The
//! gradients of W_dec and W_enc are sums of ∂L/∂x̂ and x' over the rows in which a latent is active; that of b_dec is
//! Σ ∂L/∂x̂ − W_enc Σ ∂L/∂z. One product is dense: x' W_enc.
//!
//! Where more than one in [`DENSE_ABOVE`] codes is active, dense products are faster and take over.

mod aux;
mod batch_topk;
mod constraint;
mod gated;
mod jump_relu;
mod learner;
mod matching_pursuit;
mod pass;
mod relu;
mod sums;
mod term;
mod top_afa;
mod topk;

pub use learner::CpuLearner;
pub use pass::{Buffers, Pass, pass};

/// Dense products run some twenty times as many multiplications a second as the sparse kernels, whose vectors come from
/// beyond the second-level cache; measured with `examples/step_time.rs`.
const DENSE_ABOVE: usize = 20;

/// Whether codes with so many active entries are better multiplied densely.
fn dense_pays(active: usize, rows: usize, latents: usize) -> bool {
    active.saturating_mul(DENSE_ABOVE) > rows.saturating_mul(latents)
}
