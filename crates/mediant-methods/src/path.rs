//! Path patching (Goldowsky-Dill et al. 2023, arXiv:2304.05969): the effect of one component on the metric through the
//! residual stream straight into chosen receivers, everything else as it was.
//!
//! What sender u writes differs between the two runs by Δ, of `[rows, d_model]`. The receivers' inputs get Δ added, and the pass goes on
//! from the first of them. Patching an edge of the graph of EAP is the case of one receiver.

use std::collections::BTreeSet;

use mediant_artifact::Mediator;
use mediant_lm::{Add, Batch, Edit, HookPoint, Hooks, Model, Place, Positions, Rows, Select, Site, State};
use mediant_tensor::{Compute, Tensor};

use crate::sweep::{Activations, run, share};
use crate::{Direction, Error, Metric, Pairs, Recorder, Result, kind, layer};

/// A component that writes to the residual stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// `hook_embed`, `hook_pos_embed`, `attn.hook_z`, `hook_attn_out` or `hook_mlp_out`.
    pub point: HookPoint,
    /// At `attn.hook_z`, which head.
    pub head: Option<usize>,
}

/// What reads the residual stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// `hook_q_input`, `hook_k_input`, `hook_v_input`, `hook_mlp_in`, or the last layer's `hook_resid_post`, which the unembedding reads.
    pub point: HookPoint,
    /// Which heads; all if none are listed.
    pub heads: Option<Vec<usize>>,
}

impl Sender {
    /// Its name in the graph of EAP: `input`, `a2.h3`, `m2`; `pos` and `a2` for what that graph does not have.
    pub fn name(&self) -> String {
        match (self.point, self.head) {
            (HookPoint::Block(layer, Site::Z), Some(head)) => format!("a{layer}.h{head}"),
            (HookPoint::Block(layer, Site::MlpOut), _) => format!("m{layer}"),
            (HookPoint::Block(layer, _), _) => format!("a{layer}"),
            (HookPoint::PosEmbed, _) => "pos".to_owned(),
            _ => "input".to_owned(),
        }
    }

    /// Where what it writes has reached the residual stream.
    fn written(&self, parallel: bool) -> (usize, u8) {
        match self.point {
            // Beside its MLP, attention is read by the next block alone.
            HookPoint::Block(layer, Site::Z | Site::AttnOut) if !parallel => (layer, 1),
            HookPoint::Block(layer, _) => (layer + 1, 0),
            _ => (0, 0),
        }
    }
}

impl Receiver {
    /// Where it reads.
    fn reads(&self) -> (usize, u8) {
        match self.point {
            HookPoint::Block(layer, Site::MlpIn) => (layer, 1),
            HookPoint::Block(layer, Site::ResidPost) => (layer + 1, 0),
            HookPoint::Block(layer, _) => (layer, 0),
            _ => (0, 0),
        }
    }

    /// Its name in the graph of EAP.
    pub fn name(&self) -> String {
        let heads = match &self.heads {
            Some(heads) => heads.iter().map(|head| format!(".h{head}")).collect::<String>(),
            None => String::new(),
        };
        match self.point {
            HookPoint::Block(layer, Site::QInput) => format!("a{layer}{heads}<q>"),
            HookPoint::Block(layer, Site::KInput) => format!("a{layer}{heads}<k>"),
            HookPoint::Block(layer, Site::VInput) => format!("a{layer}{heads}<v>"),
            HookPoint::Block(layer, Site::MlpIn) => format!("m{layer}"),
            _ => "logits".to_owned(),
        }
    }
}

/// Whether a sender's output reaches a receiver through the residual stream.
pub fn reaches(sender: &Sender, receiver: &Receiver, parallel: bool) -> bool {
    sender.written(parallel) <= receiver.reads()
}

/// The paths from each of some senders into all of some receivers.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Each alone.
    pub senders: Vec<Sender>,
    /// All together.
    pub receivers: Vec<Receiver>,
}

