//! A pass in which every receiver of the graph of EAP reads, from each node, what the node computes if the edge between them is kept,
//! and the node's output in another run, or the mean of it, if it is not (MIB's circuits; Hanna et al. 2024, arXiv:2403.17806).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mediant_lm::{Batch, Edit, HookPoint, Hooks, LmConfig, Model, Positions, Replace, Site};
use mediant_tensor::ops::swap_units;
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::sweep::Activations;
use crate::{Graph, Receiver};

/// Where a run must be read whose activations stand in for lost edges: what nodes write, and the streams that receivers read.
pub(super) fn points(graph: &Graph, config: &LmConfig) -> BTreeSet<HookPoint> {
    let senders = graph.nodes.iter().map(|node| node.point);
    senders.chain(graph.receivers.iter().map(|receiver| read_at(receiver.point, config))).collect()
}

/// A set of kept edges, as an edit of all points where nodes write and receivers read.
pub(super) struct Circuit<'a, C: Compute> {
    model: &'a Model<C>,
    graph: &'a Graph,
    /// By receiving point and head there, the nodes that it hears: kept edges from nodes that something reaches.
    heard: BTreeMap<HookPoint, Vec<Vec<usize>>>,
    /// Nodes that somebody hears.
    speaking: BTreeSet<usize>,
    /// What stands in for lost edges, at [`points`].
    theirs: &'a Activations<C>,
    state: Mutex<Spoken<C>>,
    /// In the place of sublayers that nobody hears, which need not be computed.
    silence: Replace<C>,
}

/// What nodes that somebody hears have written so far.
struct Spoken<C: Compute> {
    /// Which nodes.
    nodes: Vec<usize>,
    /// What each writes in this pass less what stands in for it, `[1, rows · d_model]`.
    differences: Vec<Tensor<C, 2>>,
    /// What points that come next read.
    ready: BTreeMap<HookPoint, Tensor<C, 3>>,
}

impl<'a, C: Compute> Circuit<'a, C> {
    /// Without the edges that are `lost`, which has one entry an edge. `theirs` stand in for them: activations of a run, `[rows, units, width]`,
    /// or else means, which for what nodes write have one row. A node that hears nothing but a run writes what it wrote there, and need not be
    /// computed; of means it makes something else.
    pub(super) fn new(
        model: &'a Model<C>,
        graph: &'a Graph,
        lost: &[bool],
        theirs: &'a Activations<C>,
        of_a_run: bool,
    ) -> Self {
        let mut heard: BTreeMap<HookPoint, Vec<Vec<usize>>> = BTreeMap::new();
        // The token embeddings are those of the clean prompt.
        let mut reached: BTreeSet<usize> = if of_a_run { [0].into() } else { (0..graph.nodes.len()).collect() };
        let mut first = 0;
        for receiver in &graph.receivers {
            let before = graph.before(receiver).len();
            let nodes = (0..before).filter(|node| !lost[first + node]);
            let nodes: Vec<usize> = nodes.filter(|node| reached.contains(node)).collect();
            if !nodes.is_empty() {
                reached.extend(fed_by(receiver, graph, model.config()));
            }
            heard.entry(receiver.point).or_default().push(nodes);
            first += before;
        }
        let mut circuit = Self {
            model,
            graph,
            heard,
            speaking: BTreeSet::new(),
            theirs,
            state: Mutex::new(Spoken { nodes: Vec::new(), differences: Vec::new(), ready: BTreeMap::new() }),
            silence: Replace::zero(Positions::All),
        };
        circuit.drop_unheard();
        circuit
    }

    /// From the last receiver back: a node speaks if a receiver hears it that is the unembedding or feeds a node that speaks.
    fn drop_unheard(&mut self) {
        let config = self.model.config();
        let mut fed: Vec<(HookPoint, usize, Vec<usize>)> = Vec::new();
        let mut place: BTreeMap<HookPoint, usize> = BTreeMap::new();
        for receiver in &self.graph.receivers {
            let head = place.entry(receiver.point).or_default();
            fed.push((receiver.point, *head, fed_by(receiver, self.graph, config)));
            *head += 1;
        }
        for (point, head, feeds) in fed.into_iter().rev() {
            let last = matches!(point, HookPoint::Block(_, Site::ResidPost));
            let Some(nodes) = self.heard.get_mut(&point).map(|heads| &mut heads[head]) else { continue };
            if last || feeds.iter().any(|node| self.speaking.contains(node)) {
                self.speaking.extend(nodes.iter().copied());
            } else {
                nodes.clear();
            }
        }
    }

