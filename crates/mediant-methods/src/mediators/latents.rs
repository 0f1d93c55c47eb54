//! Sets of a dictionary's latents: kept ones are those of the clean run, all others those of the counterfactual run.

use mediant_lm::{Model, Place};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor};

use super::ItemSet;
use super::family::{Family, Parts, Spliced};
use crate::predictions::numbers;
use crate::sweep::{Activations, share};
use crate::{Error, Result};

/// What a dictionary makes of both runs.
pub(super) struct LatentRuns {
    pub(super) clean: Decoded,
    pub(super) counterfactual: Decoded,
}

/// Some of a dictionary's latents, and perhaps its error.
pub(super) struct LatentSet {
    /// Whether each is in.
    latents: Vec<bool>,
    error: bool,
}

/// An activation as a dictionary takes it apart: latents, and what is left.
pub(super) struct Decoded {
    /// Of the activation where the dictionary writes, `[rows, units, width]`.
    pub(super) shape: [usize; 3],
    /// `[rows, d_in]`, what it was encoded from.
    pub(super) x: Vec<f32>,
    pub(super) codes: Codes,
    /// `[rows, d_out]`, what no latent writes: the biases, what skips the latents, and the error.
    pub(super) rest: Vec<f32>,
}

impl Decoded {
    /// Of what a run had where the dictionary reads and where it writes.
    pub(super) fn of_run<C: Compute>(spliced: &Spliced, run: &Activations<C>) -> Result<Self> {
        let at = |point| run.get(&point).ok_or_else(|| Error::Data(format!("no pass came to `{point}`")));
        Self::new(spliced, at(spliced.reads)?, at(spliced.writes)?)
    }

    /// Of activations `[rows, units, width]` where the dictionary reads and where it writes.
    pub(super) fn new<C: Compute>(spliced: &Spliced, read: &Tensor<C, 3>, target: &Tensor<C, 3>) -> Result<Self> {
        let (x, targets) = (flat(read)?, flat(target)?);
        let weights = spliced.sae.weights();
        if read.dims()[1] * read.dims()[2] != weights.d_in {
            let (own, width) = (weights.d_in, read.dims()[1] * read.dims()[2]);
            return Err(Error::Data(format!(
                "the autoencoder reads vectors of {own}, `{}` has {width}",
                spliced.reads
            )));
        }
        let codes = spliced.sae.encode(&x);
        let mut decoded = Self { shape: target.dims(), codes, rest: Vec::new(), x };
        let written = decoded.write(spliced, |_| true);
        if targets.len() != written.len() {
            let why = format!("the autoencoder writes other vectors than `{}` has", spliced.writes);
            return Err(Error::Data(why));
        }
        decoded.rest = targets.iter().zip(written).map(|(x, written)| x - written).collect();
        Ok(decoded)
    }

    /// What the latents of a set write, with the rest if the error is among them, `[rows, d_out]`.
    pub(super) fn part(&self, spliced: &Spliced, set: &LatentSet) -> Vec<f32> {
        let mut part = self.write(spliced, |latent| set.latents[latent as usize]);
        if set.error {
            part.iter_mut().zip(&self.rest).for_each(|(part, rest)| *part += rest);
        }
        part
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

impl LatentSet {
    /// Of a family whose items are these latents; none is the error.
    pub(super) fn new(spliced: &Spliced, latents: &[Option<u32>], set: &ItemSet) -> Self {
        let mut own = Self { latents: vec![false; spliced.sae.weights().d_sae], error: false };
        for item in set.items() {
            match latents[item] {
                Some(latent) => own.latents[latent as usize] = true,
                None => own.error = true,
            }
        }
        own
    }

    fn complement(&self) -> Self {
        Self { latents: self.latents.iter().map(|has| !has).collect(), error: !self.error }
    }
}

impl LatentRuns {
    /// The activation where the dictionary writes, `[rows, d_out]`: kept latents of the clean run, the others of the counterfactual run,
    /// and the rest of the run that the error's item says. A latent that is no item is not kept.
    pub(super) fn mixed(&self, spliced: &Spliced, kept: &LatentSet) -> Vec<f32> {
        let other = self.counterfactual.part(spliced, &kept.complement());
        let mut mixed = self.clean.part(spliced, kept);
        mixed.iter_mut().zip(other).for_each(|(mixed, other)| *mixed += other);
        mixed
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
        Parts::Latents(spliced, _) => share(Place::before(spliced.first(), layers), layers),
        Parts::Nodes(_) | Parts::Edges(..) => 1.0,
    }
}
