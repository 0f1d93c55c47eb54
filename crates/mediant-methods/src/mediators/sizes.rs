//! How many items the sets have that are measured, and in which order items come in.

use mediant_tensor::random::{shuffle, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// MIB's shares of all items (Mueller et al. 2025, arXiv:2504.13151).
pub const SHARES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// From so many items on, only sets of MIB's sizes are measured; of fewer items, sets of every size.
const MANY: usize = 1000;

/// MIB's sizes of sets of `of` items, rounded down; each once, none of them 0.
pub fn benchmark_sizes(of: usize) -> Vec<usize> {
    // A thousandth of a thousand is 1, whatever the last bit of the product.
    let mut sizes: Vec<usize> = SHARES.iter().map(|share| (share * of as f64 + 1e-9) as usize).collect();
    sizes.retain(|size| *size > 0);
    sizes.dedup();
    sizes
}

/// Which sizes of sets are measured, none and all always among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// Every size below 1,000 items, else MIB's.
    #[default]
    Every,
    /// MIB's ten shares of all items, however few there are.
    Benchmark,
}

impl Sizes {
    /// The sizes of sets of `of` items.
    pub fn of(self, of: usize) -> Vec<usize> {
        match self {
            Self::Every if of < MANY => (0..=of).collect(),
            Self::Every | Self::Benchmark => [0].into_iter().chain(benchmark_sizes(of)).collect(),
        }
    }

    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// By what items are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The largest scores first: what helps most. MIB's choice for CPR.
    Signed,
    /// The scores of largest magnitude first: what matters most, for or against. MIB's choice for CMD.
    Absolute,
}

impl Selection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Signed, Self::Absolute];

    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Absolute => "absolute",
        }
    }

    /// The items in the order in which they are chosen. Of equal scores the first item comes first; NaN comes last.
    pub fn order(self, scores: &[f64]) -> Vec<usize> {
        let key = |item: &usize| {
            let score = scores[*item];
            match self {
                _ if score.is_nan() => f64::NEG_INFINITY,
                Self::Signed => score,
                Self::Absolute => score.abs(),
            }
        };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| key(b).total_cmp(&key(a)));
        order
    }
}

/// A random order of `of` items: number `draw` of the seed.
pub fn random_order(of: usize, seed: u64, draw: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..of).collect();
    shuffle(&mut stream(seed, &format!("random_items/{draw}")), &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_few_and_of_many_items() {
        assert_eq!(Sizes::Every.of(3), [0, 1, 2, 3]);
        assert_eq!(Sizes::Benchmark.of(16), [0, 1, 3, 8, 16]);
        assert_eq!(benchmark_sizes(16), [1, 3, 8, 16]);
        assert_eq!(Sizes::Every.of(1000), [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]);
        assert_eq!(Sizes::Every.of(999).len(), 1000);
        assert!(benchmark_sizes(0).is_empty());
    }

    #[test]
    fn the_largest_come_first_and_nan_last() {
        let scores = [0.5, -2.0, f64::NAN, 0.5, 1.0];
        assert_eq!(Selection::Signed.order(&scores), [4, 0, 3, 1, 2]);
        assert_eq!(Selection::Absolute.order(&scores), [1, 4, 0, 3, 2]);
    }

    #[test]
    fn a_draw_is_a_permutation_that_the_seed_fixes() {
        let mut order = random_order(50, 7, 3);
        assert_eq!(order, random_order(50, 7, 3));
        assert_ne!(order, random_order(50, 7, 4));
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
