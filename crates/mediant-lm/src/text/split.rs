//! Which documents are for testing.

use mediant_tensor::random::{below, stream};
use rand_chacha::ChaCha8Rng;

/// Says document after document whether it is a test document.
///
/// One document of each run of 1/f is, drawn by the seed: of any N documents at the start of a corpus ⌊N·f⌋ or ⌈N·f⌉ are, in constant
/// memory, and more documents at the end change nothing before. For f above ½ the training documents are drawn so.
pub(crate) struct Split {
    rng: ChaCha8Rng,
    /// The smaller of f and 1 − f, and whether test documents are the drawn ones.
    share: f64,
    drawn_is_test: bool,
    /// Documents so far, runs so far, and where the drawn one of this run is.
    documents: u64,
    runs: u64,
    end: u64,
    drawn: u64,
}

impl Split {
    /// `test_fraction` is at least 0 and at most 1.
    pub(crate) fn new(test_fraction: f64, seed: u64) -> Self {
        let drawn_is_test = test_fraction <= 0.5;
        let share = if drawn_is_test { test_fraction } else { 1.0 - test_fraction };
        Self { rng: stream(seed, "split"), share, drawn_is_test, documents: 0, runs: 0, end: 0, drawn: 0 }
    }

    /// Whether the next document is for testing.
    pub(crate) fn next_is_test(&mut self) -> bool {
        let document = self.documents;
        self.documents += 1;
        if self.share > 0.0 && document == self.end {
            self.runs += 1;
            // A quotient that ought to be whole may be off by a rounding.
            self.end = ((self.runs as f64 / self.share - 1e-6).ceil() as u64).max(document + 1);
            self.drawn = document + below(&mut self.rng, self.end - document);
        }
        let drawn = self.share > 0.0 && document == self.drawn;
        drawn == self.drawn_is_test
    }
}

#[cfg(test)]
mod tests {
    use super::Split;
    use proptest::prelude::*;

    fn marks(fraction: f64, seed: u64, documents: usize) -> Vec<bool> {
        let mut split = Split::new(fraction, seed);
        (0..documents).map(|_| split.next_is_test()).collect()
    }

    proptest! {
        #[test]
        fn the_fraction_holds_for_every_number_of_documents(fraction in 0.0..1.0_f64, seed: u64, documents in 0_usize..500) {
            let tests = marks(fraction, seed, documents).iter().filter(|test| **test).count() as f64;
            let wanted = fraction * documents as f64;
            prop_assert!(((wanted - 1e-3).floor()..=(wanted + 1e-3).ceil()).contains(&tests), "{} of {}", tests, wanted);
        }
    }

    #[test]
    fn the_seed_chooses_and_the_extremes_are_plain() {
        assert_eq!(marks(0.1, 3, 200), marks(0.1, 3, 200));
        assert_ne!(marks(0.1, 3, 200), marks(0.1, 4, 200));
        assert!(marks(0.0, 0, 50).iter().all(|test| !test));
        assert!(marks(1.0, 0, 50).iter().all(|test| *test));
        assert_eq!(marks(0.2, 0, 5).iter().filter(|test| **test).count(), 1);
    }
}
