//! The metric of some prompts when a set of items is kept and everything else is patched with its counterfactual.

use std::collections::BTreeSet;

use mediant_lm::{Edit, HookPoint, Hooks, Model, Replace, Rows, Select, State, Values};
use mediant_tensor::{Compute, Tensor};

use super::circuit::Circuit;
use super::family::{Family, Parts, PatchPoint, Pieces};
use super::latents::LatentRuns;
use super::{ItemSet, Outside};
use crate::sweep::{Activations, Run, run};
use crate::{Error, Metric, Pair, Result};

/// Some prompts beside their counterfactuals, both runs made, ready for any set of a family.
pub(super) struct Bench<'a, C: Compute> {
    model: &'a Model<C>,
    pair: Pair<C>,
    metric: Metric,
    family: &'a Family,
    runs: FamilyRuns<C>,
    /// The metric of every clean run.
    pub(super) clean: Vec<f64>,
    /// The metric of every counterfactual run.
    pub(super) counterfactual: Vec<f64>,
}

/// What both runs left behind that the sets of a family need.
enum FamilyRuns<C: Compute> {
    /// Counterfactual activations at the patched points.
    Nodes(Activations<C>),
    Edges(Activations<C>),
    Latents(Box<LatentRuns<C>>),
}

impl<'a, C: Compute> Bench<'a, C> {
    /// Makes both runs.
    pub(super) fn new(model: &'a Model<C>, family: &'a Family, pair: Pair<C>, metric: Metric) -> Result<Self> {
        let points: BTreeSet<HookPoint> = match &family.parts {
            Parts::Nodes(points) => points.iter().map(|point| point.point).collect(),
            Parts::Edges(graph, _) => Circuit::<C>::points(graph, model.config()),
            Parts::Latents(spliced, _) => [spliced.reads, spliced.writes].into(),
        };
        let of_latents = matches!(family.parts, Parts::Latents(..));
        let clean_points = if of_latents { points.clone() } else { BTreeSet::new() };
        let Run { values: clean, activations: clean_activations } =
            run(model, &pair.clean, clean_points, metric, &pair.answers)?;
        let Run { values: counterfactual, activations } = run(model, pair.corrupted()?, points, metric, &pair.answers)?;
        let runs = match &family.parts {
            Parts::Nodes(_) => FamilyRuns::Nodes(activations),
            Parts::Edges(..) => FamilyRuns::Edges(activations),
            Parts::Latents(spliced, _) => {
                FamilyRuns::Latents(Box::new(LatentRuns::new(model, spliced, &pair, clean_activations, &activations)?))
            }
        };
        Ok(Self { model, pair, metric, family, runs, clean, counterfactual })
    }

    /// Number of the first prompt.
    pub(super) fn first(&self) -> u32 {
        self.pair.first
    }

    /// The metric of every prompt when only these items are kept.
    pub(super) fn values(&self, kept: &ItemSet) -> Result<Vec<f64>> {
        let logits = match (&self.family.parts, &self.runs) {
            (Parts::Nodes(points), FamilyRuns::Nodes(theirs)) => self.nodes(points, theirs, kept)?,
            (Parts::Edges(graph, places), FamilyRuns::Edges(theirs)) => {
                let circuit = Circuit::new(self.model, graph, places, kept, theirs);
                self.logits(circuit.hooks())?
            }
            (Parts::Latents(spliced, latents), FamilyRuns::Latents(runs)) => {
                let with = Values::Rows(runs.mixed(spliced, latents, kept, &self.model.device()));
                let edit = Replace { with, select: Select::default() };
                let hooks = Hooks::none().edit(spliced.writes, &edit);
                self.model.logits_from(&self.pair.clean, runs.before.clone(), Rows::Last, hooks)?
            }
            _ => return Err(Error::Data("runs of another family".to_owned())),
        };
        self.metric.values(logits, &self.pair.answers)
    }

    fn nodes(&self, points: &[PatchPoint], theirs: &Activations<C>, kept: &ItemSet) -> Result<Tensor<C, 2>> {
        let mut edits: Vec<(HookPoint, Replace<C>)> = Vec::new();
        for patched in points {
            let Some(select) = patched.pieces.patched(kept) else { continue };
            let with = theirs.get(&patched.point).cloned();
            let with = with.ok_or_else(|| Error::Data(format!("no pass came to `{}`", patched.point)))?;
            edits.push((patched.point, Replace { with: Values::Rows(with), select }));
        }
        self.logits(edits.iter().fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, edit as &dyn Edit<C>)))
    }

    fn logits(&self, hooks: Hooks<'_, C>) -> Result<Tensor<C, 2>> {
        Ok(self.model.logits_from(&self.pair.clean, State::Start, Rows::Last, hooks)?)
    }
}

impl Pieces {
    /// What is patched here when these items are kept; none if nothing is.
    fn patched(&self, kept: &ItemSet) -> Option<Select> {
        let lost = |items: &[Option<usize>], outside: Outside| -> Vec<usize> {
            let patched = outside == Outside::Counterfactual;
            let is_lost = |item: &Option<usize>| item.map_or(patched, |item| !kept.has(item));
            items.iter().enumerate().filter(|(_, item)| is_lost(item)).map(|(place, _)| place).collect()
        };
        let (lost, of) = match self {
            Self::Whole(item) => return item.is_none_or(|item| !kept.has(item)).then(Select::default),
            Self::Heads(items, outside) | Self::Neurons(items, outside) => (lost(items, *outside), items.len()),
        };
        match self {
            _ if lost.is_empty() => None,
            // What is patched as a whole need not be computed.
            _ if lost.len() == of => Some(Select::default()),
            Self::Heads(..) => Some(Select { heads: Some(lost), ..Select::default() }),
            _ => Some(Select { numbers: Some(lost), ..Select::default() }),
        }
    }
}
