//! Patching one mediator after the other, with what they have in common computed once.

use std::collections::BTreeMap;

use mediant_lm::{Batch, HookPoint, Hooks, Model, Place, Replace, Rows, State, Values};
use mediant_tensor::{Compute, Tensor};

use crate::{Answers, Error, Metric, Result, Target};

/// Activations by hook point, `[rows, units, width]` each.
pub(crate) type Activations<C> = BTreeMap<HookPoint, Tensor<C, 3>>;

/// The metric of each prompt, and the activations at some points.
pub(crate) struct Run<C: Compute> {
    /// One value a prompt.
    pub(crate) values: Vec<f64>,
    /// What was read on the way.
    pub(crate) activations: Activations<C>,
}

/// One pass: the metric at the last position of each sequence, and the activations at `points`.
///
/// # Errors
/// As the pass.
pub(crate) fn run<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    points: impl IntoIterator<Item = HookPoint>,
    metric: Metric,
    answers: &Answers,
) -> Result<Run<C>> {
    run_from(model, batch, State::Start, points, metric, answers)
}

/// As [`run`], of a pass that goes on from `state`.
///
/// # Errors
/// As the pass.
pub(crate) fn run_from<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    state: State<C>,
    points: impl IntoIterator<Item = HookPoint>,
    metric: Metric,
    answers: &Answers,
) -> Result<Run<C>> {
    let mut activations = Activations::new();
    let mut take = |point, x| {
        activations.insert(point, x);
        Ok(())
    };
    let logits = model.logits_from(batch, state, Rows::Last, Hooks::none().read(points, &mut take))?;
    Ok(Run { values: metric.values(logits, answers)?, activations })
}

/// What comes in the place of the activations at a point, for the rows of a batch.
pub(crate) type Source<'s, C> = dyn Fn(HookPoint) -> Result<Values<C>> + 's;

/// Patches every target alone into a pass over `batch`. The pass goes on once from place to place; each target costs what lies
/// behind its place, and nothing if what is put there stands there already. `each` gets the index of a target, the metric of
/// every prompt after the patch, and the share of a pass that it cost; the return value is the metric without any patch.
///
/// `targets` are in the order of their places.
///
/// # Errors
/// As the passes, and whatever `each` gives.
pub(crate) fn sweep<C: Compute, E: From<Error>>(
    model: &Model<C>,
    batch: &Batch<C>,
    targets: &[Target],
    source: &Source<'_, C>,
    metric: Metric,
    answers: &Answers,
    mut each: impl FnMut(usize, &[f64], f64) -> Result<(), E>,
) -> Result<Vec<f64>, E> {
    let layers = model.config().n_layers;
    let place_of = |target: &Target| Place::before(target.point, layers);
    let groups: Vec<&[Target]> = targets.chunk_by(|a, b| place_of(a) == place_of(b)).collect();
    let mut state: State<C> = State::Start;
    let mut first = 0;
    // What a patch that changes nothing leaves; the metric is known at the end only.
    let mut unchanged: Vec<usize> = Vec::new();
    let mut logits = None;
    for (index, group) in groups.iter().enumerate() {
        let place = place_of(&group[0]);
        let begin = advance(model, batch, state, group[0].point)?;
        let mut own = Activations::new();
        let mut take = |point, x| {
            own.insert(point, x);
            Ok(())
        };
        let hooks = Hooks::none().read(group.iter().map(|target| target.point), &mut take);
        match groups.get(index + 1) {
            Some(next) => {
                state = model.advance(batch, begin.clone(), place_of(&next[0]), hooks).map_err(Error::from)?;
            }
            None => {
                state = begin.clone();
                logits = Some(model.logits_from(batch, begin.clone(), Rows::Last, hooks).map_err(Error::from)?);
            }
        }
        for (offset, target) in group.iter().enumerate() {
            let index = first + offset;
            let edit = Replace { with: source(target.point)?, select: target.select.clone() };
            let stands =
                own.get(&target.point).ok_or_else(|| Error::Data(format!("no pass came to `{}`", target.point)))?;
            if changes_nothing(&edit, target.point, stands, batch)? {
                unchanged.push(index);
                continue;
            }
            let hooks = Hooks::none().edit(target.point, &edit);
            let patched = model.logits_from(batch, begin.clone(), Rows::Last, hooks).map_err(Error::from)?;
            each(index, &metric.values(patched, answers)?, share(place, layers))?;
        }
        first += group.len();
    }
    let logits = match logits {
        Some(logits) => logits,
        None => model.logits_from(batch, state, Rows::Last, Hooks::none()).map_err(Error::from)?,
    };
    let base = metric.values(logits, answers)?;
    for index in unchanged {
        each(index, &base, 0.0)?;
    }
    Ok(base)
}

/// The state before a hook point.
///
/// # Errors
/// As the pass.
pub(crate) fn up_to<C: Compute>(model: &Model<C>, batch: &Batch<C>, point: HookPoint) -> Result<State<C>> {
    advance(model, batch, State::Start, point)
}

/// From a state to the one before a hook point.
pub(crate) fn advance<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    state: State<C>,
    point: HookPoint,
) -> Result<State<C>> {
    // Embeddings lie before every place that can be kept.
    if point <= HookPoint::PosEmbed {
        return Ok(State::Start);
    }
    Ok(model.advance(batch, state, Place::before(point, model.config().n_layers), Hooks::none())?)
}

/// Whether an edit leaves every bit as it is.
fn changes_nothing<C: Compute>(
    edit: &Replace<C>,
    point: HookPoint,
    stands: &Tensor<C, 3>,
    batch: &Batch<C>,
) -> Result<bool> {
    let edited = mediant_lm::Edit::apply(edit, point, stands.clone(), batch)?;
    Ok(!edited.not_equal(stands.clone()).any().into_scalar().holds())
}

/// Share of a model's blocks that lie behind a place: what a pass from there on costs.
pub(crate) fn share(place: Place, layers: usize) -> f64 {
    let done = match place {
        Place::Block(layer) => layer as f64,
        // The products of attention are a third of a block with the usual MLP.
        Place::Heads(layer) | Place::Mid(layer) => layer as f64 + 1.0 / 3.0,
    };
    (layers as f64 - done) / layers as f64
}

/// A device's yes or no.
pub(crate) trait Truth {
    fn holds(self) -> bool;
}

impl<B: mediant_tensor::burn::tensor::Element> Truth for B {
    fn holds(self) -> bool {
        self.elem::<u8>() != 0
    }
}
