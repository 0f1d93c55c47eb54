//! Sets of a dictionary's latents: kept ones are those of the clean run, all others those of the counterfactual run.

use mediant_lm::{Model, Place, State};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor, TensorData};

use super::ItemSet;
use super::family::{Family, Parts, Spliced};
use crate::predictions::numbers;
use crate::sweep::{Activations, share, up_to};
use crate::{Error, Pair, Result};

/// What a dictionary makes of both runs.
pub(super) struct LatentRuns<C: Compute> {
    pub(super) before: State<C>,
    clean: Decoded,
    counterfactual: Decoded,
    shape: [usize; 3],
}

/// An activation as a dictionary takes it apart: latents, and what is left.
pub(super) struct Decoded {
    /// `[rows, d_in]`, what it was encoded from.
    pub(super) x: Vec<f32>,
    pub(super) codes: Codes,
    /// `[rows, d_out]`, what no latent writes: the biases, what skips the latents, and the error.
    pub(super) rest: Vec<f32>,
    /// `[rows, d_out]`, what all latents write together.
    written: Vec<f32>,
}

impl Decoded {
    /// Of activations `[rows, units, width]` where the dictionary reads and where it writes.
    pub(super) fn new<C: Compute>(spliced: &Spliced, read: &Tensor<C, 3>, target: &Tensor<C, 3>) -> Result<Self> {
        let (x, target) = (flat(read)?, flat(target)?);
        let weights = spliced.sae.weights();
        if read.dims()[1] * read.dims()[2] != weights.d_in {
            let (own, width) = (weights.d_in, read.dims()[1] * read.dims()[2]);
            return Err(Error::Data(format!(
                "the autoencoder reads vectors of {own}, `{}` has {width}",
                spliced.reads
            )));
        }
        let codes = spliced.sae.encode(&x);
        let mut decoded = Self { codes, rest: Vec::new(), written: Vec::new(), x };
        decoded.written = decoded.write(spliced, |_| true);
        if target.len() != decoded.written.len() {
            let why = format!("the autoencoder writes other vectors than `{}` has", spliced.writes);
            return Err(Error::Data(why));
        }
        decoded.rest = target.iter().zip(&decoded.written).map(|(x, written)| x - written).collect();
        Ok(decoded)
    }

    /// What the latents that `chosen` names write, `[rows, d_out]`.
    fn write(&self, spliced: &Spliced, chosen: impl Fn(u32) -> bool) -> Vec<f32> {
        let (mut codes, mut nothing) = (Codes::default(), Codes::default());
        for row in 0..self.codes.rows() {
            let (latents, values) = self.codes.row(row);
            let entries = latents.iter().copied().zip(values.iter().copied());
            codes.push_row(entries.filter(|(latent, _)| chosen(*latent)));
            nothing.push_row(std::iter::empty());
        }
        let base = spliced.sae.decode(&nothing, &self.x);
        let mut written = spliced.sae.decode(&codes, &self.x);
        written.iter_mut().zip(base).for_each(|(written, base)| *written -= base);
        written
    }
}

impl<C: Compute> LatentRuns<C> {
    pub(super) fn new(
        model: &Model<C>,
        spliced: &Spliced,
        pair: &Pair<C>,
        clean: Activations<C>,
        counterfactual: &Activations<C>,
    ) -> Result<Self> {
        let at = |run: &Activations<C>, point| {
            run.get(&point).cloned().ok_or_else(|| Error::Data(format!("no pass came to `{point}`")))
        };
        let decoded = |run: &Activations<C>| Decoded::new(spliced, &at(run, spliced.reads)?, &at(run, spliced.writes)?);
        Ok(Self {
            before: up_to(model, &pair.clean, spliced.writes)?,
            shape: at(&clean, spliced.writes)?.dims(),
            clean: decoded(&clean)?,
            counterfactual: decoded(counterfactual)?,
        })
    }

    /// The activation where the dictionary writes: kept latents of the clean run, the others of the counterfactual run, and the rest
    /// of the run that the error's item says. A latent that is no item is not kept.
    pub(super) fn mixed(
        &self,
        spliced: &Spliced,
        latents: &[Option<u32>],
        kept: &ItemSet,
        device: &C::Device,
    ) -> Tensor<C, 3> {
        let mut marks = vec![false; spliced.sae.weights().d_sae];
        let mut error = false;
        for item in kept.items() {
            match latents[item] {
                Some(latent) => marks[latent as usize] = true,
                None => error = true,
            }
        }
        let clean = self.clean.write(spliced, |latent| marks[latent as usize]);
        let other = self.counterfactual.write(spliced, |latent| !marks[latent as usize]);
        let rest = if error { &self.clean.rest } else { &self.counterfactual.rest };
        let mixed: Vec<f32> =
            rest.iter().zip(clean).zip(other).map(|((rest, clean), other)| rest + (clean + other)).collect();
        Tensor::from_data(TensorData::new(mixed, self.shape), device)
    }
}

/// Activations `[rows, units, width]` on the host.
pub(super) fn flat<C: Compute>(x: &Tensor<C, 3>) -> Result<Vec<f32>> {
    let [rows, units, width] = x.dims();
    numbers(x.clone().reshape([rows, units * width]))
}

/// The share of a model that a set of a family costs: for latents, what lies above them.
pub(super) fn share_above<C: Compute>(family: &Family, model: &Model<C>) -> f64 {
    let layers = model.config().n_layers;
    match &family.parts {
        Parts::Latents(spliced, _) => share(Place::before(spliced.writes, layers), layers),
        Parts::Nodes(_) | Parts::Edges(..) => 1.0,
    }
}
