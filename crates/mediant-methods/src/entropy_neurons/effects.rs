//! What ablating neurons does to predictions, directly and through the scale of the last norm.

use mediant_artifact::Tokens;
use mediant_lm::{Model, batches};
use mediant_tensor::{Compute, Tensor, TensorData};
use rayon::prelude::*;

use super::activity::Rows;
use super::{Activity, Write};
use crate::bootstrap::{Estimate, Totals, estimates, merged, quantile};
use crate::calibration::Certainty;
use crate::groups::ByDocument;
use crate::predictions::{chosen, numbers};
use crate::readout::{hidden_at, scales};
use crate::{Error, Result};

/// Logits of all passes together, in bytes.
const LOGITS_BYTES: usize = 64 << 20;

/// What is measured of a prediction, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Cross-entropy of the token that came.
    Loss,
    /// Entropy of the prediction.
    Entropy,
}

impl Measure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Loss, Self::Entropy];

    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "ce_loss",
            Self::Entropy => "entropy",
        }
    }
}

/// Loss and entropy of a prediction.
type Measured = [f64; 2];

/// Sums by document begin with the number of predictions and the measures without ablation; then come six for each ablation and measure: total,
/// direct, through the scale, and the sizes of the three.
const N: usize = 0;
const BASE: usize = 1;
const OF_ABLATIONS: usize = 3;
const WIDTH: usize = 6;

/// Changes of loss and entropy under each of some ablations.
pub struct Effects {
    ablations: usize,
    documents: ByDocument,
    /// Size of the total change at every prediction, by ablation and measure.
    sizes: Vec<Vec<f32>>,
}

/// A change of a measure under an ablation: in all, directly, through the scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Mean change.
    pub mean: [Estimate; 3],
    /// Mean size of the change.
    pub size: [Estimate; 3],
    /// Mean change in all, in percent of the mean without ablation.
    pub relative: Estimate,
    /// Quartiles of the size of the change in all.
    pub quartiles: [f64; 3],
}

