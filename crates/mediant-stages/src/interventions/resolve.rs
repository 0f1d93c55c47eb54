//! Interventions as edits of a loaded model.

use mediant_artifact::{ActivationsReader, HookFact};
use mediant_engine::{RunContext, StageError};
use mediant_lm::{
    Add, Edit, Frozen, HookPoint, Hooks, KnockOut, Model, Noise, PositionMeans, ProjectOut, Replace, Resample, Select,
    Values, stored_mean,
};
use mediant_methods::{FromCounterfactual, Pairs, SaeSplice, at_hook, direction_length};
use mediant_tensor::Compute;

use super::{Action, Addition, ErrorTerm, Intervention};
use crate::model_input::{hooks_like, loaded_facts};

/// Edits, and where each is made.
pub(crate) struct Edits<'m, C: Compute> {
    edits: Vec<(Vec<HookPoint>, Box<dyn Edit<C> + 'm>)>,
}

impl<C: Compute> Edits<'_, C> {
    /// The first hook point that has one.
    pub(crate) fn first(&self) -> Option<HookPoint> {
        self.edits.iter().flat_map(|(points, _)| points.iter().copied()).min()
    }

    /// The edits of a pass, in the order of the list.
    pub(crate) fn hooks(&self) -> Hooks<'_, C> {
        let all = self.edits.iter().flat_map(|(points, edit)| points.iter().map(move |point| (*point, edit)));
        all.fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(point, edit.as_ref()))
    }
}

/// The edits that interventions stand for. `seed` is the stage's; `pairs` are the prompts that they are made on, where there are
/// prompts.
pub(crate) fn resolve<'m, C: Compute, T>(
    cx: &RunContext<'_, T>,
    list: &[Intervention],
    model: &'m Model<C>,
    seed: u64,
    pairs: Option<&'m Pairs>,
) -> Result<Edits<'m, C>, StageError> {
    let mut edits = Vec::new();
    if list.is_empty() {
        return Ok(Edits { edits });
    }
    let facts = loaded_facts(&cx.input("model")?)?;
    let activations = cx.optional("activations")?.map(|artifact| ActivationsReader::open(&artifact)).transpose()?;
    for item in list {
        let missing = |_| StageError::new(format!("the model has no hook point `{}`", item.at));
        let hooks = hooks_like("at", &item.at, &facts).map_err(missing)?;
        let points = hooks.iter().map(|hook| hook.name.parse()).collect::<Result<Vec<HookPoint>, _>>()?;
        match shared(cx, item, model, &points, seed, pairs)? {
            Some(edit) => edits.push((points, edit)),
            None => {
                for (hook, point) in hooks.iter().zip(points) {
                    edits.push((vec![point], own(cx, item, model, hook, point, activations.as_ref(), seed)?));
                }
            }
        }
    }
    Ok(Edits { edits })
}

impl Intervention {
    fn select(&self) -> Select {
        Select { positions: self.positions.clone(), heads: self.heads.clone(), numbers: self.neurons.clone() }
    }
}

/// The edit that serves all hook points of an intervention, for those that one can.
fn shared<'m, C: Compute, T>(
    cx: &RunContext<'_, T>,
    item: &Intervention,
    model: &'m Model<C>,
    points: &[HookPoint],
    seed: u64,
    pairs: Option<&'m Pairs>,
) -> Result<Option<Box<dyn Edit<C> + 'm>>, StageError> {
    let positions = item.positions.clone();
    Ok(Some(match &item.action {
        Action::Zero => Box::new(Replace { with: Values::Zero, select: item.select() }),
        Action::Patch => {
            let pairs = pairs.ok_or_else(|| StageError::new("there are no prompts to patch from"))?;
            Box::new(FromCounterfactual::new(model, pairs, points.to_vec(), item.select()))
        }
        Action::Noise(spread) => {
            let seed = item.seed.unwrap_or(seed);
            Box::new(Noise { std: spread.std as f32, seed, sample: 0, select: item.select() })
        }
        Action::KnockOut(keys) => {
            Box::new(KnockOut { queries: positions, keys: keys.keys.clone(), heads: item.heads.clone() })
        }
        Action::FreezeScale => Box::new(Frozen::new(model, points.to_vec(), positions)),
        Action::Splice(spliced) => Box::new(SaeSplice {
            sae: mediant_dict::artifact::read(&cx.input("dictionary")?)?.0,
            keep_error: spliced.error == ErrorTerm::Keep,
            zeroed: spliced.zero_latents.clone(),
            positions,
        }),
        Action::Add(_) | Action::ProjectOut(_) | Action::Mean | Action::MeanByPosition | Action::Resample => {
            return Ok(None);
        }
    }))
}

/// The edit of one hook point, for interventions that put in what is of its shape.
fn own<'m, C: Compute, T>(
    cx: &RunContext<'_, T>,
    item: &Intervention,
    model: &'m Model<C>,
    hook: &HookFact,
    point: HookPoint,
    activations: Option<&ActivationsReader>,
    seed: u64,
) -> Result<Box<dyn Edit<C> + 'm>, StageError> {
    let select = item.select();
    let stored = || activations.ok_or_else(|| StageError::new("nothing is connected to input `activations`"));
    let scaled = |direction: Vec<f32>, factor: f64| -> Vec<f32> {
        direction.into_iter().map(|x| (f64::from(x) * factor) as f32).collect()
    };
    Ok(match &item.action {
        Action::Add(Addition { direction, strength, normalize }) => {
            let direction = direction.direction(cx, model)?;
            let length = if *normalize { direction_length(&direction)? } else { 1.0 };
            Box::new(Add { vector: at_hook(model, point, scaled(direction, strength / length))?, select })
        }
        Action::ProjectOut(out) => {
            let direction = out.direction.direction(cx, model)?;
            let length = direction_length(&direction)?;
            Box::new(ProjectOut { direction: at_hook(model, point, scaled(direction, 1.0 / length))?, select })
        }
        Action::Mean => {
            let mean = at_hook(model, point, stored_mean(stored()?, &hook.name)?)?;
            Box::new(Replace { with: Values::Same(mean), select })
        }
        Action::MeanByPosition => Box::new(PositionMeans::of(stored()?, &hook.name, select)?),
        Action::Resample => {
            let seed = item.seed.unwrap_or(seed);
            Box::new(Resample { stored: stored()?.hook(&hook.name)?, seed, select })
        }
        other => return Err(StageError::new(format!("`{}` has no values of its own", other.name()))),
    })
}
