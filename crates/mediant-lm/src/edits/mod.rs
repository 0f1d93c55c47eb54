//! Changes of activations during a forward pass, as values that can be put together.

mod direction;
mod frozen;
mod knock_out;
mod noise;
mod replace;
mod splice;
mod stored;

pub use direction::{Add, ProjectOut};
pub use frozen::Frozen;
pub use knock_out::KnockOut;
pub use noise::Noise;
pub use replace::{Replace, Values};
pub use splice::Splice;
pub use stored::{PositionMeans, Resample, stored_mean};

use mediant_tensor::{Compute, Tensor};

use crate::{Batch, HookPoint, Result};

/// A change of the activation at a hook point.
///
/// The activation is `[rows, units, width]`: its rows are those of the batch in (sequence, position) order; `units` are the
/// heads where there are heads, else 1. Attention scores and patterns are `[query rows, heads, keys]` with as many keys
/// as [`Batch::keys`]; beyond a sequence's own keys scores hold −∞ and patterns 0. The result must have the same shape.
pub trait Edit<C: Compute>: Send + Sync {
    /// The changed activation.
    ///
    /// # Errors
    /// Whatever makes the change impossible; the pass ends with it.
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>>;

    /// Whether the changed activation is the same whatever stands there, so that what stands there need not be computed: it is then
    /// given as zeros.
    fn overwrites(&self) -> bool {
        false
    }
}
