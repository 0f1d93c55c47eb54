//! Activation patching (Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262; Heimersheim & Nanda 2024,
//! arXiv:2404.15255) and ablation: what becomes of the metric when a mediator gets other values.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Contrast, Prompt};
use mediant_lm::{HookPoint, Hooks, Model, Values};
use mediant_tensor::random::{shuffle, stream};
use mediant_tensor::{Compute, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sweep::{run, sweep};
use crate::{Error, Metric, Pairs, Recorder, Result, Sink, Target};

/// Which of two runs gets activations of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The counterfactual run gets clean activations: what suffices to restore the clean value.
    #[default]
    Denoising,
    /// The clean run gets counterfactual activations: what is needed for the clean value.
    Noising,
}

impl Direction {
    /// How effects become scores.
    pub fn contrast(self) -> Contrast {
        match self {
            Self::Denoising => Contrast::Restored,
            Self::Noising => Contrast::Lost,
        }
    }

    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denoising => "denoising",
            Self::Noising => "noising",
        }
    }
}

/// Patches each target alone between each prompt and its counterfactual. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, and whatever the passes and the recorder give.
pub fn patch<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    targets: &[Target],
    direction: Direction,
    metric: Metric,
    recorder: &mut impl Sink,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let points: BTreeSet<HookPoint> = targets.iter().map(|target| target.point).collect();
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let (from, into) = match direction {
            Direction::Denoising => (&pair.clean, pair.corrupted()?),
            Direction::Noising => (pair.corrupted()?, &pair.clean),
        };
        let source = run(model, from, points.iter().copied(), metric, &pair.answers)?;
        let values = |point| rows_at(&source.activations, point);
        let mut patched = vec![Vec::new(); targets.len()];
        let base = sweep(model, into, targets, &values, metric, &pair.answers, |index, values, share| {
            patched[index] = values.to_vec();
            recorder.count(range.len(), share);
            Ok::<_, Error>(())
        })?;
        recorder.count(range.len(), 2.0);
        let (clean, counterfactual) = match direction {
            Direction::Denoising => (&source.values, &base),
            Direction::Noising => (&base, &source.values),
        };
        for (index, patched) in patched.iter().enumerate() {
            let reached = |example| pairs.reaches(example, &targets[index].select.positions);
            recorder.record_where(index, pair.first, clean, Some(counterfactual), patched, reached)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

fn rows_at<C: Compute>(activations: &BTreeMap<HookPoint, Tensor<C, 3>>, point: HookPoint) -> Result<Values<C>> {
    let values =
        activations.get(&point).ok_or_else(|| Error::Data(format!("the source pass did not come to `{point}`")))?;
    Ok(Values::Rows(values.clone()))
}

/// What an ablated mediator gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// Zeros.
    Zero,
    /// Its mean over all positions of all prompts.
    Mean,
    /// Its mean over the prompts, position by position.
    MeanByPosition,
    /// Its value in another prompt of the same length, drawn by the seed.
    Resample,
}

impl Ablation {
    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Mean => "mean",
            Self::MeanByPosition => "mean_by_position",
            Self::Resample => "resample",
        }
    }
}

