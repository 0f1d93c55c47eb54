//! A dictionary in a model's forward pass.

use mediant_dict::Sae;
use mediant_lm::{Batch, Edit, HookPoint, Positions, Select};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor, TensorData};

/// Puts the reconstruction of an autoencoder, with some latents set to zero, in the place of the activations.
pub struct SaeSplice {
    /// The autoencoder.
    pub sae: Sae,
    /// Whether what it does not reconstruct stays: x + x̂(zeroed) − x̂ in the place of x̂(zeroed).
    pub keep_error: bool,
    /// Latents that are set to zero.
    pub zeroed: Vec<usize>,
    /// Where.
    pub positions: Positions,
}

impl SaeSplice {
    /// The codes without the latents that are set to zero.
    fn without(&self, codes: &Codes) -> Codes {
        let mut left = Codes::default();
        for row in 0..codes.rows() {
            let (latents, values) = codes.row(row);
            let entries = latents.iter().copied().zip(values.iter().copied());
            left.push_row(entries.filter(|(latent, _)| !self.zeroed.contains(&(*latent as usize))));
        }
        left
    }
}

impl<C: Compute> Edit<C> for SaeSplice {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        let [rows, units, width] = activation.dims();
        let d_in = self.sae.weights().d_in;
        if units * width != d_in {
            let why = format!("the autoencoder reads vectors of {d_in}, `{point}` has {}", units * width);
            return Err(mediant_lm::Error::Hook(why));
        }
        let x = activation.clone().into_data().into_vec::<f32>();
        let x = x.map_err(|error| mediant_lm::Error::Hook(format!("`{point}` cannot be read: {error:?}")))?;
        let codes = self.sae.encode(&x);
        let mut spliced = self.sae.decode(&self.without(&codes), &x);
        if self.keep_error {
            let whole = self.sae.decode(&codes, &x);
            for ((spliced, whole), x) in spliced.iter_mut().zip(whole).zip(x) {
                *spliced = x + (*spliced - whole);
            }
        }
        let spliced = Tensor::from_data(TensorData::new(spliced, [rows, units, width]), &activation.device());
        Select::at(self.positions.clone()).replace(point, activation, spliced, batch)
    }
}
