//! Attribution patching and integrated gradients: what patching would give, to first order, for all mediators from a few passes.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::Contrast;
use mediant_lm::{Batch, Differentiable, HookPoint, Hooks, Model, Place, State};
use mediant_tensor::{Compute, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sweep::{Activations, run, share};
use crate::{Error, Metric, Pair, Pairs, Result, Sink, Target};

/// At which run the gradient is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The counterfactual run, towards the clean one: `(a_clean − a_counterfactual) · ∂m/∂a`, TransformerLens' convention.
    #[default]
    Counterfactual,
    /// The clean run, towards the counterfactual one: `(a_counterfactual − a_clean) · ∂m/∂a`, the convention of EAP.
    Clean,
}

impl Reference {
    /// How effects become scores.
    pub fn contrast(self) -> Contrast {
        match self {
            Self::Counterfactual => Contrast::Restored,
            Self::Clean => Contrast::Lost,
        }
    }

    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counterfactual => "counterfactual",
            Self::Clean => "clean",
        }
    }
}

/// Where on the way from counterfactual to clean gradients are taken, as shares of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `(k + ½)/n`: the error falls with 1/n².
    #[default]
    Midpoint,
    /// `k/n` from 0: the sum of EAP-IG's code.
    Left,
    /// `(k + 1)/n` to 1.
    Right,
}

impl Rule {
    /// The shares.
    pub fn shares(self, steps: usize) -> Vec<f32> {
        let offset = match self {
            Self::Midpoint => 0.5,
            Self::Left => 0.0,
            Self::Right => 1.0,
        };
        (0..steps).map(|k| ((k as f64 + offset) / steps as f64) as f32).collect()
    }

    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Midpoint => "midpoint",
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// Which gradient the difference of activations is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slope {
    /// That at one run (Nanda 2023).
    At(Reference),
    /// The mean over points between the two activations, each hook point moved alone (Sundararajan et al. 2017).
    OverActivations(Rule, usize),
    /// The mean over points between the two runs' token embeddings (Hanna et al. 2024).
    OverEmbeddings(Rule, usize),
}

impl Slope {
    /// How effects become scores.
    pub fn contrast(self) -> Contrast {
        match self {
            Self::At(reference) => reference.contrast(),
            Self::OverActivations(..) | Self::OverEmbeddings(..) => Contrast::Restored,
        }
    }
}

/// Both runs of some prompts, with their activations at all points.
pub(crate) struct Runs<C: Compute> {
    pub(crate) clean: crate::sweep::Run<C>,
    pub(crate) corrupted: crate::sweep::Run<C>,
}

impl<C: Compute> Runs<C> {
    pub(crate) fn new(model: &Model<C>, pair: &Pair<C>, points: &BTreeSet<HookPoint>, metric: Metric) -> Result<Self> {
        let run = |batch| run(model, batch, points.iter().copied(), metric, &pair.answers);
        Ok(Self { clean: run(&pair.clean)?, corrupted: run(pair.corrupted()?)? })
    }

    /// What the clean run has more than the other at a point.
    pub(crate) fn difference(&self, point: HookPoint) -> Result<Tensor<C, 3>> {
        let (clean, corrupted) = (at(&self.clean.activations, point)?, at(&self.corrupted.activations, point)?);
        // Scores of keys that a query does not see are −∞ in both.
        let equal = clean.clone().equal(corrupted.clone());
        Ok((clean - corrupted).mask_fill(equal, 0.0))
    }

    /// A share of the way from the counterfactual activation to the clean one.
    fn between(&self, point: HookPoint, share: f32) -> Result<Tensor<C, 3>> {
        Ok(at(&self.corrupted.activations, point)? + self.difference(point)? * share)
    }
}

fn at<C: Compute>(activations: &Activations<C>, point: HookPoint) -> Result<Tensor<C, 3>> {
    activations.get(&point).cloned().ok_or_else(|| Error::Data(format!("no pass came to `{point}`")))
}