/// Ablates sets of neurons: each neuron's activation becomes its mean, at every row that predicts a token that counts, and what comes after
/// the last MLP is computed again. `added` is written beside what the model writes, ablated or not: a neuron's other vector less its own.
///
/// With r and r' the residual stream before and after, σ what the last norm divides by, and m the measure: the total change is m(r', σ(r')) −
/// m(r, σ(r)), the direct one m(r', σ(r)) − m(r, σ(r)), that through the scale m(r', σ(r')) − m(r', σ(r)).
///
/// # Errors
/// As the passes, and whatever `progress` gives.
pub fn ablate_neurons<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    documents: &[u32],
    activity: &Activity,
    ablations: &[Vec<Write>],
    added: Option<&Write>,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Effects, E> {
    let mut found = Effects {
        ablations: ablations.len(),
        documents: ByDocument::default(),
        sizes: vec![Vec::new(); 2 * ablations.len()],
    };
    let vocabulary = model.config().vocab_size;
    let passes = 1 + 2 * ablations.len();
    let step = (LOGITS_BYTES / (4 * passes * vocabulary)).max(64);
    for range in batches(tokens, model.config(), passes * model.config().d_model) {
        if let Some(mut rows) = Rows::of(model, tokens, range.clone())? {
            if let Some(write) = added {
                rows.resid = rows.resid.clone() + written(&rows.active, 0.0, write);
            }
            let hidden = hidden_of(model, &rows, activity, ablations).map_err(Error::from)?;
            let places: Vec<usize> = (0..rows.predicted.len()).collect();
            for places in places.chunks(step) {
                let logits = hidden.iter().map(|hidden| numbers(model.logits(chosen(hidden, places))));
                let logits = logits.collect::<Result<Vec<_>>>()?;
                let of_row = |(index, place): (usize, &usize)| -> Vec<Measured> {
                    let token = tokens.ids[rows.predicted[*place]] as usize;
                    let of_pass = |logits: &Vec<f32>| {
                        let certainty = Certainty::of(&logits[index * vocabulary..][..vocabulary], token);
                        [certainty.loss, certainty.entropy]
                    };
                    logits.iter().map(of_pass).collect()
                };
                let all: Vec<Vec<Measured>> = places.par_iter().enumerate().map(of_row).collect();
                for (place, passes) in places.iter().zip(all) {
                    found.add(documents[rows.predicted[*place]], &passes);
                }
            }
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(found)
}

/// What the unembedding takes: without ablation; then for each ablation with the scale of what is left, and with that of before.
fn hidden_of<C: Compute>(
    model: &Model<C>,
    rows: &Rows<C>,
    activity: &Activity,
    ablations: &[Vec<Write>],
) -> mediant_lm::Result<Vec<Tensor<C, 2>>> {
    let scale = scales(model, &rows.batch, rows.resid.clone())?;
    let mut hidden = vec![hidden_at(model, &rows.batch, rows.resid.clone(), scale.clone())?];
    for writes in ablations {
        let left = writes
            .iter()
            .fold(rows.resid.clone(), |resid, write| resid - written(&rows.active, activity.mean[write.neuron], write));
        for scale in [scales(model, &rows.batch, left.clone())?, scale.clone()] {
            hidden.push(hidden_at(model, &rows.batch, left.clone(), scale)?);
        }
    }
    Ok(hidden)
}

/// What a neuron adds to the residual stream, `[rows, d_model]`, beyond what it adds at the activation `usual`.
fn written<C: Compute>(active: &Tensor<C, 2>, usual: f64, write: &Write) -> Tensor<C, 2> {
    let vector = TensorData::new(write.vector.clone(), [1, write.vector.len()]);
    (active.clone().narrow(1, write.neuron, 1) - usual) * Tensor::from_data(vector, &active.device())
}

impl Effects {
    /// Takes the measures of a prediction: without ablation, then two for each.
    fn add(&mut self, document: u32, passes: &[Measured]) {
        let sums = self.documents.of(document);
        sums.add(N, 1.0);
        for measure in 0..2 {
            let before = passes[0][measure];
            sums.add(BASE + measure, before);
            for (ablation, after) in passes[1..].chunks_exact(2).enumerate() {
                let [total, held] = [after[0][measure], after[1][measure]];
                let parts = [total - before, held - before, total - held];
                let place = 2 * ablation + measure;
                for (offset, part) in parts.into_iter().enumerate() {
                    sums.add(OF_ABLATIONS + WIDTH * place + offset, part);
                    sums.add(OF_ABLATIONS + WIDTH * place + 3 + offset, part.abs());
                }
                self.sizes[place].push(parts[0].abs() as f32);
            }
        }
    }

    /// Number of predictions.
    pub fn predictions(&self) -> u64 {
        merged(self.documents.sums()).at(N) as u64
    }

    /// Mean of a measure without ablation, interval over documents.
    pub fn before(&self, measure: Measure, seed: u64) -> Estimate {
        let place = BASE + measure as usize;
        estimates(self.documents.sums(), &[|sums: &Totals| sums.ratio(place, N)], seed)[0]
    }

    /// What every ablation changes of a measure, intervals over documents.
    pub fn changes(&self, measure: Measure, seed: u64) -> Vec<Change> {
        let places = (0..self.ablations).map(|ablation| 2 * ablation + measure as usize);
        // Six means over predictions, and the first over the mean before.
        let ratios = places.clone().flat_map(|place| {
            let first = OF_ABLATIONS + WIDTH * place;
            let means = (0..WIDTH).map(move |offset| (first + offset, N, 1.0));
            means.chain([(first, BASE + measure as usize, 100.0)])
        });
        let ratios: Vec<_> =
            ratios.map(|(above, below, factor)| move |sums: &Totals| factor * sums.ratio(above, below)).collect();
        let found = estimates(self.documents.sums(), &ratios, seed);
        let change = |(place, found): (usize, &[Estimate])| {
            let mut sizes = self.sizes[place].clone();
            sizes.sort_unstable_by(f32::total_cmp);
            Change {
                mean: [found[0], found[1], found[2]],
                size: [found[3], found[4], found[5]],
                relative: found[6],
                quartiles: [0.25, 0.5, 0.75].map(|share| quantile(&sizes, share).unwrap_or(f64::NAN)),
            }
        };
        places.zip(found.chunks_exact(WIDTH + 1)).map(change).collect()
    }
}
