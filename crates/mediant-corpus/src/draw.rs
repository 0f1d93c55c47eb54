//! Random draws. Written out here, so that no release of a random-number crate changes a corpus.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One ChaCha8 stream, named by (seed, purpose, index): documents can be drawn in any order.
#[derive(Clone)]
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// `purpose` is at most 24 bytes: it fills the rest of the 32-byte key.
    pub(crate) fn new(seed: u64, purpose: &'static str, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..8 + purpose.len()].copy_from_slice(purpose.as_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// Uniform in `0..n`, up to a bias of n / 2^32. `n` is at least 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// True in `percent` of 100 draws.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a non-empty slice.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// One of a non-empty slice, the k-th with a weight of 1/k (Zipf's law): a few items are met often, many rarely.
    pub(crate) fn pick_zipf<T: Copy>(&mut self, items: &[T]) -> T {
        const SCALE: u64 = 1 << 20;
        let weight = |index: usize| SCALE / (index as u64 + 1);
        let total: u64 = (0..items.len()).map(weight).sum();
        let mut left = (u64::from(self.0.next_u32()) * total) >> 32;
        for (index, item) in items.iter().enumerate() {
            if left < weight(index) {
                return *item;
            }
            left -= weight(index);
        }
        items[items.len() - 1]
    }

    /// Two different items of a slice of at least two.
    pub(crate) fn pick_two<T: Copy>(&mut self, items: &[T]) -> (T, T) {
        let first = self.below(items.len());
        let second = (first + 1 + self.below(items.len() - 1)) % items.len();
        (items[first], items[second])
    }
}
