//! Which features fire in a vector, and how strongly.

use std::ops::Range;

use mediant_tensor::kernels::simd;
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::random;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

use super::config::SynthConfig;
use super::forest::Forest;
use super::normal::{Tail, quantile_above};

/// Features whose cutoffs are computed together.
const LANES: usize = 32;

/// The least variance that is left to a feature by itself, as in SAELens.
const LEAST_OWN_VARIANCE: f64 = 0.01;

/// An endless set of vectors; no two sets have draws in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// To train on.
    Training,
    /// To measure on.
    Evaluation,
}

impl Set {
    fn purpose(self) -> &'static str {
        match self {
            Self::Training => "synthetic vectors, training",
            Self::Evaluation => "synthetic vectors, evaluation",
        }
    }
}

/// How features fire.
#[derive(Clone, Debug)]
pub struct Firing {
    seed: u64,
    forest: Forest,
    probabilities: Vec<f64>,
    means: Vec<f32>,
    stds: Vec<f32>,
    rank: usize,
    /// `[num_features, rank]`.
    factors: Vec<f32>,
    lanes: Vec<Lanes>,
    tail: Tail,
}

/// [`LANES`] neighbouring features: each fires if a standard normal number η is above `(threshold − F·ε) · precision`.
#[derive(Clone, Debug)]
struct Lanes {
    threshold: [f32; LANES],
    /// 1 / √D.
    precision: [f32; LANES],
    /// The columns of F.
    factors: Vec<[f32; LANES]>,
}

/// Buffers of one row.
#[derive(Default)]
struct Scratch {
    common: Vec<f32>,
    open: Vec<(u32, f32)>,
    siblings: Vec<(u32, f32)>,
    active: Vec<(u32, f32)>,
}

impl Firing {
    /// Draws what is random about the features but their directions.
    pub(super) fn new(config: &SynthConfig) -> Self {
        let (n, seed) = (config.num_features, config.seed);
        let forest = Forest::new(config.hierarchy.as_ref(), n, seed);
        let compensated = config.hierarchy.is_some_and(|hierarchy| hierarchy.compensate_probabilities);
        let wanted = zipfian(config);
        let probabilities = if compensated { forest.compensate(&wanted) } else { wanted };
        let (start, end) = (config.mean_firing_magnitudes.start, config.mean_firing_magnitudes.end);
        let means = (0..n).map(|i| (start + (end - start) * i as f64 / (n - 1) as f64) as f32).collect();
        let mut stds = vec![0.0; n];
        let std = config.std_firing_magnitudes;
        random::fill_normal(
            &mut random::stream(seed, "synthetic magnitudes"),
            &mut stds,
            std.mean as f32,
            std.std as f32,
        );
        stds.iter_mut().for_each(|std| *std = std.abs());
        let (rank, factors, own) = correlation(config);
        let lanes = (0..n.div_ceil(LANES)).map(|block| {
            let by_lane = |value: &dyn Fn(usize) -> f32, beyond: f32| {
                std::array::from_fn(|lane| {
                    let feature = block * LANES + lane;
                    if feature < n { value(feature) } else { beyond }
                })
            };
            Lanes {
                threshold: by_lane(&|i| quantile_above(probabilities[i]) as f32, f32::INFINITY),
                precision: by_lane(&|i| (1.0 / own[i].sqrt()) as f32, 1.0),
                factors: (0..rank).map(|r| by_lane(&|i| factors[i * rank + r], 0.0)).collect(),
            }
        });
        let lanes = lanes.collect();
        Self { seed, forest, probabilities, means, stds, rank, factors, lanes, tail: Tail::new() }
    }

    /// The probability of firing by itself, of each feature: compensated, before parents and siblings have their say.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Mean of the magnitudes of each feature that fires.
    pub fn means(&self) -> &[f32] {
        &self.means
    }

    /// Standard deviations of the magnitudes.
    pub fn stds(&self) -> &[f32] {
        &self.stds
    }

    /// Columns of the factor of the correlations; 0 without correlations.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The factor of the correlations, `[num_features, rank]`.
    pub fn factors(&self) -> &[f32] {
        &self.factors
    }

