//! Gradients of a scalar with respect to activations, with the memory of one block at a time.
//!
//! The pass runs once without gradients and keeps the residual stream before every block. Then each block, from the last, is run
//! again in the backend with gradients from its own residual stream, and hands the gradient of its result down: activation
//! checkpointing (Chen et al. 2016, arXiv:1604.06174) at the blocks. Parameters are not tracked. The gradient of an
//! activation is that of zeros added to it.

use std::sync::Mutex;

use mediant_tensor::{Autodiff, Compute, Tensor};

use crate::{Batch, Edit, Error, HookPoint, Hooks, Model, Place, Replace, Result, Rows, Select, State, Values};

/// A scalar of each sequence, from the logits of its last position: `[sequences, vocabulary]` to `[sequences]`.
pub type Metric<'a, C> = dyn Fn(Tensor<Autodiff<C>, 2>) -> Result<Tensor<Autodiff<C>, 1>> + 'a;

/// Receives the activation at a point, and the gradient there: both `[rows, units, width]`.
pub type GradientReader<'a, C> = dyn FnMut(HookPoint, Tensor<C, 3>, Tensor<C, 3>) -> Result<()> + 'a;

/// A model that gradients are taken of. Making it copies nothing.
pub struct Differentiable<'m, C: Compute> {
    model: &'m Model<C>,
    untracked: Model<Autodiff<C>>,
}

impl<'m, C: Compute> Differentiable<'m, C> {
    /// Of this model.
    ///
    /// # Errors
    /// None that a model that exists can give.
    pub fn new(model: &'m Model<C>) -> Result<Self> {
        Ok(Self { model, untracked: model.untracked()? })
    }

    /// The logits `[sequences, vocabulary]` of the last positions, of a pass that goes on from `state` through `hooks`, whose edits may hold
    /// what gradients are wanted of. Only what depends on that is kept for the way back.
    ///
    /// # Errors
    /// As [`Model::logits_from`].
    pub fn logits(
        &self,
        batch: &Batch<C>,
        state: State<C>,
        hooks: Hooks<'_, Autodiff<C>>,
    ) -> Result<Tensor<Autodiff<C>, 2>> {
        self.untracked.logits_from(&batch.lifted(), lifted(state), Rows::Last, hooks)
    }

    /// The metric of each sequence, on a pass that goes on from `state` and has other activations `[rows, units, width]` put in the place of
    /// those at the `replaced` points. `reader` gets, in no particular order, the activation at
    /// each of `points` and the gradient of the metric with respect to it; sequences do not see each other, so the gradient
    /// at a sequence's rows is that of its own metric.
    ///
    /// # Errors
    /// [`Error::Hook`] for a point that the model does not have or that lies before `state`, and whatever metric and reader give.
    pub fn gradients(
        &self,
        batch: &Batch<C>,
        state: State<C>,
        replaced: &[(HookPoint, Tensor<C, 3>)],
        points: &[HookPoint],
        metric: &Metric<'_, C>,
        reader: &mut GradientReader<'_, C>,
    ) -> Result<Vec<f32>> {
        let layers = self.model.config().n_layers;
        let first = match &state {
            State::Start => 0,
            State::Block { layer, .. } | State::Heads { layer, .. } | State::Mid { layer, .. } => *layer,
        };
        // What each block begins with; the first piece begins with what was given.
        let mut begins = vec![state];
        for layer in first + 1..layers {
            let from = begins[begins.len() - 1].clone();
            let edits: Vec<_> =
                in_piece(replaced, layer - 1, first, layers).map(|(point, x)| (*point, put(x.clone()))).collect();
            begins.push(self.model.advance(batch, from, Place::Block(layer), hooked(&edits))?);
        }
        let lifted = batch.lifted();
        let (mut values, mut passed) = (Vec::new(), 0);
        let mut above: Option<Tensor<C, 2>> = None;
        for (index, begin) in begins.into_iter().enumerate().rev() {
            let layer = first + index;
            let of_piece: Vec<HookPoint> =
                points.iter().copied().filter(|point| piece(*point, first, layers) == layer).collect();
            let probes = Probes::default();
            let edits: Vec<_> = in_piece(replaced, layer, first, layers)
                .map(|(point, x)| (*point, put(Tensor::from_inner(x.clone()))))
                .collect();
            let mut hooks = hooked(&edits);
            for &point in &of_piece {
                hooks = hooks.edit(point, &probes);
            }
            let (begin, leaf) = tracked(begin);
            let scalar = match above.take() {
                None => {
                    let logits = self.untracked.logits_from(&lifted, begin, Rows::Last, hooks)?;
                    let metric = metric(logits)?;
                    values = numbers(metric.clone().inner())?;
                    metric.sum()
                }
                Some(gradient) => {
                    let end = self.untracked.advance(&lifted, begin, Place::Block(layer + 1), hooks)?;
                    let State::Block { resid, .. } = end else {
                        return Err(Error::Hook("a block ended in the middle".to_owned()));
                    };
                    (resid * Tensor::from_inner(gradient)).sum()
                }
            };
            let gradients = scalar.backward();
            let taken = probes.taken();
            passed += taken.len();
            for (point, activation, probe) in taken {
                let gradient = probe.grad(&gradients).unwrap_or_else(|| activation.zeros_like());
                reader(point, activation, gradient)?;
            }
            above = leaf.and_then(|leaf| leaf.grad(&gradients));
            if above.is_none() && layer > first {
                return Err(Error::Hook("the metric does not depend on the residual stream".to_owned()));
            }
        }
        if passed != points.len() {
            return Err(Error::Hook("a gradient is asked for at a point that the pass does not come to".to_owned()));
        }
        Ok(values)
    }
}

