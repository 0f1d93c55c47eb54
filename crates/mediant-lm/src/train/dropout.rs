//! Dropout as an edit of the forward pass.

use mediant_tensor::random::{stream, unit_f32};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::{Batch, Edit, HookPoint, LmConfig, Result, Site};

/// Zeroes each number with probability `p` and divides the others by `1 − p` (Srivastava et al. 2014).
pub(super) struct Dropout {
    pub(super) p: f32,
    pub(super) seed: u64,
    pub(super) step: u64,
    /// The forward pass within the step.
    pub(super) pass: usize,
}

impl Dropout {
    /// Where GPT-2 drops: the sum of the embeddings (`embd_pdrop`) and what attention and MLP add to the residual stream
    /// (`resid_pdrop`). Attention patterns are left alone (`attn_pdrop` is 0).
    pub(super) fn points(config: &LmConfig) -> Vec<HookPoint> {
        let blocks = (0..config.n_layers)
            .flat_map(|layer| [Site::AttnOut, Site::MlpOut].map(|site| HookPoint::Block(layer, site)));
        [HookPoint::Block(0, Site::ResidPre)].into_iter().chain(blocks).collect()
    }
}

impl<C: Compute> Edit<C> for Dropout {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, _: &Batch<C>) -> Result<Tensor<C, 3>> {
        let purpose = format!("dropout/{}/{}/{point}", self.step, self.pass);
        let mut draws = stream(self.seed, &purpose);
        let shape = activation.dims();
        let kept = 1.0 / (1.0 - self.p);
        let mask: Vec<f32> =
            (0..shape.iter().product()).map(|_| if unit_f32(&mut draws) < self.p { 0.0 } else { kept }).collect();
        let mask = Tensor::from_data(TensorData::new(mask, shape), &activation.device());
        Ok(activation * mask)
    }
}
