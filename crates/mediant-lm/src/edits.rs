//! Changes of activations during a forward pass.

use mediant_tensor::{Compute, Tensor};

use crate::{Batch, HookPoint, Positions, Result};

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
}

/// Zero ablation at the selected positions.
#[derive(Clone, Debug, Default)]
pub struct Zero {
    /// Where.
    pub positions: Positions,
}

impl<C: Compute> Edit<C> for Zero {
    fn apply(&self, _: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let zeros = activation.zeros_like();
        Ok(self.positions.replace(activation, zeros, batch))
    }
}

/// Puts a function of the activation in its place at the selected positions: how a dictionary enters a forward pass.
///
/// The function gets all rows as `[rows, units · width]`, selected or not, and returns as many of the same width; each
/// row of its result must depend on that row alone.
pub struct Splice<F> {
    /// Where.
    pub positions: Positions,
    /// The function.
    pub function: F,
}

impl<C: Compute, F> Edit<C> for Splice<F>
where
    F: Fn(Tensor<C, 2>) -> Result<Tensor<C, 2>> + Send + Sync,
{
    fn apply(&self, _: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let [rows, units, width] = activation.dims();
        let spliced = (self.function)(activation.clone().reshape([rows, units * width]))?;
        Ok(self.positions.replace(activation, spliced.reshape([rows, units, width]), batch))
    }
}
