//! Evaluation of autoencoders and transcoders on the model they were trained on.
//!
//! Reconstruction is measured at the hook that each writes. The model runs four times: as it is, with all reconstructions in
//! the place of the activations, with zeros there, and with the mean activations there; each time its cross-entropy is taken,
//! and how far its predictions are from those of the model as it is. A first, shorter pass learns the means and what else
//! has to be known beforehand.

mod divergence;
mod pass;
mod report;
mod survey;

use std::collections::BTreeMap;
use std::ops::Range;

use mediant_artifact::Tokens;
use mediant_dict::Sae;
use mediant_dict::evaluate::{ByBatch, Density, Quantised, Sums as Reconstruction, Variant, Zf, ZfPoint};
use mediant_lm::{HookPoint, Model, batches};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, bootstrap};

/// Groups of neighbouring sequences that the bootstrap draws from, at most.
const GROUPS: usize = 200;

/// What happens at positions whose mask is not set: BOS, separators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokens {
    /// They keep their activations when the autoencoder is spliced in, and no reconstruction is measured there (SAELens'
    /// `ignore_tokens`, SAEBench).
    #[default]
    Original,
    /// They are treated like all others.
    Replaced,
}

impl SpecialTokens {
    fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Replaced => "replaced",
        }
    }
}

/// A dictionary and where it is spliced in.
#[derive(Clone, Debug)]
pub struct Spliced {
    /// What tells it from the others, where there are several.
    pub name: Option<String>,
    /// The autoencoder or transcoder.
    pub sae: Sae,
    /// The hook point that it reads.
    pub hook: HookPoint,
    /// The hook point that it writes, which a pass reaches after the other if it is another.
    pub out: HookPoint,
    /// k and batch, if active latents are to be chosen over batches of positions instead of as the autoencoder does it.
    pub batch: Option<(f64, usize)>,
}

/// How it is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What happens at special tokens.
    pub special_tokens: SpecialTokens,
    /// Further definitions of explained variance.
    pub variants: Vec<Variant>,
    /// Bins of an activation for the description length.
    pub mdl_bins: usize,
    /// Positions of which norms are kept, evenly spaced over all that are measured.
    pub zf_rows: usize,
}

/// Sums over some sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// At the hook that each dictionary writes.
    pub reconstruction: Vec<Reconstruction>,
    /// Predicted tokens.
    pub predicted: u64,
    /// Σ of their losses in nats, by [`Run`].
    pub loss: [f64; 4],
    /// Σ KL(as it is ‖ changed) of the predictions in nats, by [`Run`].
    pub kl: [f64; 4],
}

/// What is in the place of the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Nothing else.
    Clean,
    /// Reconstructions.
    Sae,
    /// Zeros, at every position.
    Zero,
    /// The mean activation, where the autoencoders are spliced in.
    Mean,
}

impl bootstrap::Sums for Sums {
    fn merge(&mut self, other: &Self) {
        self.reconstruction.resize_with(self.reconstruction.len().max(other.reconstruction.len()), Default::default);
        self.reconstruction.iter_mut().zip(&other.reconstruction).for_each(|(sums, other)| sums.merge(other));
        self.predicted += other.predicted;
        self.loss.iter_mut().zip(other.loss).for_each(|(sum, loss)| *sum += loss);
        self.kl.iter_mut().zip(other.kl).for_each(|(sum, kl)| *sum += kl);
    }
}

impl Sums {
    /// Mean cross-entropy.
    pub fn ce(&self, run: Run) -> f64 {
        self.loss[run as usize] / self.predicted as f64
    }

    /// Mean divergence from the model as it is.
    pub fn kl(&self, run: Run) -> f64 {
        self.kl[run as usize] / self.predicted as f64
    }
}

/// The norms at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZfRow {
    /// The sequence.
    pub example: u32,
    /// The position in it.
    pub position: u32,
    /// The norms.
    pub point: ZfPoint,
}

/// What an evaluation measured.
#[derive(Clone, Debug)]
pub struct SaeEvaluation {
    groups: Vec<Sums>,
    parts: Vec<Part>,
    options: Options,
    /// Positions measured at the hooks.
    measured: usize,
}

/// What belongs to one dictionary.
#[derive(Clone, Debug)]
struct Part {
    name: Option<String>,
    hook: HookPoint,
    out: HookPoint,
    sae: Sae,
    by_batch: Option<ByBatch>,
    /// Of what is reconstructed.
    mean: Vec<f64>,
    density: Density,
    quantised: Quantised,
    norms: Zf,
    eps_lbo: Vec<f32>,
    zf: Vec<ZfRow>,
}

impl Part {
    fn transcodes(&self) -> bool {
        self.hook != self.out
    }

    fn width_in(&self) -> usize {
        self.sae.weights().d_in
    }

    fn width_out(&self) -> usize {
        self.sae.weights().d_out
    }

    /// Codes of activations, which are those of the measured positions with these numbers.
    fn encode(&self, x: &[f32], numbers: &[usize]) -> Codes {
        match &self.by_batch {
            Some(by_batch) => by_batch.encode(x, numbers),
            None => self.sae.encode(x),
        }
    }

    /// What is to be made, as the latents see it.
    fn normalised(&self, y: Vec<f32>) -> Vec<f32> {
        if self.sae.input_norm().is_none() { y } else { self.sae.normalised(&y) }
    }

