//! The metric of some prompts when a set of items is kept and everything else is patched with its counterfactual.

use mediant_lm::{Hooks, Model, Rows, State};
use mediant_tensor::Compute;

use super::ItemSet;
use super::family::{Family, Parts};
use super::latents::{Decoded, LatentRuns};
use super::patched::Others;
use crate::sweep::{Activations, run, run_from, up_to};
use crate::{Metric, Pair, Result};

/// Some prompts beside their counterfactuals, both runs made, ready for any set of a family.
pub(super) struct Bench<'a, C: Compute> {
    model: &'a Model<C>,
    pair: Pair<C>,
    metric: Metric,
    family: &'a Family,
    /// The clean run before the first place where the family's sets differ.
    before: State<C>,
    others: Others<C>,
    /// The metric of every clean run.
    pub(super) clean: Vec<f64>,
    /// The metric of every counterfactual run.
    pub(super) counterfactual: Vec<f64>,
}

impl<'a, C: Compute> Bench<'a, C> {
    /// Makes both runs.
    pub(super) fn new(model: &'a Model<C>, family: &'a Family, pair: Pair<C>, metric: Metric) -> Result<Self> {
        let points = family.points(model.config());
        let other = run(model, pair.corrupted()?, points.clone(), metric, &pair.answers)?;
        let (before, clean, others) = match &family.parts {
            Parts::Latents(spliced, _) => {
                let before = up_to(model, &pair.clean, spliced.first())?;
                let clean = run_from(model, &pair.clean, before.clone(), points, metric, &pair.answers)?;
                let decoded = |run: &Activations<C>| Decoded::of_run(spliced, run);
                let runs =
                    LatentRuns { clean: decoded(&clean.activations)?, counterfactual: decoded(&other.activations)? };
                (before, clean.values, Others::Latents(Box::new(runs)))
            }
            Parts::Nodes(_) | Parts::Edges(..) => {
                let clean = run(model, &pair.clean, [], metric, &pair.answers)?;
                (State::Start, clean.values, Others::Run(other.activations))
            }
        };
        Ok(Self { model, pair, metric, family, before, others, clean, counterfactual: other.values })
    }

    /// Number of the first prompt.
    pub(super) fn first(&self) -> u32 {
        self.pair.first
    }

    /// The metric of every prompt when only these items are kept.
    pub(super) fn values(&self, kept: &ItemSet) -> Result<Vec<f64>> {
        let pass = |hooks: Hooks<'_, C>| {
            Ok(self.model.logits_from(&self.pair.clean, self.before.clone(), Rows::Last, hooks)?)
        };
        let logits = self.family.patched(self.model, kept, &self.others, pass)?;
        self.metric.values(logits, &self.pair.answers)
    }
}
