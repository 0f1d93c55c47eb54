//! Several changes made together in the clean run of every prompt.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mediant_artifact::Mediator;
use mediant_lm::{Batch, Edit, HookPoint, Hooks, Model, Place, Positions, Replace, Rows, Select, State, Values};
use mediant_tensor::{Compute, Tensor};

use crate::sweep::{Activations, share, up_to};
use crate::{Error, Metric, Pairs, Recorder, Result};

/// Changes that are made together.
pub struct Together<'e, C: Compute> {
    /// The edits of a pass.
    pub hooks: Box<dyn Fn() -> Hooks<'e, C> + 'e>,
    /// The first hook point that has an edit.
    pub first: HookPoint,
    /// Positions of every edit: a prompt that has none of them is not changed.
    pub positions: Vec<Positions>,
    /// Passes that the edits themselves make over each prompt.
    pub passes: usize,
}

/// The one mediator of [`intervene`].
pub fn all_interventions() -> Mediator {
    Mediator { name: "interventions".to_owned(), kind: "interventions".to_owned(), ..Mediator::default() }
}

/// The metric of every prompt with the changes and without, and of its counterfactual if one is meant. `recorder` is of
/// [`all_interventions`]; `progress` hears how many prompts of how many are done.
///
/// # Errors
/// Whatever the passes, the edits and the recorder give.
pub fn intervene<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    together: &Together<'_, C>,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let layers = model.config().n_layers;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let run = |batch: &Batch<C>, state: State<C>, hooks: Hooks<'_, C>| -> Result<Vec<f64>> {
            metric.values(model.logits_from(batch, state, Rows::Last, hooks)?, &pair.answers)
        };
        let before = up_to(model, &pair.clean, together.first)?;
        let clean = run(&pair.clean, before.clone(), Hooks::none())?;
        let changed = run(&pair.clean, before, (together.hooks)())?;
        let other = pair.counterfactual.as_ref().map(|batch| run(batch, State::Start, Hooks::none())).transpose()?;
        let whole = 1 + together.passes + usize::from(other.is_some());
        recorder.count(range.len(), whole as f64 + share(Place::before(together.first, layers), layers));
        let reached = |example| together.positions.iter().any(|positions| pairs.reaches(example, positions));
        recorder.record_where(0, pair.first, &clean, other.as_deref(), &changed, reached)?;
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// Puts the activations of each prompt's counterfactual in the place of its own. For batches of [`Pairs::batch`].
pub struct FromCounterfactual<'m, C: Compute> {
    model: &'m Model<C>,
    pairs: &'m Pairs,
    /// In the order of a pass.
    points: Vec<HookPoint>,
    select: Select,
    /// What the counterfactuals have there, taken as a pass over the prompts comes to them.
    theirs: Mutex<Activations<C>>,
}

impl<'m, C: Compute> FromCounterfactual<'m, C> {
    /// At these points, each to be edited by this one value.
    pub fn new(model: &'m Model<C>, pairs: &'m Pairs, mut points: Vec<HookPoint>, select: Select) -> Self {
        points.sort_unstable();
        Self { model, pairs, points, select, theirs: Mutex::new(BTreeMap::new()) }
    }

    /// The activations of the counterfactuals of a batch of prompts.
    fn read(&self, batch: &Batch<C>) -> Result<Activations<C>> {
        let first = batch.example(0) as usize;
        let range = first..first + batch.sequences().len();
        let pair = self.pairs.batch::<C>(range, self.model.config(), &self.model.device())?;
        let mut read = Activations::new();
        let mut take = |point, x| {
            read.insert(point, x);
            Ok(())
        };
        self.model.read(pair.corrupted()?, Hooks::none().read(self.points.iter().copied(), &mut take))?;
        Ok(read)
    }
}

impl<C: Compute> Edit<C> for FromCounterfactual<'_, C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        let mut theirs = self.theirs.lock().unwrap_or_else(PoisonError::into_inner);
        // A pass comes to the first point first, so what another pass left behind is never taken for this one's.
        if self.points.first() == Some(&point) {
            *theirs = self.read(batch).map_err(|error| mediant_lm::Error::Hook(error.to_string()))?;
        }
        let theirs = theirs.remove(&point);
        let theirs = theirs.ok_or_else(|| mediant_lm::Error::Hook(format!("no counterfactual came to `{point}`")))?;
        Replace { with: Values::Rows(theirs), select: self.select.clone() }.apply(point, activation, batch)
    }
}