    /// What is made of activations with these codes.
    fn output(&self, x: &[f32], codes: &Codes) -> Vec<f32> {
        let mut out = self.sae.decode(codes, x);
        self.sae.add_skipped(1.0, x, &mut out);
        out
    }
}

/// Evaluates dictionaries, all spliced in at once, on token sequences, batch by batch. `progress` hears how many tokens of how
/// many are done. Besides sums, what stays is four bytes a position and dictionary, for quantiles.
///
/// A predicted token counts for cross-entropies and divergences when its mask is set, as in the evaluation of the model alone.
///
/// # Errors
/// When a dictionary does not fit its hooks, two write one hook, one writes before it reads, nothing can be measured, or the
/// model refuses the tokens; whatever `progress` gives.
pub fn sae_eval<C: Compute, E: From<Error>>(
    model: &Model<C>,
    spliced: Vec<Spliced>,
    tokens: &Tokens,
    options: &Options,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<SaeEvaluation, E> {
    check(model, &spliced)?;
    let measured = places(tokens, options.special_tokens, 0..tokens.len()).count();
    let predicted = (0..tokens.len()).any(|i| tokens.mask_of(i).iter().skip(1).any(|mask| *mask));
    if measured == 0 || !predicted {
        let why = "the tokens hold nothing to measure: no position whose mask is set, or none predicted";
        return Err(Error::Data(why.to_owned()).into());
    }
    let total = tokens.meta.tokens;
    let parts = survey::survey(model, spliced, tokens, options, |done| progress(done, 2 * total))?;
    let groups = GROUPS.min(tokens.len());
    let mut found = SaeEvaluation { groups: vec![Sums::default(); groups], parts, options: options.clone(), measured };
    let mut number = 0;
    for range in batches(tokens, model.config(), numbers_kept(model, &found.parts)) {
        let sums = found.batch(model, tokens, range.clone(), &mut number)?;
        for (sequence, sums) in range.clone().zip(sums) {
            bootstrap::Sums::merge(&mut found.groups[sequence * groups / tokens.len()], &sums);
        }
        progress(total + tokens.offsets[range.end] as u64, 2 * total)?;
    }
    Ok(found)
}

/// Numbers a token that a pass leaves in memory.
fn numbers_kept<C: Compute>(model: &Model<C>, parts: &[Part]) -> usize {
    4 * model.config().d_model + parts.iter().map(|part| 4 * part.width_in().max(part.width_out())).sum::<usize>()
}

fn check<C: Compute>(model: &Model<C>, spliced: &[Spliced]) -> Result<()> {
    if spliced.is_empty() {
        return Err(Error::Data("there is no autoencoder to evaluate".to_owned()));
    }
    for (index, Spliced { sae, hook, out, .. }) in spliced.iter().enumerate() {
        for (verb, point, width) in [("reads", hook, sae.weights().d_in), ("writes", out, sae.weights().d_out)] {
            let shape = point.shape(model.config(), 1);
            if point.per_key() || shape.iter().product::<usize>() != width {
                return Err(Error::Data(format!(
                    "the dictionary {verb} vectors of {width} numbers, `{point}` has shape {shape:?}"
                )));
            }
        }
        if out < hook {
            return Err(Error::Data(format!("it reads `{hook}`, which a pass reaches after `{out}`, which it writes")));
        }
        if spliced[..index].iter().any(|other| other.out == *out) {
            return Err(Error::Data(format!("two dictionaries write `{out}`; only one can be spliced in there")));
        }
    }
    Ok(())
}

/// The positions of some sequences that are measured at the hooks: sequence and position in it.
fn places(
    tokens: &Tokens,
    special_tokens: SpecialTokens,
    sequences: Range<usize>,
) -> impl Iterator<Item = (usize, usize)> + '_ {
    sequences.flat_map(move |sequence| {
        let mask = tokens.mask_of(sequence).iter().enumerate();
        mask.filter(move |(_, mask)| **mask || special_tokens == SpecialTokens::Replaced)
            .map(move |(position, _)| (sequence, position))
    })
}

/// Activations, one row a position, as a pass hands them over.
#[derive(Default)]
struct Read(BTreeMap<HookPoint, Vec<f32>>);

impl Read {
    fn take<C: Compute>(&mut self, point: HookPoint, x: Tensor<C, 3>) {
        // `Compute` fixes the float element to f32, so the conversion cannot fail.
        self.0.insert(point, x.into_data().into_vec::<f32>().unwrap_or_default());
    }

    /// Those at a hook point, at some positions.
    fn at(&self, point: HookPoint, width: usize, rows: &[usize]) -> Result<Vec<f32>> {
        let x = self.0.get(&point).ok_or_else(|| Error::Data(format!("the pass did not reach `{point}`")))?;
        Ok(gathered(x, width, rows))
    }
}

/// The hook points of parts.
fn hooks(parts: &[Part]) -> impl Iterator<Item = HookPoint> {
    parts.iter().flat_map(|part| [part.hook, part.out])
}

/// Some rows of a `[rows, width]` matrix.
fn gathered(x: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    rows.iter().for_each(|row| out.extend_from_slice(&x[row * width..][..width]));
    out
}

impl SaeEvaluation {
    /// The sums over everything.
    pub fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.groups.iter().for_each(|group| bootstrap::Sums::merge(&mut total, group));
        total
    }
}
