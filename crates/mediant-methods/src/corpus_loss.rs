//! Losses of a corpus: their mean, by position and by the frequency of what is predicted, and their distribution; and how much
//! one model loses against another on the same tokens.

use std::collections::BTreeMap;

use mediant_artifact::Tokens;
use mediant_lm::predicted;

use crate::bootstrap::{Estimate, Totals, estimates, quantile};

/// Shares of the losses of single tokens whose quantiles are reported, with their names in percent: the ends of the central
/// 99.9, 98, 95, 90 and 50 percent, the median, and the 90th percentile.
pub const QUANTILES: [(&str, f64); 12] = [
    ("0.05", 0.0005),
    ("1", 0.01),
    ("2.5", 0.025),
    ("5", 0.05),
    ("25", 0.25),
    ("50", 0.5),
    ("75", 0.75),
    ("90", 0.9),
    ("95", 0.95),
    ("97.5", 0.975),
    ("99", 0.99),
    ("99.95", 0.9995),
];

/// Some of the predicted tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of them.
    Whole,
    /// Those at positions from 2^k to 2^(k+1) − 1 of their row; the first token, never predicted, is at position 0.
    Position(u32),
    /// Those that make up a share from 10^−k, included, to 10^−(k−1) of all predicted tokens, by their kind.
    Frequency(u32),
}

impl Part {
    /// What it is a part by, the least value that is in it, and the least above it that is not.
    pub fn range(self) -> (&'static str, f64, f64) {
        match self {
            Self::Whole => ("all", f64::NAN, f64::NAN),
            Self::Position(k) => ("position", f64::from(1u32 << k), f64::from(1u32 << k) * 2.0),
            Self::Frequency(k) => ("frequency", power_of_ten(k), power_of_ten(k - 1)),
        }
    }
}

/// `10^−k`, as the decimal number is read.
fn power_of_ten(k: u32) -> f64 {
    1.0 / 10f64.powi(k as i32)
}

/// The predicted tokens of a corpus, divided into parts and documents.
pub struct Parts<'t> {
    tokens: &'t Tokens,
    /// Of every token of the corpus.
    documents: &'t [u32],
    /// How often each token of the vocabulary is predicted.
    counts: Vec<u64>,
    total: u64,
}

impl<'t> Parts<'t> {
    /// `documents` has one entry a token of the corpus.
    pub fn new(tokens: &'t Tokens, documents: &'t [u32]) -> Self {
        let mut counts = vec![0; tokens.meta.vocab_size];
        predicted(tokens, 0..tokens.len()).for_each(|(token, _)| counts[tokens.ids[token] as usize] += 1);
        Self { tokens, documents, total: counts.iter().sum(), counts }
    }

    /// Number of predicted tokens.
    pub fn predicted(&self) -> u64 {
        self.total
    }

    fn frequency(&self, token: usize) -> Part {
        let count = u128::from(self.counts[self.tokens.ids[token] as usize]);
        let least = (1..).find(|&k| count * 10u128.pow(k) >= u128::from(self.total));
        // The count is 1 or more and the total below 2^64, so that one is found below 20.
        Part::Frequency(least.unwrap_or(20))
    }
}

/// Losses of a corpus under one model.
pub struct CorpusLoss {
    /// In the order of their places in the sums.
    parts: Vec<Part>,
    /// By document: the sum of losses and their number, part by part.
    documents: Vec<Totals>,
    quantiles: Vec<f64>,
    largest: f64,
    non_finite: u64,
    predicted: u64,
}

impl CorpusLoss {
    /// `losses` are those of the predicted tokens, in order. A loss that is not a number counts as infinite.
    pub fn new(corpus: &Parts<'_>, mut losses: Vec<f32>) -> Self {
        let mut places: BTreeMap<Part, usize> = BTreeMap::new();
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        let mut documents: Vec<Totals> = Vec::new();
        let mut non_finite = 0;
        for (loss, (token, position)) in losses.iter_mut().zip(predicted(corpus.tokens, 0..corpus.tokens.len())) {
            if !loss.is_finite() {
                *loss = f32::INFINITY;
                non_finite += 1;
            }
            let number = numbers.len();
            let number = *numbers.entry(corpus.documents[token]).or_insert(number);
            documents.resize_with(documents.len().max(number + 1), Totals::default);
            for part in [Part::Whole, Part::Position(position.ilog2()), corpus.frequency(token)] {
                let place = places.len();
                let place = *places.entry(part).or_insert(place);
                documents[number].add(2 * place, f64::from(*loss));
                documents[number].add(2 * place + 1, 1.0);
            }
        }
        let mut parts: Vec<(usize, Part)> = places.into_iter().map(|(part, place)| (place, part)).collect();
        parts.sort_unstable();
        losses.sort_unstable_by(f32::total_cmp);
        Self {
            parts: parts.into_iter().map(|(_, part)| part).collect(),
            documents,
            quantiles: QUANTILES.iter().map(|(_, share)| quantile(&losses, *share).unwrap_or(f64::NAN)).collect(),
            largest: losses.last().map_or(f64::NAN, |loss| f64::from(*loss)),
            non_finite,
            predicted: losses.len() as u64,
        }
    }

    /// Number of predicted tokens.
    pub fn predicted(&self) -> u64 {
        self.predicted
    }

    /// Losses that were infinite or not a number.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// The largest loss.
    pub fn largest(&self) -> f64 {
        self.largest
    }

    /// The quantiles of [`QUANTILES`].
    pub fn quantiles(&self) -> &[f64] {
        &self.quantiles
    }

    /// Mean loss of every part with its number of tokens, intervals over documents. Parts are in their order, the whole first.
    pub fn means(&self, seed: u64) -> Vec<(Part, u64, Estimate)> {
        self.of_parts(&self.documents, seed)
    }

    /// As [`Self::means`], of the losses less those of `other` on the same tokens: the documents that a draw holds are the same
    /// for both.
    pub fn deltas(&self, other: &Self, seed: u64) -> Vec<(Part, u64, Estimate)> {
        let less = |(own, other): (&Totals, &Totals)| {
            let pairs = own.0.iter().zip(&other.0).enumerate();
            Totals(pairs.map(|(place, (a, b))| if place % 2 == 0 { a - b } else { *a }).collect())
        };
        self.of_parts(&self.documents.iter().zip(&other.documents).map(less).collect::<Vec<_>>(), seed)
    }

    fn of_parts(&self, documents: &[Totals], seed: u64) -> Vec<(Part, u64, Estimate)> {
        let places = 0..self.parts.len();
        let means: Vec<_> = places.map(|place| move |sums: &Totals| sums.ratio(2 * place, 2 * place + 1)).collect();
        let mut found: Vec<_> = estimates(documents, &means, seed)
            .into_iter()
            .enumerate()
            .map(|(place, mean)| {
                let n = self.documents.iter().map(|sums| sums.at(2 * place + 1)).sum::<f64>();
                (self.parts[place], n as u64, mean)
            })
            .collect();
        found.sort_by_key(|(part, ..)| *part);
        found
    }
}
