//! The training, and the log of its removals.

use mediant_engine::{RunContext, StageError};
use mediant_lm::NormSite;
use mediant_lm::train::{CurvePoint, LossAround, Removal, Trainer};
use mediant_tensor::on_device;

use super::Config;
use super::plan::plan;
use crate::columns::Columns;
use crate::device::compute_device;
use crate::finetuning::Inputs;
use crate::lm_training::{Run, curve_columns, write_curve};
use crate::model_input::loaded_facts;

pub(super) fn run(cx: &RunContext<'_, Config>) -> Result<(), StageError> {
    let config = cx.config();
    let inputs = Inputs::read(cx)?;
    let recipe = config.training.recipe(config.preset, inputs.tokens.meta.context, config.seed);
    let sites = plan(config, &loaded_facts(&inputs.model)?, recipe.steps).map_err(|problems| {
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        StageError::new(messages.join("; "))
    })?;
    let removal = Removal {
        sites,
        momentum: config.momentum(),
        first_position: config.first_position,
        auxiliary: config.auxiliary(),
    };
    let course = inputs.course(&recipe, &config.checkpoints, config.test_every);
    on_device!(compute_device(cx.device()), C, device => {
        let model = mediant_lm::load::<C>(&inputs.model, &device)?;
        let trainer = Trainer::from_model(&model, recipe.training, &inputs.tokens)?.removing(removal)?;
        let (trainer, curve) = Run::finish(cx, trainer, course)?;
        write(cx, &trainer.frozen(), &curve)
    })
}

fn write(
    cx: &RunContext<'_, Config>,
    removed: &[(NormSite, u64, f32)],
    curve: &[CurvePoint],
) -> Result<(), StageError> {
    // Frozen during the step: what is frozen after it counts from the next on.
    let frozen = |point: &CurvePoint| removed.iter().filter(|(_, step, _)| *step < point.report.step).count() as u64;
    let curve_and_more = curve_columns(curve)
        .number("auxiliary_loss", curve.iter().map(|point| point.report.auxiliary))
        .count("frozen", curve.iter().map(frozen));
    write_curve(cx, curve_and_more)?;
    let around: Vec<Option<LossAround>> = removed.iter().map(|(_, step, _)| LossAround::of(curve, *step)).collect();
    let around = around.into_iter().collect::<Option<Vec<_>>>();
    let around = around.ok_or_else(|| StageError::new("a norm was frozen outside the training"))?;
    Columns::default()
        .text("norm", removed.iter().map(|(site, ..)| site.to_string()))
        .count("step", removed.iter().map(|(_, step, _)| *step))
        .number("scale", removed.iter().map(|(.., scale)| f64::from(*scale)))
        .number("loss_live", around.iter().map(|around| around.live))
        .number("loss_frozen", around.iter().map(|around| around.frozen))
        .number("loss_before", around.iter().map(|around| around.before))
        .optional_count("recovered_after", around.iter().map(|around| around.recovered_after))
        .write(
            cx.output("removals")?,
            "Removals",
            "Each norm that was frozen, in order, and the training loss around it, in nats.",
        )?;
    let slowest = around.iter().map(|around| around.recovered_after).try_fold(0, |most, steps| Some(most.max(steps?)));
    cx.note(match slowest {
        Some(steps) => format!(
            "{} norms frozen; each time the training loss was back within 0.1 nats after {steps} steps at most",
            removed.len()
        ),
        None => format!(
            "{} norms frozen; after some of them the training loss was not back within 0.1 nats in 50 steps",
            removed.len()
        ),
    });
    Ok(())
}