    /// The edits of a pass.
    pub(super) fn hooks(&self) -> Hooks<'_, C> {
        let mut hooks = Hooks::none();
        if self.speaking.contains(&0) {
            hooks = hooks.edit(HookPoint::Embed, self);
        }
        let speaks = |point| {
            let nodes = self.graph.nodes.iter().enumerate();
            nodes.into_iter().any(|(node, sender)| sender.point == point && self.speaking.contains(&node))
        };
        let layers = self.model.config().n_layers;
        for layer in 0..layers {
            let at = |site| HookPoint::Block(layer, site);
            let sublayers: [(Site, Site, &[Site]); 2] = [
                (Site::Z, Site::AttnOut, &[Site::QInput, Site::KInput, Site::VInput]),
                (Site::MlpOut, Site::MlpOut, &[Site::MlpIn]),
            ];
            for (writes, out, reads) in sublayers {
                if speaks(at(writes)) {
                    let points = reads.iter().chain([&writes]);
                    hooks = points.fold(hooks, |hooks, site| hooks.edit(at(*site), self));
                } else {
                    hooks = hooks.edit(at(out), &self.silence);
                }
            }
        }
        hooks.edit(HookPoint::Block(layers - 1, Site::ResidPost), self)
    }

    fn theirs(&self, point: HookPoint) -> mediant_lm::Result<Tensor<C, 3>> {
        let missing = || mediant_lm::Error::Hook(format!("nothing stands in for what is at `{point}`"));
        self.theirs.get(&point).cloned().ok_or_else(missing)
    }

    /// Notes what the nodes at a point write.
    fn note(&self, point: HookPoint, activation: Tensor<C, 3>) -> mediant_lm::Result<()> {
        let difference = activation - self.theirs(point)?;
        let written = match point {
            HookPoint::Block(layer, Site::Z) => self.model.head_results(layer, difference),
            _ => difference,
        };
        let [rows, units, width] = written.dims();
        let written = swap_units(written).reshape([units, rows * width]);
        let nodes = self.graph.nodes.iter().enumerate().filter(|(_, node)| node.point == point);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, sender) in nodes.filter(|(node, _)| self.speaking.contains(node)) {
            state.nodes.push(node);
            state.differences.push(written.clone().narrow(0, sender.head.unwrap_or(0), 1));
        }
        Ok(())
    }

    /// What the heads at a point, or the one reader there, read: the stream of what stands in for all nodes, and the differences that they
    /// hear. Queries, keys and values of a layer hear the same nodes, so that all are made together.
    fn heard_at(&self, point: HookPoint) -> mediant_lm::Result<Tensor<C, 3>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = state.ready.remove(&point) {
            return Ok(ready);
        }
        let points = match point {
            HookPoint::Block(layer, Site::QInput) => {
                [Site::QInput, Site::KInput, Site::VInput].map(|site| HookPoint::Block(layer, site)).to_vec()
            }
            _ => vec![point],
        };
        let heads: Vec<&Vec<usize>> = points.iter().filter_map(|point| self.heard.get(point)).flatten().collect();
        let stream = self.theirs(read_at(point, self.model.config()))?;
        let [rows, _, width] = stream.dims();
        // One product for the stream and what is added to it: sums of strided tensors are far slower.
        let mut terms = vec![stream.reshape([1, rows * width])];
        terms.extend(state.differences.iter().cloned());
        let of_head = |nodes: &&Vec<usize>| {
            let hears = state.nodes.iter().map(|node| f32::from(nodes.contains(node)));
            [1.0].into_iter().chain(hears).collect::<Vec<f32>>()
        };
        let hears: Vec<f32> = heads.iter().flat_map(of_head).collect();
        let hears = TensorData::new(hears, [heads.len(), state.nodes.len() + 1]);
        let hears = Tensor::<C, 2>::from_data(hears, &self.model.device());
        let read = hears.matmul(Tensor::cat(terms, 0));
        let mut first = 0;
        for point in points {
            let count = self.heard.get(&point).map_or(0, Vec::len);
            let own = read.clone().narrow(0, first, count).reshape([count, rows, width]);
            state.ready.insert(point, swap_units(own));
            first += count;
        }
        state.ready.remove(&point).ok_or_else(|| mediant_lm::Error::Hook(format!("nobody reads at `{point}`")))
    }
}

impl<C: Compute> Edit<C> for Circuit<'_, C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        if self.heard.contains_key(&point) {
            return self.heard_at(point);
        }
        self.note(point, activation.clone())?;
        Ok(activation)
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