impl Paths {
    /// The mediators of [`path_patch`]: one a sender.
    pub fn mediators(&self) -> Vec<Mediator> {
        let target: Vec<String> = self.receivers.iter().map(Receiver::name).collect();
        let target = target.join("+");
        let path = |sender: &Sender| Mediator {
            name: format!("{}->{target}", sender.name()),
            kind: if sender.head.is_some() {
                "path_from_head".to_owned()
            } else {
                format!("path_from_{}", kind(sender.point))
            },
            hook: Some(sender.point.to_string()),
            layer: layer(sender.point),
            unit: sender.head.map(|head| head as u32),
            source: Some(sender.name()),
            target: Some(target.clone()),
            ..Mediator::default()
        };
        self.senders.iter().map(path).collect()
    }
}

/// Patches the paths from each sender alone into all receivers that it reaches. `progress` hears how many prompts of how many
/// are done.
///
/// # Errors
/// [`Error::Data`] for heads of a model that normalises the sum of its heads, and whatever the passes and the recorder give.
pub fn path_patch<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    paths: &Paths,
    direction: Direction,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let (config, Paths { senders, receivers }) = (model.config(), paths);
    if config.post_norms && senders.iter().any(|sender| sender.head.is_some()) {
        let why = "a norm follows attention in this model, so what one head writes is not known alone; send from hook_attn_out";
        return Err(Error::Data(why.to_owned()).into());
    }
    let points: BTreeSet<HookPoint> = senders.iter().map(|sender| sender.point).collect();
    let first = receivers.iter().map(|receiver| Place::before(receiver.point, config.n_layers));
    let place =
        first.min_by_key(|place| order(*place)).ok_or_else(|| Error::Data("there is no receiver".to_owned()))?;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), config, &model.device())?;
        let (from, into) = match direction {
            Direction::Denoising => (&pair.clean, pair.corrupted()?),
            Direction::Noising => (pair.corrupted()?, &pair.clean),
        };
        let other = run(model, from, points.iter().copied(), metric, &pair.answers)?;
        let own = run(model, into, points.iter().copied(), metric, &pair.answers)?;
        let state = model.advance(into, State::Start, place, Hooks::none()).map_err(Error::from)?;
        recorder.count(range.len(), 3.0 - share(place, config.n_layers));
        let (clean, counterfactual) = match direction {
            Direction::Denoising => (&other.values, &own.values),
            Direction::Noising => (&own.values, &other.values),
        };
        for (index, sender) in senders.iter().enumerate() {
            let delta = written_difference(model, sender, &other.activations, &own.activations)?;
            let reached: Vec<_> =
                receivers.iter().filter(|receiver| reaches(sender, receiver, config.parallel)).collect();
            let patched = added(model, into, &state, &delta, &reached, metric, &pair.answers)?;
            recorder.count(range.len(), share(place, config.n_layers));
            recorder.record(index, pair.first, clean, Some(counterfactual), &patched)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// The metric when the receivers' inputs get `delta` added.
pub(crate) fn added<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    state: &State<C>,
    delta: &Tensor<C, 3>,
    receivers: &[&Receiver],
    metric: Metric,
    answers: &crate::Answers,
) -> Result<Vec<f64>> {
    let edits: Vec<(HookPoint, Add<C>)> = receivers
        .iter()
        .map(|receiver| {
            let select = Select { positions: Positions::All, heads: receiver.heads.clone(), numbers: None };
            (receiver.point, Add { vector: delta.clone(), select })
        })
        .collect();
    let hooks = edits.iter().fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, edit as &dyn Edit<C>));
    metric.values(model.logits_from(batch, state.clone(), Rows::Last, hooks)?, answers)
}

/// What a sender writes to the residual stream in the other run less what it writes in this one, `[rows, 1, d_model]`.
fn written_difference<C: Compute>(
    model: &Model<C>,
    sender: &Sender,
    other: &Activations<C>,
    own: &Activations<C>,
) -> Result<Tensor<C, 3>> {
    let read = |run: &Activations<C>| {
        let missing = || Error::Data(format!("no pass came to `{}`", sender.point));
        run.get(&sender.point).cloned().ok_or_else(missing)
    };
    let difference = read(other)? - read(own)?;
    Ok(match (sender.point, sender.head) {
        (HookPoint::Block(layer, Site::Z), Some(head)) => model.head_results(layer, difference).narrow(1, head, 1),
        _ => difference,
    })
}

fn order(place: Place) -> (usize, u8) {
    match place {
        Place::Block(layer) => (layer, 0),
        Place::Heads(layer) => (layer, 1),
        Place::Mid(layer) => (layer, 2),
    }
}
