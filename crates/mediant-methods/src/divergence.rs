//! How far the predictions of two models are apart.

use mediant_artifact::Tokens;
use mediant_lm::Model;
use mediant_tensor::Compute;
use rayon::prelude::*;

use crate::bootstrap::{Estimate, Totals, estimates, merged};
use crate::groups::ByDocument;
use crate::predictions::{log_sum_exp, predictions};
use crate::{Error, Result};

/// Divergences of two distributions p and q, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// `½ KL(p ‖ m) + ½ KL(q ‖ m)`, m their mean; at most ln 2 (Lin 1991).
    pub js: f64,
    /// `KL(p ‖ q) = Σ p ln(p/q)`.
    pub kl: f64,
    /// `KL(q ‖ p)`.
    pub reverse_kl: f64,
}

impl Divergence {
    /// Of the softmax of two rows of logits. In f64 throughout: a divergence is a small difference of large numbers.
    pub fn of(p: &[f32], q: &[f32]) -> Self {
        let (p_total, q_total) = (log_sum_exp(p), log_sum_exp(q));
        let mut sum = Self::default();
        for (p, q) in p.iter().zip(q) {
            let (p_log, q_log) = (f64::from(*p) - p_total, f64::from(*q) - q_total);
            let (p, q) = (p_log.exp(), q_log.exp());
            let mean_log = p_log.max(q_log) + (-(p_log - q_log).abs()).exp().ln_1p() - std::f64::consts::LN_2;
            sum.js += 0.5 * (times(p, p_log - mean_log) + times(q, q_log - mean_log));
            sum.kl += times(p, p_log - q_log);
            sum.reverse_kl += times(q, q_log - p_log);
        }
        sum
    }
}

/// A probability times a logarithm, 0 where the probability is.
fn times(p: f64, log: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * log }
}

/// Divergences of every two models on a corpus.
pub struct Divergences {
    documents: ByDocument,
    pairs: Vec<(usize, usize)>,
}

/// Two models by their places, and `js`, `kl` and `reverse_kl` of them, mean over tokens.
pub struct Apart {
    /// The one whose predictions are p.
    pub p: usize,
    /// The one whose predictions are q.
    pub q: usize,
    /// `js`, `kl`, `reverse_kl`.
    pub means: [Estimate; 3],
}

/// Measures the divergence of every two models at the predicted tokens of a corpus; `documents` has one entry a token. `progress` hears how
/// many tokens of how many are done.
///
/// # Errors
/// [`Error::Data`] for models of different vocabularies; as the passes, and whatever `progress` gives.
pub fn divergences<C: Compute, E: From<Error>>(
    models: &[&Model<C>],
    tokens: &Tokens,
    documents: &[u32],
    progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Divergences, E> {
    let sizes: Vec<usize> = models.iter().map(|model| model.config().vocab_size).collect();
    if let Some(other) = sizes.iter().find(|size| **size != sizes[0]) {
        let why = format!("one model predicts {} tokens, another {other}: they have no common scale", sizes[0]);
        return Err(Error::Data(why).into());
    }
    let vocabulary = sizes.first().copied().unwrap_or(1);
    let pairs = (0..models.len()).flat_map(|p| (p + 1..models.len()).map(move |q| (p, q)));
    let mut found = Divergences { documents: ByDocument::default(), pairs: pairs.collect() };
    let mut add = |predicted: &[usize], logits: &[Vec<f32>]| {
        let row = |model: usize, row: usize| &logits[model][row * vocabulary..][..vocabulary];
        let of = |index: usize| -> Vec<Divergence> {
            found.pairs.iter().map(|&(p, q)| Divergence::of(row(p, index), row(q, index))).collect()
        };
        let all: Vec<Vec<Divergence>> = (0..predicted.len()).into_par_iter().map(of).collect();
        for (token, apart) in predicted.iter().zip(all) {
            let sums = found.documents.of(documents[*token]);
            sums.add(0, 1.0);
            for (pair, one) in apart.into_iter().enumerate() {
                for (offset, value) in [one.js, one.kl, one.reverse_kl].into_iter().enumerate() {
                    sums.add(1 + 3 * pair + offset, value);
                }
            }
        }
    };
    predictions(models, tokens, &mut add, progress)?;
    Ok(found)
}

impl Divergences {
    /// Number of predictions.
    pub fn predictions(&self) -> u64 {
        merged(self.documents.sums()).at(0) as u64
    }

    /// Means over tokens for every two models, with intervals over documents.
    pub fn means(&self, seed: u64) -> Vec<Apart> {
        let means: Vec<_> = (1..=3 * self.pairs.len()).map(|place| move |sums: &Totals| sums.ratio(place, 0)).collect();
        let found = estimates(self.documents.sums(), &means, seed);
        let of_pairs = self.pairs.iter().zip(found.chunks_exact(3));
        of_pairs.map(|(&(p, q), means)| Apart { p, q, means: [means[0], means[1], means[2]] }).collect()
    }
}