    /// The features that fire in some vectors of a set, by number, with their magnitudes. Each row has its own random
    /// numbers: it is the same whatever it is drawn with.
    pub fn sample(&self, set: Set, rows: &[u64]) -> Codes {
        let stream = random::stream(self.seed, set.purpose());
        Codes::collect(rows.par_iter(), |row, scratch: &mut Scratch, codes| {
            let mut rng = stream.clone();
            rng.set_stream(*row);
            self.draw_row(&mut rng, scratch);
            codes.push_row(scratch.active.iter().copied());
        })
    }

    fn draw_row(&self, rng: &mut ChaCha8Rng, scratch: &mut Scratch) {
        let Scratch { common, open, siblings, active } = scratch;
        common.resize(self.rank, 0.0);
        random::fill_normal(rng, common, 0.0, 1.0);
        active.clear();
        self.draw(self.forest.outside(self.means.len()), rng, common, active);
        self.draw(self.forest.roots(), rng, common, open);
        while let Some((feature, value)) = open.pop() {
            active.push((feature, value));
            let parent = feature as usize;
            siblings.clear();
            self.draw(self.forest.children(parent), rng, common, siblings);
            if self.forest.is_exclusive(parent) && siblings.len() > 1 {
                let winner = random::below(rng, siblings.len() as u64) as usize;
                siblings.swap(0, winner);
                siblings.truncate(1);
            }
            let factor = if self.forest.scale { value / self.means[parent] } else { 1.0 };
            let scaled = siblings.iter().map(|(child, value)| (*child, value * factor));
            open.extend(scaled.filter(|(_, value)| *value > 0.0));
        }
        active.sort_unstable_by_key(|(feature, _)| *feature);
    }

    /// Adds those of some features that fire by themselves, with a magnitude above 0: max(N(mean, std²), 0).
    fn draw(&self, features: Range<usize>, rng: &mut ChaCha8Rng, common: &[f32], out: &mut Vec<(u32, f32)>) {
        let mut next = features.start;
        while next < features.end {
            let block = next / LANES;
            let cutoffs = self.lanes[block].cutoffs(common);
            let end = features.end.min((block + 1) * LANES);
            for feature in next..end {
                if self.tail.is_above(rng.next_u32(), cutoffs[feature % LANES]) {
                    let mut value = [0.0];
                    random::fill_normal(rng, &mut value, self.means[feature], self.stds[feature]);
                    if value[0] > 0.0 {
                        out.push((feature as u32, value[0]));
                    }
                }
            }
            next = end;
        }
    }
}

impl Lanes {
    fn cutoffs(&self, common: &[f32]) -> [f32; LANES] {
        simd(
            #[inline(always)]
            || {
                let mut cutoffs = self.threshold;
                for (common, factors) in common.iter().zip(&self.factors) {
                    for (cutoff, factor) in cutoffs.iter_mut().zip(factors) {
                        *cutoff -= common * factor;
                    }
                }
                for (cutoff, precision) in cutoffs.iter_mut().zip(&self.precision) {
                    *cutoff *= precision;
                }
                cutoffs
            },
        )
    }
}

/// `1 / rank^exponent`, mapped linearly onto the wanted ends.
fn zipfian(config: &SynthConfig) -> Vec<f64> {
    let probability = config.firing_probability;
    let (max, min) = (probability.max_prob, probability.min_prob);
    let at = |rank: usize| 1.0 / (rank as f64).powf(probability.exponent);
    let last = at(config.num_features);
    (1..=config.num_features).map(|rank| min + (max - min) * (at(rank) - last) / (1.0 - last)).collect()
}

/// The rank, F `[num_features, rank]` and the diagonal of D.
fn correlation(config: &SynthConfig) -> (usize, Vec<f32>, Vec<f64>) {
    let n = config.num_features;
    let Some(correlation) = config.correlation else { return (0, Vec::new(), vec![1.0; n]) };
    let mut factors = vec![0.0; n * correlation.rank];
    let mut rng = random::stream(config.seed, "synthetic correlation");
    random::fill_normal(&mut rng, &mut factors, 0.0, correlation.correlation_scale as f32);
    let squares = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let own = factors.chunks_exact_mut(correlation.rank).map(|row| {
        let common = squares(row);
        if 1.0 - common < LEAST_OWN_VARIANCE {
            let shrink = ((1.0 - LEAST_OWN_VARIANCE) / common).sqrt() as f32;
            row.iter_mut().for_each(|x| *x *= shrink);
        }
        1.0 - squares(row)
    });
    let own = own.collect();
    (correlation.rank, factors, own)
}
