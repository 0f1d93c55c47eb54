//! The training, and the log of its removals.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ModelReader, TableMeta, Tokens, write_table};
use mediant_engine::{RunContext, StageError};
use mediant_lm::NormSite;
use mediant_lm::train::{CurvePoint, LossAround, Removal, Trainer};
use mediant_tensor::on_device;

use super::plan::plan;
use super::{Config, MORE, REMOVALS};
use crate::device::compute_device;
use crate::lm_training::{Course, Run, SavedWith, write_curve};
use crate::model_input::loaded_facts;

pub(super) fn run(cx: &RunContext<'_, Config>) -> Result<(), StageError> {
    let config = cx.config();
    let artifact = cx.input("model")?;
    let saved_with = SavedWith::of(&ModelReader::open(&artifact)?);
    let tokens = Tokens::read(&cx.input("tokens")?)?;
    let test = cx.optional("test")?.map(|test| Tokens::read(&test)).transpose()?;
    let recipe = config.training.recipe(config.preset, tokens.meta.context, config.seed);
    let sites = plan(config, &loaded_facts(&artifact)?, recipe.steps).map_err(|problems| {
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        StageError::new(messages.join("; "))
    })?;
    let removal = Removal {
        sites,
        momentum: config.momentum(),
        first_position: config.first_position,
        auxiliary: config.auxiliary(),
    };
    on_device!(compute_device(cx.device()), C, device => {
        let model = mediant_lm::load::<C>(&artifact, &device)?;
        let course = Course {
            steps: recipe.steps,
            tokens_per_step: (recipe.training.batch * recipe.training.accumulate * tokens.meta.context) as u64,
            checkpoints: &config.checkpoints,
            test_every: config.test_every,
            test: test.as_ref(),
            saved_with: &saved_with,
        };
        let trainer = Trainer::from_model(&model, recipe.training, &tokens)?.removing(removal)?;
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
    let more: [ArrayRef; 2] = [
        Arc::new(Float64Array::from_iter_values(curve.iter().map(|point| point.report.auxiliary))),
        Arc::new(UInt64Array::from_iter_values(curve.iter().map(frozen))),
    ];
    write_curve(cx, curve, MORE.into_iter().zip(more).collect())?;
    let around: Vec<Option<LossAround>> = removed.iter().map(|(_, step, _)| LossAround::of(curve, *step)).collect();
    let around = around.into_iter().collect::<Option<Vec<_>>>();
    let around = around.ok_or_else(|| StageError::new("a norm was frozen outside the training"))?;
    let real = |f: fn(&LossAround) -> f64| Arc::new(Float64Array::from_iter_values(around.iter().map(f))) as ArrayRef;
    let columns: [ArrayRef; 7] = [
        Arc::new(StringArray::from_iter_values(removed.iter().map(|(site, ..)| site.to_string()))),
        Arc::new(UInt64Array::from_iter_values(removed.iter().map(|(_, step, _)| *step))),
        Arc::new(Float32Array::from_iter_values(removed.iter().map(|(.., scale)| *scale))),
        real(|around| around.live),
        real(|around| around.frozen),
        real(|around| around.before),
        Arc::new(UInt64Array::from_iter(around.iter().map(|around| around.recovered_after))),
    ];
    let field =
        |(name, column): (&str, &ArrayRef)| Field::new(name, column.data_type().clone(), name == "recovered_after");
    let fields: Vec<Field> = REMOVALS.into_iter().zip(&columns).map(field).collect();
    let table = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into())?;
    let meta = TableMeta {
        title: "Removals".to_owned(),
        description: "Each norm that was frozen, in order, and the training loss around it, in nats.".to_owned(),
    };
    write_table(cx.output("removals")?, table.schema(), [Ok(table)], &meta)?;
    let slowest = around.iter().map(|around| around.recovered_after).try_fold(0, |most, steps| Some(most.max(steps?)));
    cx.note(match slowest {
        Some(steps) => format!(
            "{} norms frozen; each time the loss was back within 0.1 nats after {steps} steps at most",
            removed.len()
        ),
        None => format!(
            "{} norms frozen; after some of them the loss was not back within 0.1 nats in 50 steps",
            removed.len()
        ),
    });
    Ok(())
}
