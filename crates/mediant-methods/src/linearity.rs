//! How well attribution patching, which is linear, predicts activation patching.

use std::collections::BTreeMap;

use mediant_lm::Model;
use mediant_tensor::Compute;

use crate::agreement::pearson;
use crate::bootstrap::{Estimate, Totals, estimates, merged};
use crate::sink::{InMemory, Kept};
use crate::{Direction, Error, Metric, Pairs, Reference, Result, Slope, Target, attribute, patch};

/// Places of a mediator's sums, in either scale.
const N: usize = 0;
const EXACT: usize = 1;
const LINEAR: usize = 2;
const ABSOLUTE_ERROR: usize = 3;
const ABSOLUTE_EXACT: usize = 4;
const WIDTH: usize = 5;
/// What has no sum of its own: LINEAR less EXACT.
const ERROR: usize = WIDTH;

/// In what effects are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In units of the metric.
    Metric,
    /// As shares of each prompt's own difference between clean and counterfactual value.
    Difference,
}

/// Exact effects of patching beside their first-order estimates.
pub struct Linearity {
    mediators: usize,
    /// By group of prompts; first all mediators in the metric's unit, then all as shares.
    groups: Vec<Totals>,
    /// Clean value less counterfactual value, by prompt.
    differences: BTreeMap<usize, f64>,
}

/// A mediator's mean effects over the prompts that have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediatorEffects {
    /// Number of prompts.
    pub n: u64,
    /// Of activation patching.
    pub exact: Estimate,
    /// Of attribution patching.
    pub linear: Estimate,
    /// The second less the first.
    pub error: Estimate,
}

/// How far the two are apart, over mediators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Mean over mediators of the mean error.
    pub mean_error: Estimate,
    /// Standard deviation over mediators of the mean error.
    pub sd_error: Estimate,
    /// Mean over mediators and prompts of the error's size.
    pub mean_absolute_error: Estimate,
    /// The same over the mean size of exact effects, in percent.
    pub nmae: Estimate,
    /// Correlation over mediators of the two mean effects.
    pub pearson: Estimate,
}

/// Patches clean activations into counterfactual runs, exactly and to first order with the gradient on the counterfactual run. `progress` hears
/// how many prompts of how many are done, every prompt counted twice.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, and whatever the passes and `progress` give.
pub fn linearity<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    targets: &[Target],
    metric: Metric,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Linearity, E> {
    let empty = || InMemory(vec![Vec::new(); targets.len()]);
    let (mut exact, mut linear) = (empty(), empty());
    patch(model, pairs, targets, Direction::Denoising, metric, &mut exact, |done, total| progress(done, 2 * total))?;
    attribute(model, pairs, targets, Slope::At(Reference::Counterfactual), metric, &mut linear, |done, total| {
        progress(total + done, 2 * total)
    })?;
    Ok(Linearity::of(pairs, &exact.0, &linear.0))
}

impl Linearity {
    fn of(pairs: &Pairs, exact: &[Vec<Kept>], linear: &[Vec<Kept>]) -> Self {
        let mut known = BTreeMap::new();
        let group_of = pairs.examples().into_iter().map(|example| {
            let next = known.len();
            *known.entry((example.task, example.group)).or_insert(next)
        });
        let group_of: Vec<usize> = group_of.collect();
        let mut found =
            Self { mediators: exact.len(), groups: vec![Totals::default(); known.len()], differences: BTreeMap::new() };
        for (mediator, (exact, linear)) in exact.iter().zip(linear).enumerate() {
            for (exact, linear) in exact.iter().zip(linear) {
                let example = exact.example;
                found.differences.insert(example, exact.total);
                let shares = (exact.total != 0.0).then_some((Scale::Difference, 1.0 / exact.total));
                for (scale, factor) in [(Scale::Metric, 1.0)].into_iter().chain(shares) {
                    let first = found.place(mediator, scale);
                    let (exact, linear) = (exact.restored * factor, linear.restored * factor);
                    let sums = &mut found.groups[group_of[example]];
                    for (offset, value) in
                        [1.0, exact, linear, (linear - exact).abs(), exact.abs()].into_iter().enumerate()
                    {
                        sums.add(first + offset, value);
                    }
                }
            }
        }
        found
    }

    /// Where a mediator's sums begin.
    fn place(&self, mediator: usize, scale: Scale) -> usize {
        (scale as usize * self.mediators + mediator) * WIDTH
    }

