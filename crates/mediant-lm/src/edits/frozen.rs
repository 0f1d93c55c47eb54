use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mediant_tensor::{Compute, Tensor};

use super::Edit;
use crate::{Batch, HookPoint, Hooks, Model, Positions, Result, Select};

/// Keeps scales of norms as they are in a pass without edits over the same tokens, so that norms stay linear around that pass.
pub struct Frozen<'m, C: Compute> {
    model: &'m Model<C>,
    /// In the order of a pass.
    points: Vec<HookPoint>,
    positions: Positions,
    /// The scales of the pass without edits, taken as a pass under edits comes to them.
    scales: Mutex<BTreeMap<HookPoint, Tensor<C, 3>>>,
}

impl<'m, C: Compute> Frozen<'m, C> {
    /// At these points, each to be edited by this one value, for whole sequences.
    pub fn new(model: &'m Model<C>, mut points: Vec<HookPoint>, positions: Positions) -> Self {
        points.sort_unstable();
        Self { model, points, positions, scales: Mutex::default() }
    }
}

impl<C: Compute> Edit<C> for Frozen<'_, C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let mut scales = self.scales.lock().unwrap_or_else(PoisonError::into_inner);
        // A pass comes to the first point first, so what another pass left behind is never taken for this one's.
        if self.points.first() == Some(&point) {
            scales.clear();
            let mut take = |point, scale| {
                scales.insert(point, scale);
                Ok(())
            };
            self.model.read(batch, Hooks::none().read(self.points.iter().copied(), &mut take))?;
        }
        let scale = scales.remove(&point);
        let scale = scale.ok_or_else(|| crate::Error::Hook(format!("no pass without edits came to `{point}`")))?;
        Select::at(self.positions.clone()).replace(point, activation, scale, batch)
    }
}
