//! Edge attribution patching (Syed et al. 2023, arXiv:2310.10348), with integrated gradients (Hanna et al. 2024, arXiv:2403.17806), and exact
//! edge patching, on the graph that both use.
//!
//! Nodes write to the residual stream: `input` (the token embeddings), `a2.h3` (a head), `m2` (an MLP). Receivers read it: the
//! queries, keys and values of each head, each MLP, and the unembedding (`logits`). An edge leads from each node to every
//! receiver that comes after it.

use std::collections::BTreeSet;

use mediant_artifact::{Contrast, Mediator};
use mediant_lm::{Differentiable, HookPoint, Hooks, LmConfig, Model, Place, Site, State};
use mediant_tensor::{Compute, Tensor};

use crate::attribution::{Runs, Slope, slopes};
use crate::path::added;
use crate::sweep::share;
use crate::{Error, Metric, Pairs, Receiver, Recorder, Result, Sender, reaches};

/// How edges are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeMethod {
    /// Difference of the node's output times a slope at the receiver's input.
    Attribution(Slope),
    /// The edge is patched, and the rest of the pass is run.
    Exact,
}

/// The graph of a model.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In the order of a pass.
    pub(crate) nodes: Vec<Sender>,
    /// In the order of a pass.
    pub(crate) receivers: Vec<Receiver>,
    parallel: bool,
}

impl Graph {
    /// All nodes and receivers.
    ///
    /// # Errors
    /// [`Error::Data`] for a model that normalises the sum of its heads: what one head writes is not known alone.
    pub fn new(config: &LmConfig) -> Result<Self> {
        if config.post_norms {
            let why = "a norm follows attention in this model, so what one head writes is not known alone, and it has no graph of heads";
            return Err(Error::Data(why.to_owned()));
        }
        let (mut nodes, mut receivers) = (vec![Sender { point: HookPoint::Embed, head: None }], Vec::new());
        for layer in 0..config.n_layers {
            let at = |site| HookPoint::Block(layer, site);
            nodes.extend((0..config.n_heads).map(|head| Sender { point: at(Site::Z), head: Some(head) }));
            nodes.push(Sender { point: at(Site::MlpOut), head: None });
            let inputs =
                [(Site::QInput, config.n_heads), (Site::KInput, config.n_kv_heads), (Site::VInput, config.n_kv_heads)];
            for (site, heads) in inputs {
                receivers.extend((0..heads).map(|head| Receiver { point: at(site), heads: Some(vec![head]) }));
            }
            receivers.push(Receiver { point: at(Site::MlpIn), heads: None });
        }
        receivers.push(Receiver { point: HookPoint::Block(config.n_layers - 1, Site::ResidPost), heads: None });
        Ok(Self { nodes, receivers, parallel: config.parallel })
    }

    /// The edges, by receiver, then by node.
    fn edges(&self) -> impl Iterator<Item = (&Sender, &Receiver)> {
        self.receivers.iter().flat_map(|receiver| self.before(receiver).iter().map(move |node| (node, receiver)))
    }

    /// Number of edges.
    pub(crate) fn edge_count(&self) -> usize {
        self.receivers.iter().map(|receiver| self.before(receiver).len()).sum()
    }

    /// The nodes that reach a receiver: the first so many.
    pub(crate) fn before(&self, receiver: &Receiver) -> &[Sender] {
        let count = self.nodes.iter().take_while(|node| reaches(node, receiver, self.parallel)).count();
        &self.nodes[..count]
    }

    /// The mediators of [`edge_effects`]: `a0.h1->m2`, `input->a1.h3<q>`, ...
    pub fn mediators(&self) -> Vec<Mediator> {
        let edge = |(node, receiver): (&Sender, &Receiver)| {
            let (source, target) = (node.name(), receiver.name());
            Mediator {
                name: format!("{source}->{target}"),
                kind: "edge".to_owned(),
                source: Some(source),
                target: Some(target),
                ..Mediator::default()
            }
        };
        self.edges().map(edge).collect()
    }
}

