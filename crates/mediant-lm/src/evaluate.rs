//! Cross-entropy of a model on token sequences.

use std::collections::BTreeMap;
use std::ops::Range;

use mediant_artifact::{TokenSpans, Tokens};
use mediant_tensor::Compute;
use mediant_tensor::random::{below, stream};

use crate::{Batch, Error, Hooks, LmConfig, Model, Result};

/// Losses of predicted tokens, in the order of the data. Only tokens whose mask is set count; the first of a sequence is
/// never predicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// In nats.
    pub loss: Vec<f32>,
    /// The document of each predicted token: the unit of the bootstrap.
    pub document: Vec<u32>,
}

/// Computes the losses, batch by batch: beside the result, memory is that of a batch. `hooks` is asked for the edits of
/// each batch, `progress` hears how many tokens of how many are done.
///
/// # Errors
/// [`Error::Tokens`] for sequences that the model cannot take, and what the edits give.
pub fn losses<'a, C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    spans: &TokenSpans,
    hooks: impl Fn() -> Hooks<'a, C>,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Losses, E> {
    let mut all = Losses::default();
    for range in batches(tokens, model.config(), 0) {
        let sequences: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &sequences, &model.device())?;
        let batch = batch.with_examples(range.clone().map(|example| example as u64).collect());
        let mut loss = model.losses(&batch, hooks())?.into_iter();
        for token in range.clone().flat_map(|i| tokens.offsets[i] + 1..tokens.offsets[i + 1]) {
            let loss = loss.next().ok_or_else(|| Error::Tokens("fewer losses than tokens".to_owned()))?;
            if tokens.mask[token] {
                all.loss.push(loss);
                all.document.push(spans.document[token]);
            }
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(all)
}

/// Neighbouring sequences that make up one forward pass: as many tokens as keep its activations, and `kept` more numbers a
/// token, in a few tens of megabytes. The division changes no result.
pub fn batches<'t>(tokens: &'t Tokens, config: &LmConfig, kept: usize) -> impl Iterator<Item = Range<usize>> + 't {
    const BYTES: usize = 64 << 20;
    // The widest moment of a block: the MLP's hidden layer around its activation function, beside the residual stream.
    let row = 4 * (3 * config.d_mlp + 2 * config.qkv_width() + 2 * config.d_model + kept);
    let most = (BYTES / row).clamp(256, 8192);
    let mut start = 0;
    std::iter::from_fn(move || {
        let limit = tokens.offsets[start] + most;
        let fitting = tokens.offsets.partition_point(|end| *end <= limit) - 1;
        let range = start..fitting.max(start + 1);
        start = range.end;
        (range.end <= tokens.len()).then_some(range)
    })
    .fuse()
}

/// A mean with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Lower end of the 95 percent interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

impl Losses {
    /// Mean over tokens, with a percentile bootstrap interval over documents (1,000 draws of as many documents as there
    /// are, with replacement; tokens of a document stay together).
    pub fn mean(&self, seed: u64) -> Mean {
        const DRAWS: usize = 1000;
        let mut documents: BTreeMap<u32, (f64, u64)> = BTreeMap::new();
        for (loss, document) in self.loss.iter().zip(&self.document) {
            let (sum, n) = documents.entry(*document).or_default();
            *sum += f64::from(*loss);
            *n += 1;
        }
        let clusters: Vec<(f64, u64)> = documents.into_values().collect();
        let ratio = |sum: f64, n: u64| sum / n as f64;
        let total = clusters.iter().fold((0.0, 0), |(sum, n), cluster| (sum + cluster.0, n + cluster.1));
        let mut draws = stream(seed, "bootstrap");
        let mut means: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let (mut sum, mut n) = (0.0, 0);
                for _ in 0..clusters.len() {
                    let cluster = clusters[below(&mut draws, clusters.len() as u64) as usize];
                    sum += cluster.0;
                    n += cluster.1;
                }
                ratio(sum, n)
            })
            .collect();
        means.sort_by(f64::total_cmp);
        Mean { value: ratio(total.0, total.1), low: quantile(&means, 0.025), high: quantile(&means, 0.975) }
    }

    /// Quantiles of the losses of single tokens.
    pub fn quantiles(&self, at: &[f64]) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.loss.iter().map(|loss| f64::from(*loss)).collect();
        sorted.sort_by(f64::total_cmp);
        at.iter().map(|q| quantile(&sorted, *q)).collect()
    }
}

/// The value at a share of a sorted list, between neighbours by linear interpolation (NumPy's default); NaN of nothing.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let losses = Losses { loss: vec![3.0, 1.0, 2.0, 4.0], document: vec![0; 4] };
        assert_eq!(losses.quantiles(&[0.0, 0.5, 0.9, 1.0]), [1.0, 2.5, 3.7, 4.0]);
    }

    #[test]
    fn the_interval_is_over_documents() {
        // One document: every draw is the same documents, however much its tokens differ.
        let one = Losses { loss: vec![0.0, 10.0], document: vec![7, 7] };
        assert_eq!(one.mean(0), Mean { value: 5.0, low: 5.0, high: 5.0 });
        // Two documents of unequal length: the mean is over tokens, the interval reaches from one to the other.
        let two = Losses { loss: vec![1.0, 1.0, 1.0, 5.0], document: vec![0, 0, 0, 1] };
        let mean = two.mean(0);
        assert_eq!((mean.value, mean.low, mean.high), (2.0, 1.0, 5.0));
    }
}