/// Gradients of the metric at some points, mean over the points of the slope; and how many passes over the blocks it took, one
/// backward pass counted as one.
pub(crate) fn slopes<C: Compute>(
    differentiable: &Differentiable<'_, C>,
    model: &Model<C>,
    pair: &Pair<C>,
    runs: &Runs<C>,
    points: &BTreeSet<HookPoint>,
    slope: Slope,
    metric: Metric,
) -> Result<(Activations<C>, f64)> {
    let layers = model.config().n_layers;
    let mut mean = Activations::new();
    let mut passes = 0.0;
    let mut add = |batch: &Batch<C>,
                   state: State<C>,
                   replaced: &[(HookPoint, Tensor<C, 3>)],
                   points: &[HookPoint],
                   weight: f32|
     -> Result<()> {
        let of = |logits| Ok(metric.of(logits, &pair.answers));
        let mut take = |point, _, gradient: Tensor<C, 3>| {
            let gradient = gradient * weight;
            let sum = match mean.remove(&point) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            mean.insert(point, sum);
            Ok(())
        };
        differentiable.gradients(batch, state, replaced, points, &of, &mut take)?;
        Ok(())
    };
    let all: Vec<HookPoint> = points.iter().copied().collect();
    let corrupted = pair.corrupted()?;
    match slope {
        Slope::At(reference) => {
            let batch = match reference {
                Reference::Counterfactual => corrupted,
                Reference::Clean => &pair.clean,
            };
            add(batch, State::Start, &[], &all, 1.0)?;
            // Forward, forward again block by block, backward.
            passes += 3.0;
        }
        Slope::OverEmbeddings(rule, steps) => {
            for share in rule.shares(steps) {
                let embed = [(HookPoint::Embed, runs.between(HookPoint::Embed, share)?)];
                add(corrupted, State::Start, &embed, &all, 1.0 / steps as f32)?;
                passes += 3.0;
            }
        }
        Slope::OverActivations(rule, steps) => {
            let mut state = State::Start;
            for point in all {
                let place = Place::before(point, layers);
                // Embeddings lie before every place that can be kept.
                if point > HookPoint::PosEmbed {
                    state = model.advance(corrupted, state, place, Hooks::none())?;
                }
                for weight in rule.shares(steps) {
                    let moved = [(point, runs.between(point, weight)?)];
                    add(corrupted, state.clone(), &moved, &[point], 1.0 / steps as f32)?;
                    passes += 3.0 * share(place, layers);
                }
            }
            passes += 1.0;
        }
    }
    Ok((mean, passes))
}

/// Attributes the difference between each prompt and its counterfactual to the targets: Σ (difference of activations · slope) over what a
/// target selects. The patched value recorded is the one predicted. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, and whatever the passes and the recorder give.
pub fn attribute<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    targets: &[Target],
    slope: Slope,
    metric: Metric,
    recorder: &mut impl Sink,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let points: BTreeSet<HookPoint> = targets.iter().map(|target| target.point).collect();
    let mut read = points.clone();
    if matches!(slope, Slope::OverEmbeddings(..)) {
        read.insert(HookPoint::Embed);
    }
    let differentiable = Differentiable::new(model).map_err(Error::from)?;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let runs = Runs::new(model, &pair, &read, metric)?;
        let (slopes, passes) = slopes(&differentiable, model, &pair, &runs, &points, slope, metric)?;
        recorder.count(range.len(), 2.0 + passes);
        let mut products = BTreeMap::new();
        for &point in &points {
            let product = runs.difference(point)? * at(&slopes, point)?;
            products.insert(point, Product::new(point, product, targets)?);
        }
        let (clean, corrupted) = (&runs.clean.values, &runs.corrupted.values);
        for (index, target) in targets.iter().enumerate() {
            let sums = products[&target.point].sums(target, &pair.clean)?;
            let predicted: Vec<f64> = match slope.contrast() {
                // Away from the clean run the difference has the other sign.
                Contrast::Lost => clean.iter().zip(&sums).map(|(clean, sum)| clean - sum).collect(),
                _ => corrupted.iter().zip(&sums).map(|(corrupted, sum)| corrupted + sum).collect(),
            };
            let reached = |example| pairs.reaches(example, &target.select.positions);
            recorder.record_where(index, pair.first, clean, Some(corrupted), &predicted, reached)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// Products of differences and slopes on the host, `[rows, units, width]`, with the width summed if no target divides it.
struct Product {
    units: usize,
    width: usize,
    values: Vec<f32>,
}

impl Product {
    fn new<C: Compute>(point: HookPoint, product: Tensor<C, 3>, targets: &[Target]) -> Result<Self> {
        let divided = targets.iter().any(|target| target.point == point && target.select.numbers.is_some());
        let product = if divided { product } else { product.sum_dim(2) };
        let [_, units, width] = product.dims();
        let values = product.into_data().into_vec();
        let values = values.map_err(|error| Error::Data(format!("`{point}` cannot be read: {error:?}")))?;
        Ok(Self { units, width, values })
    }

    /// The sum over what a target selects, for each sequence.
    fn sums<C: Compute>(&self, target: &Target, batch: &Batch<C>) -> Result<Vec<f64>> {
        let rows = target.select.positions.rows(batch)?;
        let heads: Vec<usize> = target.select.heads.clone().unwrap_or_else(|| (0..self.units).collect());
        let numbers: Vec<usize> = target.select.numbers.clone().unwrap_or_else(|| (0..self.width).collect());
        let row_sum = |row: usize| -> f64 {
            let unit = |head: usize| {
                let start = (row * self.units + head) * self.width;
                numbers.iter().map(|number| f64::from(self.values[start + number])).sum::<f64>()
            };
            heads.iter().map(|&head| unit(head)).sum()
        };
        let sum = |s: &mediant_lm::Sequence| s.rows().filter(|&row| rows[row]).map(row_sum).sum();
        Ok(batch.sequences().iter().map(sum).collect())
    }
}
