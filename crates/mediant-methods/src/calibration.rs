//! Calibration: whether the probabilities of predictions are the shares in which they come true (Guo et al. 2017,
//! arXiv:1706.04599).

use mediant_artifact::Tokens;
use mediant_lm::Model;
use mediant_tensor::Compute;
use rayon::prelude::*;

use crate::bootstrap::{Estimate, Totals, estimates, merged};
use crate::groups::ByDocument;
use crate::predictions::{log_sum_exp, predictions};
use crate::{Error, Result};

/// What a row of logits says of itself, and whether it is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certainty {
    /// Cross-entropy of the token that came, in nats.
    pub loss: f64,
    /// `−Σ p ln p`, in nats.
    pub entropy: f64,
    /// The largest probability.
    pub confidence: f64,
    /// Whether the token has it; of equals the lowest id counts.
    pub right: bool,
}

impl Certainty {
    /// Of these logits, for what came.
    pub fn of(logits: &[f32], token: usize) -> Self {
        let total = log_sum_exp(logits);
        let mut entropy = 0.0;
        let mut best = 0;
        for (id, logit) in logits.iter().enumerate() {
            let log = f64::from(*logit) - total;
            let p = log.exp();
            if p > 0.0 || p.is_nan() {
                entropy -= p * log;
            }
            if *logit > logits[best] {
                best = id;
            }
        }
        Self {
            loss: total - f64::from(logits[token]),
            entropy,
            confidence: (f64::from(logits[best]) - total).exp(),
            right: best == token,
        }
    }
}

/// The bin of a confidence, of so many of equal width: bin b holds those above b/bins up to (b + 1)/bins.
pub fn bin(confidence: f64, bins: usize) -> usize {
    ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1
}

/// Places of sums by document: what is summed over all predictions, then three for each bin.
const ENTROPY: usize = 0;
const CONFIDENCE: usize = 1;
const RIGHT: usize = 2;
const COUNT: usize = 3;
const OF_BINS: usize = 4;

/// Calibration of a model on a corpus.
pub struct Calibration {
    bins: usize,
    documents: ByDocument,
}

/// Predictions of a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Their confidences are above this …
    pub low: f64,
    /// … and not above this.
    pub high: f64,
    /// How many there are.
    pub n: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share that came true.
    pub accuracy: f64,
}

/// Measures calibration at the predicted tokens of a corpus; `documents` has one entry a token. `progress` hears how many tokens of
/// how many are done.
///
/// # Errors
/// As the passes, and whatever `progress` gives.
pub fn calibration<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    documents: &[u32],
    bins: usize,
    progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Calibration, E> {
    let vocabulary = model.config().vocab_size;
    let mut found = Calibration { bins, documents: ByDocument::default() };
    let mut add = |predicted: &[usize], logits: &[Vec<f32>]| {
        let rows = predicted.par_iter().zip(logits[0].par_chunks_exact(vocabulary));
        let all: Vec<Certainty> =
            rows.map(|(&token, logits)| Certainty::of(logits, tokens.ids[token] as usize)).collect();
        all.iter().zip(predicted).for_each(|(one, token)| found.add(documents[*token], one));
    };
    predictions(&[model], tokens, &mut add, progress)?;
    Ok(found)
}

impl Calibration {
    /// Of predictions with the documents that they belong to.
    pub fn of(predictions: &[(u32, Certainty)], bins: usize) -> Self {
        let mut found = Self { bins, documents: ByDocument::default() };
        predictions.iter().for_each(|(document, one)| found.add(*document, one));
        found
    }

    fn add(&mut self, document: u32, one: &Certainty) {
        let sums = self.documents.of(document);
        let right = f64::from(u8::from(one.right));
        for (place, value) in [(ENTROPY, one.entropy), (CONFIDENCE, one.confidence), (RIGHT, right), (COUNT, 1.0)] {
            sums.add(place, value);
        }
        let first = OF_BINS + 3 * bin(one.confidence, self.bins);
        for (offset, value) in [one.confidence, right, 1.0].into_iter().enumerate() {
            sums.add(first + offset, value);
        }
    }

    /// Number of predictions.
    pub fn predictions(&self) -> u64 {
        merged(self.documents.sums()).at(COUNT) as u64
    }

    /// `entropy`, `confidence`, `accuracy` and `ece`, with intervals over documents.
    pub fn metrics(&self, seed: u64) -> [(&'static str, Estimate); 4] {
        let bins = self.bins;
        let metrics = [0, 1, 2, 3].map(|metric| {
            move |sums: &Totals| match metric {
                0 => sums.ratio(ENTROPY, COUNT),
                1 => sums.ratio(CONFIDENCE, COUNT),
                2 => sums.ratio(RIGHT, COUNT),
                _ => ece(sums, bins),
            }
        });
        let found = estimates(self.documents.sums(), &metrics, seed);
        [("entropy", found[0]), ("confidence", found[1]), ("accuracy", found[2]), ("ece", found[3])]
    }

    /// The bins that hold predictions.
    pub fn bins(&self) -> Vec<Bin> {
        let all = merged(self.documents.sums());
        let of = |bin: usize| {
            let (first, width) = (OF_BINS + 3 * bin, self.bins as f64);
            Bin {
                low: bin as f64 / width,
                high: (bin + 1) as f64 / width,
                n: all.at(first + 2) as u64,
                confidence: all.ratio(first, first + 2),
                accuracy: all.ratio(first + 1, first + 2),
            }
        };
        (0..self.bins).map(of).filter(|bin| bin.n > 0).collect()
    }
}

/// `Σ n_b/n |accuracy_b − confidence_b|`.
fn ece(sums: &Totals, bins: usize) -> f64 {
    let gap = |bin: usize| (sums.at(OF_BINS + 3 * bin) - sums.at(OF_BINS + 3 * bin + 1)).abs();
    (0..bins).map(gap).sum::<f64>() / sums.at(COUNT)
}
