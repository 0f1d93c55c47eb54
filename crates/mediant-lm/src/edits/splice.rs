use mediant_tensor::{Compute, Tensor};

use super::Edit;
use crate::{Batch, HookPoint, Positions, Result, Select};

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
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let [rows, units, width] = activation.dims();
        let spliced = (self.function)(activation.clone().reshape([rows, units * width]))?;
        let spliced = spliced.reshape([rows, units, width]);
        Select::at(self.positions.clone()).replace(point, activation, spliced, batch)
    }
}
