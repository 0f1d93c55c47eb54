use mediant_tensor::{Compute, Tensor};

use super::Edit;
use crate::{Batch, HookPoint, Result, Select};

/// Adds a vector to every selected row: steering (Turner et al. 2023, arXiv:2308.10248).
#[derive(Clone, Debug)]
pub struct Add<C: Compute> {
    /// `[1, units, width]`, times whatever strength is wanted.
    pub vector: Tensor<C, 3>,
    /// Where.
    pub select: Select,
}

impl<C: Compute> Edit<C> for Add<C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let moved = activation.clone() + self.vector.clone();
        self.select.replace(point, activation, moved, batch)
    }
}

/// Takes the part along a direction out of every selected row, `x − (x · d) d` (Arditi et al. 2024, arXiv:2406.11717).
#[derive(Clone, Debug)]
pub struct ProjectOut<C: Compute> {
    /// Of unit length over all units and the width together, `[1, units, width]`.
    pub direction: Tensor<C, 3>,
    /// Where.
    pub select: Select,
}

impl<C: Compute> Edit<C> for ProjectOut<C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let along = (activation.clone() * self.direction.clone()).sum_dim(2).sum_dim(1);
        let without = activation.clone() - along * self.direction.clone();
        self.select.replace(point, activation, without, batch)
    }
}
