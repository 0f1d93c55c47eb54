//! Steering: what becomes of the metric when a direction is added (Turner et al. 2023, arXiv:2308.10248) or taken out
//! (Arditi et al. 2024, arXiv:2406.11717).

use mediant_artifact::Mediator;
use mediant_lm::{Add, Batch, Edit, HookPoint, Hooks, Model, Place, Positions, ProjectOut, Rows, Select};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::sweep::{share, up_to};
use crate::{Error, Metric, Pairs, Recorder, Result, kind, layer};

/// What is done with a direction.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is added so many times: a mediator each.
    Add(Vec<f64>),
    /// What lies along it is taken out.
    ProjectOut,
}

/// A direction, where it is applied and how.
#[derive(Clone, Debug)]
pub struct Steering {
    /// The hook point.
    pub point: HookPoint,
    /// Which positions.
    pub positions: Positions,
    /// The direction, as many numbers as the hook point has at a position.
    pub direction: Vec<f32>,
    /// What is done with it.
    pub change: Change,
}

impl Steering {
    /// A mediator a strength.
    pub fn mediators(&self) -> Vec<Mediator> {
        let named = |what: String| Mediator {
            name: format!("{}{what}", self.point),
            kind: kind(self.point).to_owned(),
            hook: Some(self.point.to_string()),
            layer: layer(self.point),
            span: self.positions.span().map(str::to_owned),
            ..Mediator::default()
        };
        match &self.change {
            Change::Add(strengths) => strengths.iter().map(|strength| named(format!("{strength:+}"))).collect(),
            Change::ProjectOut => vec![named(" projected out".to_owned())],
        }
    }

    fn edits<C: Compute>(&self, model: &Model<C>) -> Result<Vec<Box<dyn Edit<C>>>> {
        let select = Select::at(self.positions.clone());
        let edit = |factor: f64| -> Result<Tensor<C, 3>> {
            let direction: Vec<f32> = self.direction.iter().map(|x| (f64::from(*x) * factor) as f32).collect();
            at_hook(model, self.point, direction)
        };
        match &self.change {
            Change::Add(strengths) => {
                let add = |&strength: &f64| -> Result<Box<dyn Edit<C>>> {
                    Ok(Box::new(Add { vector: edit(strength)?, select: select.clone() }))
                };
                strengths.iter().map(add).collect()
            }
            Change::ProjectOut => {
                let direction = edit(1.0 / direction_length(&self.direction)?)?;
                Ok(vec![Box::new(ProjectOut { direction, select })])
            }
        }
    }
}

/// Steers the clean run of every prompt. `recorder` is of [`Steering::mediators`]. What lies before the hook point is computed once.
/// `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] for a direction of zeros that is to be projected out, and whatever the passes and the recorder give.
pub fn steer<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    steering: &Steering,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let edits = steering.edits(model)?;
    let layers = model.config().n_layers;
    let place = Place::before(steering.point, layers);
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let before = up_to(model, &pair.clean, steering.point)?;
        let run = |hooks: Hooks<'_, C>| -> Result<Vec<f64>> {
            metric.values(model.logits_from(&pair.clean, before.clone(), Rows::Last, hooks)?, &pair.answers)
        };
        let clean = run(Hooks::none())?;
        recorder.count(range.len(), 1.0);
        for (index, edit) in edits.iter().enumerate() {
            let steered = run(Hooks::none().edit(steering.point, edit.as_ref()))?;
            let reached = |example| pairs.reaches(example, &steering.positions);
            recorder.record_where(index, pair.first, &clean, None, &steered, reached)?;
            recorder.count(range.len(), share(place, layers));
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// Mean activation at a hook point of the prompts less that of their counterfactuals, over the chosen positions of all; added in
/// their order in f64.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, or when no position is chosen, and whatever the passes give.
pub fn difference_of_means<C: Compute>(
    model: &Model<C>,
    pairs: &Pairs,
    point: HookPoint,
    positions: &Positions,
) -> Result<Vec<f32>> {
    let mut clean = Mean::default();
    let mut counterfactual = Mean::default();
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range, model.config(), &model.device())?;
        clean.add(model, &pair.clean, point, positions)?;
        counterfactual.add(model, pair.corrupted()?, point, positions)?;
    }
    let (clean, counterfactual) = (clean.value(point)?, counterfactual.value(point)?);
    Ok(clean.iter().zip(&counterfactual).map(|(a, b)| (a - b) as f32).collect())
}

/// The unembedding of one token less that of another, by the rows after the last norm: `W_U[:, of] − W_U[:, less]`.
///
/// # Errors
/// [`Error::Data`] for a token that the model does not have.
pub fn unembedding_difference<C: Compute>(model: &Model<C>, of: u32, less: u32) -> Result<Vec<f32>> {
    let unembedding = model.unembedding();
    let vocabulary = model.config().vocab_size;
    let row = |id: u32| {
        if id as usize >= vocabulary {
            return Err(Error::Data(format!("there is no token {id}; the model has {vocabulary}")));
        }
        Ok(unembedding.clone().narrow(0, id as usize, 1))
    };
    let difference = (row(of)? - row(less)?).into_data().into_vec::<f32>();
    difference.map_err(|error| Error::Data(format!("the unembedding cannot be read: {error:?}")))
}

/// The length of a direction.
///
/// # Errors
/// [`Error::Data`] if it has none: it points nowhere.
pub fn direction_length(direction: &[f32]) -> Result<f64> {
    let length = direction.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        Ok(length)
    } else {
        Err(Error::Data(format!("the direction has length {length}, so it points nowhere")))
    }
}

/// A direction in the shape that edits take, `[1, units, width]`.
///
/// # Errors
/// [`Error::Data`] if the hook point has another number of numbers.
pub fn at_hook<C: Compute>(model: &Model<C>, point: HookPoint, direction: Vec<f32>) -> Result<Tensor<C, 3>> {
    let shape = point.shape(model.config(), 1);
    let (units, width) = match shape[..] {
        [units, width] => (units, width),
        _ => (1, shape.iter().product()),
    };
    if units * width != direction.len() {
        let why = format!("the direction has {} numbers, `{point}` has shape {shape:?}", direction.len());
        return Err(Error::Data(why));
    }
    Ok(Tensor::from_data(TensorData::new(direction, [1, units, width]), &model.device()))
}

/// A mean of activations under way.
#[derive(Default)]
struct Mean {
    sum: Vec<f64>,
    count: u64,
}

impl Mean {
    fn add<C: Compute>(
        &mut self,
        model: &Model<C>,
        batch: &Batch<C>,
        point: HookPoint,
        positions: &Positions,
    ) -> Result<()> {
        let chosen = positions.rows(batch)?;
        let mut take = |_, x: Tensor<C, 3>| {
            let [rows, units, width] = x.dims();
            let values = x.into_data().into_vec::<f32>();
            let values =
                values.map_err(|error| mediant_lm::Error::Hook(format!("`{point}` cannot be read: {error:?}")))?;
            self.sum.resize(units * width, 0.0);
            for (values, _) in values.chunks_exact(values.len() / rows).zip(&chosen).filter(|(_, chosen)| **chosen) {
                self.sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
                self.count += 1;
            }
            Ok(())
        };
        Ok(model.read(batch, Hooks::none().read([point], &mut take))?)
    }

    fn value(self, point: HookPoint) -> Result<Vec<f64>> {
        if self.count == 0 {
            return Err(Error::Data(format!("no prompt has a position at which the mean of `{point}` is wanted")));
        }
        Ok(self.sum.into_iter().map(|sum| sum / self.count as f64).collect())
    }
}
