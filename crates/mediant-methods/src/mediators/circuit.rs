//! A pass in which every receiver of the graph of EAP reads, from each node, what the node computes if the edge between them is kept,
//! and the node's counterfactual output if it is not (MIB's circuits; Hanna et al. 2024, arXiv:2403.17806).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mediant_lm::{Batch, Edit, HookPoint, Hooks, LmConfig, Model, Site};
use mediant_tensor::{Compute, Tensor};

use super::ItemSet;
use crate::sweep::Activations;
use crate::{Graph, Receiver};

/// A set of kept edges, as an edit of all points where nodes write and receivers read.
pub(super) struct Circuit<'a, C: Compute> {
    model: &'a Model<C>,
    graph: &'a Graph,
    /// By receiving point and head there, the nodes that it hears: kept edges from nodes that something reaches.
    heard: BTreeMap<HookPoint, Vec<Vec<usize>>>,
    /// Nodes that somebody hears.
    speaking: BTreeSet<usize>,
    /// What the counterfactual run had at [`Self::points`].
    theirs: &'a Activations<C>,
    /// By node, what it writes in this pass less what it writes in the counterfactual run, `[rows, 1, d_model]`.
    differences: Mutex<BTreeMap<usize, Tensor<C, 3>>>,
}

impl<'a, C: Compute> Circuit<'a, C> {
    /// Where a counterfactual run must be read.
    pub(super) fn points(graph: &Graph, config: &LmConfig) -> BTreeSet<HookPoint> {
        let senders = graph.nodes.iter().map(|node| node.point);
        senders.chain(graph.receivers.iter().map(|receiver| read_at(receiver.point, config))).collect()
    }

    /// The edges numbered `places[item]` of the kept items.
    pub(super) fn new(
        model: &'a Model<C>,
        graph: &'a Graph,
        places: &[usize],
        kept: &ItemSet,
        theirs: &'a Activations<C>,
    ) -> Self {
        let kept: BTreeSet<usize> = kept.items().map(|item| places[item]).collect();
        let mut heard: BTreeMap<HookPoint, Vec<Vec<usize>>> = BTreeMap::new();
        // The token embeddings are those of the clean prompt.
        let mut reached = BTreeSet::from([0]);
        let mut first = 0;
        for receiver in &graph.receivers {
            let before = graph.before(receiver).len();
            let nodes = (0..before).filter(|node| kept.contains(&(first + node)));
            let nodes: Vec<usize> = nodes.filter(|node| reached.contains(node)).collect();
            if !nodes.is_empty() {
                reached.extend(fed_by(receiver, graph, model.config()));
            }
            heard.entry(receiver.point).or_default().push(nodes);
            first += before;
        }
        let speaking = heard.values().flatten().flatten().copied().collect();
        Self { model, graph, heard, speaking, theirs, differences: Mutex::default() }
    }

    /// This edit at every point that it needs.
    pub(super) fn hooks(&self) -> Hooks<'_, C> {
        let senders = self.graph.nodes.iter().enumerate().filter(|(node, _)| self.speaking.contains(node));
        let senders: BTreeSet<HookPoint> = senders.map(|(_, node)| node.point).collect();
        let points = senders.into_iter().chain(self.heard.keys().copied());
        points.fold(Hooks::none(), |hooks, point| hooks.edit(point, self))
    }

    fn theirs(&self, point: HookPoint) -> mediant_lm::Result<Tensor<C, 3>> {
        let missing = || mediant_lm::Error::Hook(format!("no counterfactual came to `{point}`"));
        self.theirs.get(&point).cloned().ok_or_else(missing)
    }

    /// Notes what the nodes at a point write.
    fn note(&self, point: HookPoint, activation: Tensor<C, 3>) -> mediant_lm::Result<()> {
        let difference = activation - self.theirs(point)?;
        let written = match point {
            HookPoint::Block(layer, Site::Z) => self.model.head_results(layer, difference),
            _ => difference,
        };
        let nodes = self.graph.nodes.iter().enumerate().filter(|(_, node)| node.point == point);
        let mut differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, sender) in nodes.filter(|(node, _)| self.speaking.contains(node)) {
            differences.insert(node, written.clone().narrow(1, sender.head.unwrap_or(0), 1));
        }
        Ok(())
    }

    /// What the heads at a point, or the one reader there, read: the counterfactual stream, and the differences that they hear.
    fn heard_at(&self, point: HookPoint, heads: &[Vec<usize>]) -> mediant_lm::Result<Tensor<C, 3>> {
        let stream = self.theirs(read_at(point, self.model.config()))?;
        let differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        let input = |nodes: &Vec<usize>| {
            let heard = nodes.iter().filter_map(|node| differences.get(node));
            heard.fold(stream.clone(), |sum, difference| sum + difference.clone())
        };
        Ok(Tensor::cat(heads.iter().map(input).collect(), 1))
    }
}

impl<C: Compute> Edit<C> for Circuit<'_, C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        match self.heard.get(&point) {
            Some(heads) => self.heard_at(point, heads),
            None => {
                self.note(point, activation.clone())?;
                Ok(activation)
            }
        }
    }
}

/// Where the stream that a receiver reads is one for all heads.
fn read_at(point: HookPoint, config: &LmConfig) -> HookPoint {
    match point {
        HookPoint::Block(layer, Site::MlpIn) if config.parallel => HookPoint::Block(layer, Site::ResidPre),
        HookPoint::Block(layer, Site::MlpIn) => HookPoint::Block(layer, Site::ResidMid),
        HookPoint::Block(layer, Site::QInput | Site::KInput | Site::VInput) => HookPoint::Block(layer, Site::ResidPre),
        other => other,
    }
}

/// The nodes whose output depends on what a receiver reads.
fn fed_by(receiver: &Receiver, graph: &Graph, config: &LmConfig) -> Vec<usize> {
    let HookPoint::Block(layer, site) = receiver.point else { return Vec::new() };
    let head = receiver.heads.as_ref().and_then(|heads| heads.first().copied());
    let group = config.n_heads / config.n_kv_heads;
    let fed = |node: &crate::Sender| match (site, node.point) {
        (Site::MlpIn, HookPoint::Block(of, Site::MlpOut)) => of == layer,
        (Site::QInput, HookPoint::Block(of, Site::Z)) => of == layer && node.head == head,
        (Site::KInput | Site::VInput, HookPoint::Block(of, Site::Z)) => {
            of == layer && node.head.map(|query| query / group) == head
        }
        _ => false,
    };
    graph.nodes.iter().enumerate().filter(|(_, node)| fed(node)).map(|(index, _)| index).collect()
}