    /// Number of prompts whose clean and counterfactual value are the same: there are no shares of nothing, and they do not count there.
    pub fn undivided(&self) -> usize {
        self.differences.values().filter(|difference| **difference == 0.0).count()
    }

    /// The smallest size of what a prompt's effects are divided by.
    pub fn smallest_difference(&self) -> f64 {
        let sizes = self.differences.values().map(|difference| difference.abs()).filter(|size| *size > 0.0);
        sizes.fold(f64::INFINITY, f64::min)
    }

    /// Every mediator's effects, intervals over groups of prompts.
    pub fn of_mediators(&self, scale: Scale, seed: u64) -> Vec<MediatorEffects> {
        let means = (0..self.mediators).flat_map(|mediator| [EXACT, LINEAR, ERROR].map(|of| (mediator, of)));
        let means: Vec<_> = means
            .map(|(mediator, of)| {
                let first = self.place(mediator, scale);
                move |sums: &Totals| mean(sums, first, of)
            })
            .collect();
        let all = merged(&self.groups);
        let found = estimates(&self.groups, &means, seed);
        let of = |(mediator, found): (usize, &[Estimate])| MediatorEffects {
            n: all.at(self.place(mediator, scale)) as u64,
            exact: found[0],
            linear: found[1],
            error: found[2],
        };
        found.chunks_exact(3).enumerate().map(of).collect()
    }

    /// Over all mediators, intervals over groups of prompts.
    pub fn agreement(&self, scale: Scale, seed: u64) -> Agreement {
        let firsts: Vec<usize> = (0..self.mediators).map(|mediator| self.place(mediator, scale)).collect();
        let firsts = &firsts;
        let metrics = [mean_error, sd_error, mean_absolute_error, nmae, correlation];
        let metrics = metrics.map(|metric: fn(&Totals, &[usize]) -> f64| move |sums: &Totals| metric(sums, firsts));
        let found = estimates(&self.groups, &metrics, seed);
        Agreement {
            mean_error: found[0],
            sd_error: found[1],
            mean_absolute_error: found[2],
            nmae: found[3],
            pearson: found[4],
        }
    }
}

/// A mediator's mean over prompts; `first` is where its sums begin.
fn mean(sums: &Totals, first: usize, of: usize) -> f64 {
    let sum = match of {
        ERROR => sums.at(first + LINEAR) - sums.at(first + EXACT),
        _ => sums.at(first + of),
    };
    sum / sums.at(first + N)
}

/// The mean error of each mediator that some prompt has.
fn errors<'s>(sums: &'s Totals, firsts: &'s [usize]) -> impl Iterator<Item = f64> + Clone + 's {
    firsts.iter().filter(|first| sums.at(**first + N) > 0.0).map(|first| mean(sums, *first, ERROR))
}

fn mean_error(sums: &Totals, firsts: &[usize]) -> f64 {
    let (sum, n) = errors(sums, firsts).fold((0.0, 0.0), |(sum, n), error| (sum + error, n + 1.0));
    sum / n
}

/// With Bessel's correction.
fn sd_error(sums: &Totals, firsts: &[usize]) -> f64 {
    let mean = mean_error(sums, firsts);
    let squares = errors(sums, firsts).map(|error| (error - mean).powi(2));
    let (sum, n) = squares.fold((0.0, 0.0), |(sum, n), square| (sum + square, n + 1.0));
    (sum / (n - 1.0)).sqrt()
}

fn total(sums: &Totals, firsts: &[usize], of: usize) -> f64 {
    firsts.iter().map(|first| sums.at(first + of)).sum()
}

fn mean_absolute_error(sums: &Totals, firsts: &[usize]) -> f64 {
    total(sums, firsts, ABSOLUTE_ERROR) / total(sums, firsts, N)
}

fn nmae(sums: &Totals, firsts: &[usize]) -> f64 {
    100.0 * total(sums, firsts, ABSOLUTE_ERROR) / total(sums, firsts, ABSOLUTE_EXACT)
}

fn correlation(sums: &Totals, firsts: &[usize]) -> f64 {
    let there = firsts.iter().filter(|first| sums.at(**first + N) > 0.0);
    pearson(&there.map(|first| (mean(sums, *first, EXACT), mean(sums, *first, LINEAR))).collect::<Vec<_>>())
}
