//! How good a classifier is on examples that it was not fitted to.

use crate::bootstrap;

/// Logits of examples, and which of them are positive.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judged(pub(super) Vec<(f64, bool)>);

impl bootstrap::Sums for Judged {
    fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }
}

impl Judged {
    /// Share of examples on the right side of 0.
    pub(super) fn accuracy(&self) -> f64 {
        let right = self.0.iter().filter(|(score, positive)| (*score > 0.0) == *positive).count();
        right as f64 / self.0.len() as f64
    }

    /// Harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn), 0 where nothing is or is found positive.
    pub(super) fn f1(&self) -> f64 {
        let count = |found: bool, is: bool| {
            self.0.iter().filter(|(score, positive)| (*score > 0.0) == found && *positive == is).count() as f64
        };
        let (hits, misses) = (count(true, true), count(true, false) + count(false, true));
        if hits == 0.0 { 0.0 } else { 2.0 * hits / (2.0 * hits + misses) }
    }

    /// Area under the ROC curve: how often a positive has the larger logit of a positive and a negative, equal ones
    /// counting half. NaN where there are not both.
    pub(super) fn auc(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut below, mut won) = (0.0, 0.0);
        for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
            let positives = equal.iter().filter(|(_, positive)| *positive).count() as f64;
            let negatives = equal.len() as f64 - positives;
            won += positives * (below + 0.5 * negatives);
            below += negatives;
        }
        won / (below * (sorted.len() as f64 - below))
    }
}

#[cfg(test)]
mod tests {
    use super::Judged;
    use mediant_tensor::random::{below, stream};

    #[test]
    fn scores_are_those_of_counting_all_pairs() {
        let mut draws = stream(0, "test");
        let judged: Vec<(f64, bool)> =
            (0..200).map(|_| (below(&mut draws, 9) as f64 - 4.0, below(&mut draws, 3) == 0)).collect();
        let pairs = judged
            .iter()
            .filter(|one| one.1)
            .flat_map(|one| judged.iter().filter(|other| !other.1).map(move |other| (one.0, other.0)));
        let pairs: Vec<f64> = pairs
            .map(|(a, b)| {
                if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                }
            })
            .collect();
        let judged = Judged(judged);
        assert!((judged.auc() - pairs.iter().sum::<f64>() / pairs.len() as f64).abs() < 1e-12);
    }

    #[test]
    fn a_confusion_by_hand() {
        // Two found of three positives, one false alarm, one right negative.
        let judged = Judged(vec![(1.0, true), (0.5, true), (-1.0, true), (0.1, false), (-0.1, false)]);
        assert_eq!((judged.accuracy(), judged.f1()), (0.6, 2.0 / 3.0));
        assert_eq!(judged.auc(), 4.0 / 6.0);
        let none = Judged(vec![(-1.0, true), (-2.0, false)]);
        assert_eq!((none.f1(), none.auc()), (0.0, 1.0));
        assert!(Judged(vec![(1.0, true)]).auc().is_nan());
    }
}
