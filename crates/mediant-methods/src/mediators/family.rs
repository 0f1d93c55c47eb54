//! Families of mediators: all items of one kind that a behaviour may go through, read off the addresses of scores.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::Mediator;
use mediant_dict::Sae;
use mediant_lm::{HookPoint, LmConfig, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ItemSet;
use crate::{Error, Graph, Result};

/// What becomes of the parts of a model that are no items of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// Heads and MLPs outside the family are patched with their counterfactual, too.
    #[default]
    Counterfactual,
    /// They go on computing from what reaches them.
    Live,
}

impl Outside {
    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counterfactual => "counterfactual",
            Self::Live => "live",
        }
    }
}

/// An autoencoder or transcoder, where it reads and where it writes.
#[derive(Clone)]
pub struct Spliced {
    /// The dictionary.
    pub sae: Sae,
    /// What it reads.
    pub reads: HookPoint,
    /// What it reconstructs; of an autoencoder the same.
    pub writes: HookPoint,
}

impl Spliced {
    /// The first hook point that it has to do with.
    pub(super) fn first(&self) -> HookPoint {
        self.reads.min(self.writes)
    }
}

/// Items of a model, numbered as their scores come.
pub struct Family {
    pub(super) items: usize,
    pub(super) parts: Parts,
    pub(super) outside: Outside,
    /// Outgoing edges of the graph of EAP that an item stands for; none for what is not in that graph.
    edges: Option<Vec<f64>>,
}

pub(super) enum Parts {
    Nodes(Vec<PatchPoint>),
    Edges(Graph, Vec<usize>),
    Latents(Box<Spliced>, Vec<Option<u32>>),
}

/// A hook point whose activation is patched but for the items that are kept.
pub(super) struct PatchPoint {
    pub(super) point: HookPoint,
    pub(super) pieces: Pieces,
}

/// What stands at a hook point.
pub(super) enum Pieces {
    /// One item, or nothing of the family: always patched.
    Whole(Option<usize>),
    /// Heads, each with its item, if it is one.
    Heads(Vec<Option<usize>>),
    /// Neurons, likewise.
    Neurons(Vec<Option<usize>>),
}

/// A part of a model that may be an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Address {
    Whole(HookPoint),
    Head(usize, usize),
    Neuron(usize, usize),
}

