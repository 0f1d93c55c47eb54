use mediant_tensor::random::{fill_normal, stream};
use mediant_tensor::{Compute, Tensor, TensorData};

use super::Edit;
use crate::{Batch, HookPoint, Result, Select};

/// Adds Gaussian noise to every selected row: the corruption of causal tracing (Meng et al. 2022, arXiv:2202.05262). The noise
/// of a sequence comes from the stream `noise/<hook>/<example>/<sample>` of the seed, whatever else is in the batch.
#[derive(Clone, Debug)]
pub struct Noise {
    /// Standard deviation.
    pub std: f32,
    /// Of the draws.
    pub seed: u64,
    /// Which of several draws.
    pub sample: u64,
    /// Where.
    pub select: Select,
}

impl<C: Compute> Edit<C> for Noise {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let [rows, units, width] = activation.dims();
        let mut noise = vec![0.0; rows * units * width];
        for (index, s) in batch.sequences().iter().enumerate() {
            let mut draws = stream(self.seed, &format!("noise/{point}/{}/{}", batch.example(index), self.sample));
            // A position gets the same noise whether or not those before it are in a cache.
            let mut own = vec![0.0; (s.past + s.len) * units * width];
            fill_normal(&mut draws, &mut own, 0.0, self.std);
            let numbers = s.start * units * width..(s.start + s.len) * units * width;
            noise[numbers].copy_from_slice(&own[s.past * units * width..]);
        }
        let noise = Tensor::from_data(TensorData::new(noise, [rows, units, width]), &activation.device());
        self.select.replace(point, activation.clone(), activation + noise, batch)
    }
}