/// Ablates each target alone; resampling draws by the recorder's seed. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] if resampling finds no other prompt of the same length, and whatever the passes and the recorder give.
pub fn ablate<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    targets: &[Target],
    ablation: Ablation,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let points: BTreeSet<HookPoint> = targets.iter().map(|target| target.point).collect();
    let means = match ablation {
        Ablation::Mean | Ablation::MeanByPosition => {
            recorder.count(pairs.prompts().len(), 1.0);
            means(model, pairs, &points, ablation)?
        }
        Ablation::Zero | Ablation::Resample => BTreeMap::new(),
    };
    let others = match ablation {
        Ablation::Resample => Some(resampled(pairs.prompts(), recorder.seed())?),
        _ => None,
    };
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let other = match &others {
            Some(others) => {
                let batch = others.batch::<C>(range.clone(), model.config(), &model.device())?;
                recorder.count(range.len(), 1.0);
                Some(run(model, &batch.clean, points.iter().copied(), metric, &pair.answers)?)
            }
            None => None,
        };
        let values = |point| match (ablation, &other) {
            (_, Some(other)) => rows_at(&other.activations, point),
            (Ablation::Zero, None) => Ok(Values::Zero),
            _ => means.get(&point).cloned().ok_or_else(|| Error::Data(format!("there is no mean at `{point}`"))),
        };
        let mut ablated = vec![Vec::new(); targets.len()];
        let clean = sweep(model, &pair.clean, targets, &values, metric, &pair.answers, |index, values, share| {
            ablated[index] = values.to_vec();
            recorder.count(range.len(), share);
            Ok::<_, Error>(())
        })?;
        recorder.count(range.len(), 1.0);
        for (index, ablated) in ablated.iter().enumerate() {
            let reached = |example| pairs.reaches(example, &targets[index].select.positions);
            recorder.record_where(index, pair.first, &clean, None, ablated, reached)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// The prompts in another order, each at the place of one of its length and never at its own.
fn resampled(prompts: &[Prompt], seed: u64) -> Result<Pairs> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, prompt) in prompts.iter().enumerate() {
        by_length.entry(prompt.clean.ids.len()).or_default().push(index);
    }
    let mut draws = stream(seed, "resample");
    let mut order = vec![0; prompts.len()];
    for (length, mut members) in by_length {
        if let [alone] = members[..] {
            let why = format!("prompt {alone} is the only one of {length} tokens, so there is none to resample from");
            return Err(Error::Data(why));
        }
        // Around a random circle: nobody comes to his own place.
        shuffle(&mut draws, &mut members);
        let next = members.iter().cycle().skip(1);
        members.iter().zip(next).for_each(|(&place, &other)| order[place] = other);
    }
    Pairs::new(order.into_iter().map(|index| prompts[index].clone()).collect(), None)
}

/// Means of the activations at some points over all prompts, added in their order in f64.
fn means<C: Compute>(
    model: &Model<C>,
    pairs: &Pairs,
    points: &BTreeSet<HookPoint>,
    ablation: Ablation,
) -> Result<BTreeMap<HookPoint, Values<C>>> {
    let by_position = ablation == Ablation::MeanByPosition;
    let cells = if by_position { pairs.longest() } else { 1 };
    let mut sums: BTreeMap<HookPoint, ([usize; 2], Vec<f64>)> = BTreeMap::new();
    let mut counts = vec![0u64; cells];
    for range in pairs.ranges() {
        let batch = pairs.batch::<C>(range, model.config(), &model.device())?.clean;
        let cell_of: Vec<usize> = batch
            .sequences()
            .iter()
            .flat_map(|s| (0..s.len).map(|position| if by_position { position } else { 0 }))
            .collect();
        cell_of.iter().for_each(|&cell| counts[cell] += 1);
        let mut add = |point: HookPoint, x: Tensor<C, 3>| {
            let [_, units, width] = x.dims();
            let row = units * width;
            let (_, sums) = sums.entry(point).or_insert_with(|| ([units, width], vec![0.0; cells * row]));
            let values = x.into_data().into_vec::<f32>();
            let values =
                values.map_err(|error| mediant_lm::Error::Hook(format!("`{point}` cannot be read: {error:?}")))?;
            for (values, &cell) in values.chunks_exact(row).zip(&cell_of) {
                sums[cell * row..][..row].iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            Ok(())
        };
        model.read(&batch, Hooks::none().read(points.iter().copied(), &mut add))?;
    }
    let mean = |(point, ([units, width], sums)): (HookPoint, ([usize; 2], Vec<f64>))| {
        let row = units * width;
        let values = sums.chunks_exact(row).zip(&counts);
        let values: Vec<f32> =
            values.flat_map(|(sums, &n)| sums.iter().map(move |sum| (sum / n.max(1) as f64) as f32)).collect();
        let values = Tensor::from_data(TensorData::new(values, [cells, units, width]), &model.device());
        (point, if by_position { Values::ByPosition(values) } else { Values::Same(values) })
    };
    Ok(sums.into_iter().map(mean).collect())
}