/// The effect of every edge. The patched value is the one predicted, or found: the metric of the clean run when the receiver gets
/// the node's output of the counterfactual run (contrast [`Contrast::Lost`], EAP's sign), or for the slope at the counterfactual run the
/// reverse. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, and whatever the passes and the recorder give.
pub fn edge_effects<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    graph: &Graph,
    method: EdgeMethod,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let points: BTreeSet<HookPoint> = graph.nodes.iter().map(|node| node.point).collect();
    let differentiable = Differentiable::new(model).map_err(Error::from)?;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let runs = Runs::new(model, &pair, &points, metric)?;
        recorder.count(range.len(), 2.0);
        let (clean, corrupted) = (&runs.clean.values, &runs.corrupted.values);
        let written = written(model, graph, &runs)?;
        match method {
            EdgeMethod::Attribution(slope) => {
                let inputs: BTreeSet<HookPoint> = graph.receivers.iter().map(|receiver| receiver.point).collect();
                let (slopes, passes) = slopes(&differentiable, model, &pair, &runs, &inputs, slope, metric)?;
                recorder.count(range.len(), passes);
                let written = Tensor::cat(written, 1);
                let mut mediator = 0;
                for receivers in graph.receivers.chunk_by(|a, b| a.point == b.point) {
                    let senders = written.clone().narrow(1, 0, graph.before(&receivers[0]).len());
                    for of_edge in products(senders, slopes[&receivers[0].point].clone(), &pair.clean)? {
                        let predicted: Vec<f64> = match slope {
                            Slope::At(crate::Reference::Counterfactual) => {
                                corrupted.iter().zip(&of_edge).map(|(value, sum)| value + sum).collect()
                            }
                            _ => clean.iter().zip(&of_edge).map(|(value, sum)| value - sum).collect(),
                        };
                        recorder.record(mediator, pair.first, clean, Some(corrupted), &predicted)?;
                        mediator += 1;
                    }
                }
            }
            EdgeMethod::Exact => {
                let mut state = State::Start;
                let mut mediator = 0;
                for receiver in &graph.receivers {
                    let place = Place::before(receiver.point, model.config().n_layers);
                    state = model.advance(&pair.clean, state, place, Hooks::none()).map_err(Error::from)?;
                    for difference in &written[..graph.before(receiver).len()] {
                        // The clean run gets what the counterfactual has more.
                        let delta = difference.clone().neg();
                        let patched = added(model, &pair.clean, &state, &delta, &[receiver], metric, &pair.answers)?;
                        recorder.count(range.len(), share(place, model.config().n_layers));
                        recorder.record(mediator, pair.first, clean, Some(corrupted), &patched)?;
                        mediator += 1;
                    }
                }
            }
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// How effects of a method become scores.
pub fn edge_contrast(method: EdgeMethod) -> Contrast {
    match method {
        EdgeMethod::Attribution(Slope::At(reference)) => reference.contrast(),
        _ => Contrast::Lost,
    }
}

/// What each node writes to the residual stream in the clean run less what it writes in the other, `[rows, 1, d_model]`.
fn written<C: Compute>(model: &Model<C>, graph: &Graph, runs: &Runs<C>) -> Result<Vec<Tensor<C, 3>>> {
    let mut all = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes.chunk_by(|a, b| a.point == b.point) {
        let difference = runs.difference(node[0].point)?;
        match node[0].point {
            HookPoint::Block(layer, Site::Z) => {
                let results = model.head_results(layer, difference);
                all.extend((0..node.len()).map(|head| results.clone().narrow(1, head, 1)));
            }
            _ => all.push(difference),
        }
    }
    Ok(all)
}

/// By head of the receiving point, then by node, for each sequence: Σ over positions and width of what the node wrote (`[rows, nodes, d_model]`) times
/// the slope (`[rows, heads, d_model]`). The products are one of matrices a row; over rows they are added up in double precision.
fn products<C: Compute>(
    written: Tensor<C, 3>,
    slope: Tensor<C, 3>,
    batch: &mediant_lm::Batch<C>,
) -> Result<Vec<Vec<f64>>> {
    let edges = slope.dims()[1] * written.dims()[1];
    let by_row = slope.matmul(written.swap_dims(1, 2)).into_data().into_vec::<f32>();
    let by_row = by_row.map_err(|error| Error::Data(format!("edge scores cannot be read: {error:?}")))?;
    let of_edge = |edge: usize| {
        let at = |row: usize| f64::from(by_row[row * edges + edge]);
        batch.sequences().iter().map(|sequence| sequence.rows().map(at).sum()).collect()
    };
    Ok((0..edges).map(of_edge).collect())
}