/// The replacements in the piece of a block.
fn in_piece<C: Compute>(
    replaced: &[(HookPoint, Tensor<C, 3>)],
    layer: usize,
    first: usize,
    layers: usize,
) -> impl Iterator<Item = &(HookPoint, Tensor<C, 3>)> {
    replaced.iter().filter(move |(point, _)| piece(*point, first, layers) == layer)
}

fn put<C: Compute>(x: Tensor<C, 3>) -> Replace<C> {
    Replace { with: Values::Rows(x), select: Select::default() }
}

fn hooked<C: Compute>(edits: &[(HookPoint, Replace<C>)]) -> Hooks<'_, C> {
    edits.iter().fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, edit))
}

/// The block whose piece of the pass a point lies in.
fn piece(point: HookPoint, first: usize, layers: usize) -> usize {
    match point {
        HookPoint::Embed | HookPoint::PosEmbed => first,
        HookPoint::Block(layer, _) => layer,
        _ => first.max(layers - 1),
    }
}

/// The state in the backend with gradients, none of which are wanted.
fn lifted<C: Compute>(state: State<C>) -> State<Autodiff<C>> {
    match state {
        State::Start => State::Start,
        State::Block { layer, resid } => State::Block { layer, resid: Tensor::from_inner(resid) },
        State::Heads { layer, resid, z } => {
            State::Heads { layer, resid: Tensor::from_inner(resid), z: Tensor::from_inner(z) }
        }
        State::Mid { layer, resid, beside } => {
            State::Mid { layer, resid: Tensor::from_inner(resid), beside: beside.map(Tensor::from_inner) }
        }
    }
}

/// The state in the backend with gradients, and the residual stream in it if that is where a block begins.
fn tracked<C: Compute>(state: State<C>) -> (State<Autodiff<C>>, Option<Tensor<Autodiff<C>, 2>>) {
    match state {
        State::Block { layer, resid } => {
            let resid = Tensor::from_inner(resid).require_grad();
            (State::Block { layer, resid: resid.clone() }, Some(resid))
        }
        other => (lifted(other), None),
    }
}

/// A probed point: the activation and the zeros added to it.
type Probed<C> = (HookPoint, Tensor<C, 3>, Tensor<Autodiff<C>, 3>);

/// Adds zeros whose gradient is wanted.
struct Probes<C: Compute>(Mutex<Vec<Probed<C>>>);

impl<C: Compute> Default for Probes<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Compute> Probes<C> {
    fn taken(self) -> Vec<Probed<C>> {
        self.0.into_inner().unwrap_or_default()
    }
}

impl<C: Compute> Edit<Autodiff<C>> for Probes<C> {
    fn apply(
        &self,
        point: HookPoint,
        activation: Tensor<Autodiff<C>, 3>,
        _: &Batch<Autodiff<C>>,
    ) -> Result<Tensor<Autodiff<C>, 3>> {
        let probe = activation.zeros_like().detach().require_grad();
        if let Ok(mut taken) = self.0.lock() {
            taken.push((point, activation.clone().inner(), probe.clone()));
        }
        Ok(activation + probe)
    }
}

fn numbers<C: Compute>(x: Tensor<C, 1>) -> Result<Vec<f32>> {
    x.into_data().into_vec().map_err(|error| Error::Hook(format!("the metric cannot be read: {error:?}")))
}
