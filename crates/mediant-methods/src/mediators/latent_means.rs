//! Mean ablation of some of a dictionary's latents.

use std::sync::{Mutex, PoisonError};

use mediant_lm::{Batch, Edit, HookPoint, Hooks};
use mediant_tensor::{Compute, Tensor, TensorData};

use super::family::Spliced;
use super::latents::{Decoded, LatentSet};

/// Puts the mean of what a set of latents writes in the place of what they write: x − Σ f_k d_k + mean. Of transcoders, what they read is kept
/// until the pass comes to where they write.
pub(super) struct LatentMeans<'a, C: Compute> {
    spliced: &'a Spliced,
    set: &'a LatentSet,
    /// `[1, units, width]`
    mean: Tensor<C, 3>,
    read: Mutex<Option<Tensor<C, 3>>>,
}

impl<'a, C: Compute> LatentMeans<'a, C> {
    /// `mean` is that of [`Decoded::part`], `[1, units, width]`.
    pub(super) fn new(spliced: &'a Spliced, set: &'a LatentSet, mean: Tensor<C, 3>) -> Self {
        Self { spliced, set, mean, read: Mutex::new(None) }
    }

    /// The edits of a pass.
    pub(super) fn hooks(&self) -> Hooks<'_, C> {
        let hooks = Hooks::none().edit(self.spliced.writes, self);
        if self.spliced.reads == self.spliced.writes { hooks } else { hooks.edit(self.spliced.reads, self) }
    }
}

impl<C: Compute> Edit<C> for LatentMeans<'_, C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if point == self.spliced.reads {
            *read = Some(activation.clone());
        }
        if point != self.spliced.writes {
            return Ok(activation);
        }
        let hook = |why: String| mediant_lm::Error::Hook(why);
        let read = read.take().ok_or_else(|| hook(format!("no pass came to `{}`", self.spliced.reads)))?;
        let decoded = Decoded::new(self.spliced, &read, &activation).map_err(|error| hook(error.to_string()))?;
        let part = TensorData::new(decoded.part(self.spliced, self.set), decoded.shape);
        Ok(activation.clone() - Tensor::from_data(part, &activation.device()) + self.mean.clone())
    }
}
