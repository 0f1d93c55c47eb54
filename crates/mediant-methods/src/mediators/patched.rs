//! A pass in which only the items of a set are kept, and something else stands in for all others.

use std::collections::BTreeSet;

use mediant_lm::{Edit, HookPoint, Hooks, LmConfig, Model, Replace, Select, Values};
use mediant_tensor::{Compute, Tensor, TensorData};

use super::circuit::{self, Circuit};
use super::family::{Family, Parts, Pieces};
use super::latents::{LatentRuns, LatentSet};
use super::{ItemSet, Outside};
use crate::sweep::Activations;
use crate::{Error, Result};

/// What stands in for items that are not kept, at [`Family::points`].
pub(super) enum Others<C: Compute> {
    /// Activations of another run over the same positions, `[rows, units, width]`. So they do for what is outside of the family, if it is
    /// patched.
    Run(Activations<C>),
    /// Means: `[1, units, width]` of what nodes write, `[rows, 1, d_model]` of the streams that receivers read. What is outside of the family
    /// computes as usual.
    Means(Activations<C>),
    /// Of a dictionary, what it makes of both runs.
    Latents(Box<LatentRuns>),
}

impl Family {
    /// Where activations of another run are needed.
    pub(super) fn points(&self, config: &LmConfig) -> BTreeSet<HookPoint> {
        match &self.parts {
            Parts::Nodes(points) => points.iter().map(|point| point.point).collect(),
            Parts::Edges(graph, _) => circuit::points(graph, config),
            Parts::Latents(spliced, _) => [spliced.reads, spliced.writes].into(),
        }
    }

    /// Makes a pass with the edits that leave only these items as they are.
    pub(super) fn patched<C: Compute, T>(
        &self,
        model: &Model<C>,
        kept: &ItemSet,
        others: &Others<C>,
        pass: impl FnOnce(Hooks<'_, C>) -> Result<T>,
    ) -> Result<T> {
        let outside = if matches!(others, Others::Means(_)) { Outside::Live } else { self.outside };
        match (&self.parts, others) {
            (Parts::Nodes(points), Others::Run(theirs) | Others::Means(theirs)) => {
                let mut edits: Vec<(HookPoint, Replace<C>)> = Vec::new();
                for patched in points {
                    let Some(select) = patched.pieces.patched(kept, outside) else { continue };
                    let with = theirs.get(&patched.point).cloned();
                    let with = with.ok_or_else(|| Error::Data(format!("no pass came to `{}`", patched.point)))?;
                    let with = if matches!(others, Others::Run(_)) { Values::Rows(with) } else { Values::Same(with) };
                    edits.push((patched.point, Replace { with, select }));
                }
                pass(edits.iter().fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, edit as &dyn Edit<C>)))
            }
            (Parts::Edges(graph, places), Others::Run(theirs) | Others::Means(theirs)) => {
                let mut items = vec![None; graph.edge_count()];
                places.iter().enumerate().for_each(|(item, &edge)| items[edge] = Some(item));
                let lost: Vec<bool> = items.iter().map(|item| is_lost(*item, kept, outside)).collect();
                let circuit = Circuit::new(model, graph, &lost, theirs, matches!(others, Others::Run(_)));
                pass(circuit.hooks())
            }
            (Parts::Latents(spliced, latents), Others::Latents(runs)) => {
                let mixed = runs.mixed(spliced, &LatentSet::new(spliced, latents, kept));
                let mixed = Tensor::from_data(TensorData::new(mixed, runs.clean.shape), &model.device());
                let edit = Replace { with: Values::Rows(mixed), select: Select::default() };
                pass(Hooks::none().edit(spliced.writes, &edit))
            }
            _ => Err(Error::Data("what stands in for items is of another family".to_owned())),
        }
    }
}

/// Whether a part of the model, which may be an item, is not kept.
fn is_lost(item: Option<usize>, kept: &ItemSet, outside: Outside) -> bool {
    item.map_or(outside == Outside::Counterfactual, |item| !kept.has(item))
}

impl Pieces {
    /// What is patched here when these items are kept; none if nothing is.
    fn patched(&self, kept: &ItemSet, outside: Outside) -> Option<Select> {
        let lost = |items: &[Option<usize>]| -> Vec<usize> {
            items
                .iter()
                .enumerate()
                .filter(|(_, item)| is_lost(**item, kept, outside))
                .map(|(place, _)| place)
                .collect()
        };
        let (lost, of) = match self {
            Self::Whole(item) => return is_lost(*item, kept, outside).then(Select::default),
            Self::Heads(items) | Self::Neurons(items) => (lost(items), items.len()),
        };
        match self {
            _ if lost.is_empty() => None,
            // What is patched as a whole need not be computed.
            _ if lost.len() == of => Some(Select::default()),
            Self::Heads(_) => Some(Select { heads: Some(lost), ..Select::default() }),
            _ => Some(Select { numbers: Some(lost), ..Select::default() }),
        }
    }
}