impl Family {
    /// The family that these mediators are the items of: heads, neurons, sublayers (also mixed), edges of the graph of EAP, or latents
    /// of `dictionary` with its error.
    ///
    /// # Errors
    /// [`Error::Data`] if there are none, they are not of one family, some are of the residual stream or of some positions alone, two
    /// are of one place, or the model does not have them.
    pub fn new(
        mediators: &[&Mediator],
        config: &LmConfig,
        outside: Outside,
        dictionary: Option<Spliced>,
    ) -> Result<Self> {
        let Some(first) = mediators.first() else { return Err(Error::Data("there are no scores".to_owned())) };
        if let Some(some) = mediators.iter().find(|mediator| mediator.position.is_some() || mediator.span.is_some()) {
            let why = format!("`{}` is of some positions; sets are made of what stands at all positions", some.name);
            return Err(Error::Data(why));
        }
        let (parts, edges) = match first.kind.as_str() {
            "latent" | "error" => (latents(mediators, dictionary)?, None),
            _ if dictionary.is_some() => {
                let why =
                    format!("the scores are of `{}`, not of latents, and have no use for a dictionary", first.name);
                return Err(Error::Data(why));
            }
            "edge" => edges(mediators, config)?,
            _ => nodes(mediators, config, outside)?,
        };
        Ok(Self { items: mediators.len(), parts, outside, edges })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there is none, which never is.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The item that is a dictionary's error, where there is one.
    pub fn error(&self) -> Option<usize> {
        let Parts::Latents(_, latents) = &self.parts else { return None };
        latents.iter().position(Option::is_none)
    }

    /// Edges of the graph of EAP that a set has, an edge from a node of which a part is kept counted as that part of an edge (MIB's
    /// weighted edge count); none where the items are not of that graph.
    pub fn weighted_edges(&self, kept: &ItemSet) -> Option<f64> {
        let edges = self.edges.as_ref()?;
        Some(kept.items().map(|item| edges[item]).sum())
    }
}

type Found = (Parts, Option<Vec<f64>>);

fn edges(mediators: &[&Mediator], config: &LmConfig) -> Result<Found> {
    let graph = Graph::new(config)?;
    let known = graph.mediators();
    let places: BTreeMap<&str, usize> = known.iter().enumerate().map(|(i, edge)| (edge.name.as_str(), i)).collect();
    let place = |mediator: &&Mediator| {
        let place = places.get(mediator.name.as_str()).copied();
        place.ok_or_else(|| Error::Data(format!("the model has no edge `{}`", mediator.name)))
    };
    let order = mediators.iter().map(place).collect::<Result<Vec<_>>>()?;
    let count = order.len();
    Ok((Parts::Edges(graph, order), Some(vec![1.0; count])))
}

fn latents(mediators: &[&Mediator], dictionary: Option<Spliced>) -> Result<Parts> {
    let dictionary = dictionary
        .ok_or_else(|| Error::Data("the scores are of latents: the autoencoder must be given, at `sae`".to_owned()))?;
    let d_sae = dictionary.sae.weights().d_sae;
    let own = dictionary.writes.to_string();
    let latent = |mediator: &&Mediator| {
        if mediator.hook.as_deref() != Some(own.as_str()) {
            let at = mediator.hook.as_deref().unwrap_or("no hook point");
            return Err(Error::Data(format!("`{}` is at {at}, the autoencoder at `{own}`", mediator.name)));
        }
        match (mediator.kind.as_str(), mediator.unit) {
            ("error", _) => Ok(None),
            ("latent", Some(unit)) if (unit as usize) < d_sae => Ok(Some(unit)),
            _ => Err(Error::Data(format!("`{}` is none of the autoencoder's {d_sae} latents", mediator.name))),
        }
    };
    let latents = mediators.iter().map(latent).collect::<Result<Vec<_>>>()?;
    if latents.iter().collect::<BTreeSet<_>>().len() < latents.len() {
        return Err(Error::Data("two scores are of one latent".to_owned()));
    }
    Ok(Parts::Latents(Box::new(dictionary), latents))
}

fn nodes(mediators: &[&Mediator], config: &LmConfig, outside: Outside) -> Result<Found> {
    let mut items: BTreeMap<Address, usize> = BTreeMap::new();
    for (item, mediator) in mediators.iter().enumerate() {
        if let Some(other) = items.insert(address(mediator, config)?, item) {
            let (a, b) = (&mediators[other].name, &mediator.name);
            return Err(Error::Data(format!("`{a}` and `{b}` are one part of the model")));
        }
    }
    let mut points = Vec::new();
    for layer in 0..config.n_layers {
        let at = |site| HookPoint::Block(layer, site);
        let heads: Vec<_> = (0..config.n_heads).map(|head| items.get(&Address::Head(layer, head)).copied()).collect();
        let neurons: Vec<_> = (0..config.d_mlp).map(|i| items.get(&Address::Neuron(layer, i)).copied()).collect();
        let whole = |site| items.get(&Address::Whole(at(site))).copied();
        let some = |items: &[Option<usize>]| items.iter().any(Option::is_some);
        if (some(&heads) && whole(Site::AttnOut).is_some()) || (some(&neurons) && whole(Site::MlpOut).is_some()) {
            return Err(Error::Data(format!("in layer {layer} a sublayer and a part of it are both scored")));
        }
        let attention = match whole(Site::AttnOut) {
            Some(item) => Some((Site::AttnOut, Pieces::Whole(Some(item)))),
            None if some(&heads) => Some((Site::Z, Pieces::Heads(heads))),
            None => (outside == Outside::Counterfactual).then_some((Site::AttnOut, Pieces::Whole(None))),
        };
        let mlp = match whole(Site::MlpOut) {
            Some(item) => Some((Site::MlpOut, Pieces::Whole(Some(item)))),
            None if some(&neurons) => Some((Site::MlpPost, Pieces::Neurons(neurons))),
            None => (outside == Outside::Counterfactual).then_some((Site::MlpOut, Pieces::Whole(None))),
        };
        let here = attention.into_iter().chain(mlp);
        points.extend(here.map(|(site, pieces)| PatchPoint { point: at(site), pieces }));
    }
    let edges = Graph::new(config).ok().map(|graph| outgoing(&items, &graph, config));
    Ok((Parts::Nodes(points), edges))
}

/// Where a score's mediator is.
fn address(mediator: &Mediator, config: &LmConfig) -> Result<Address> {
    let name = &mediator.name;
    let hook = mediator.hook.as_deref().ok_or_else(|| Error::Data(format!("`{name}` has no hook point")))?;
    let point: HookPoint = hook.parse()?;
    let HookPoint::Block(layer, site) = point else { return Err(no_item(name, hook)) };
    let unit = mediator.unit.map(|unit| unit as usize);
    let beyond = |units: usize| Error::Data(format!("`{name}`: the model has {units} there"));
    if layer >= config.n_layers {
        return Err(Error::Data(format!("`{name}`: the model has {} layers", config.n_layers)));
    }
    match (site, unit) {
        (Site::Z | Site::Result, Some(head)) if head < config.n_heads => Ok(Address::Head(layer, head)),
        (Site::Z | Site::Result, Some(_)) => Err(beyond(config.n_heads)),
        (Site::MlpPost, Some(neuron)) if neuron < config.d_mlp => Ok(Address::Neuron(layer, neuron)),
        (Site::MlpPost, Some(_)) => Err(beyond(config.d_mlp)),
        (Site::Z, None) => Ok(Address::Whole(HookPoint::Block(layer, Site::AttnOut))),
        (Site::MlpPost, None) => Ok(Address::Whole(HookPoint::Block(layer, Site::MlpOut))),
        (Site::AttnOut | Site::MlpOut, None) => Ok(Address::Whole(point)),
        _ => Err(no_item(name, hook)),
    }
}

fn no_item(name: &str, hook: &str) -> Error {
    Error::Data(format!(
        "`{name}`: sets are made of heads (`attn.hook_z`), neurons (`mlp.hook_post`), sublayers (`hook_attn_out`, `hook_mlp_out`), edges \
         or latents, and not of parts of `{hook}`; what is cut there cuts everything above it, so it is measured by interchange"
    ))
}

/// How many edges leave each item.
fn outgoing(items: &BTreeMap<Address, usize>, graph: &Graph, config: &LmConfig) -> Vec<f64> {
    let mut leaving: BTreeMap<String, f64> = BTreeMap::new();
    for edge in graph.mediators() {
        *leaving.entry(edge.source.unwrap_or_default()).or_default() += 1.0;
    }
    let of = |node: String| leaving.get(&node).copied().unwrap_or(0.0);
    let mut edges = vec![0.0; items.len()];
    for (address, &item) in items {
        edges[item] = match *address {
            Address::Head(layer, head) => of(format!("a{layer}.h{head}")),
            Address::Neuron(layer, _) => of(format!("m{layer}")) / config.d_mlp as f64,
            Address::Whole(HookPoint::Block(layer, Site::AttnOut)) => {
                (0..config.n_heads).map(|head| of(format!("a{layer}.h{head}"))).sum()
            }
            Address::Whole(HookPoint::Block(layer, _)) => of(format!("m{layer}")),
            Address::Whole(_) => 0.0,
        };
    }
    edges
}
