//! Training on any backend of burn: what CUDA runs.
//!
//! The formulas are those of the CPU's learner ([`super::cpu`]), and the tests compare the two; what differs is the work.
//!
//! - Gradients are written out, not differentiated by burn: no graph, so that no `[batch, d_sae]` matrix outlives its use.
//! - All products are dense, with zeros where a latent is not active. What a sparse product needs first, the indices of the
//!   chosen latents, burn has not: its top-k with indices sorts on the host. And an H100 makes on paper some 300 dense
//!   multiplications (TF32) while it reads one f32 of a gathered row: sparse kernels would pay where fewer than one latent in
//!   300 is active, and have to be our own. Dense products also add up rows where a sparse gradient would scatter.
//! - The loss is scaled by batch / 2 until the optimiser: ∂L/∂x̂ is then the error itself. All numbers that are multiplied
//!   have the size of activations and weights, so that f16 neither loses small gradients nor needs a scale that is searched for.
//! - Everything that is added up is added in an order that depends on shapes alone, so that the same steps on the same kind
//!   of device give the same bytes. Safe in that sense are products, `sum_dim` and all that works element by element, `select`
//!   among them; not safe is `sum` over a whole tensor, which adds blocks by atomics on CUDA. `scatter` and `select_assign` use
//!   none, but one thread walks along all that is scattered. See [`fold`].
//! - One transfer a step brings losses, norms and what fired to the host; only the choice of the largest asks more often.
//!
//! A family is one function from a [`frame::Frame`] to a [`frame::Found`].

mod aux;
mod choose;
mod constraint;
mod fold;
mod frame;
mod gated;
mod jump_relu;
mod largest;
mod learner;
mod relu;

pub use learner::{DeviceLearner, not_on_devices};
