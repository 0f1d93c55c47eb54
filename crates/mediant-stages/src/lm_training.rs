//! The loop of the stages that train a language model: checkpoints, held-out losses, progress, results.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mediant_artifact::{Kind, ModelFacts, ModelReader, Tokens};
use mediant_engine::{Output, Problems, RunContext, StageError};
use mediant_lm::train::{CurvePoint, Trainer, curve_from_words, curve_to_words, held_out_loss};
use mediant_lm::{Hooks, Model, predicted, save};
use mediant_tensor::Compute;
use serde_json::Value;

use crate::columns::Columns;

/// Least time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The last steps, with whose mean loss that of test rows is compared.
const LAST_STEPS: usize = 10;

/// How far above that it is worth a word, in nats.
const FAR: f64 = 1.0;

const STATE: &str = "state.safetensors";

/// The list of curve points in a checkpoint.
const POINTS: &str = "points";

/// Columns of the curve.
pub(crate) const CURVE: [&str; 6] = ["step", "tokens", "loss", "lr", "grad_norm", "test_loss"];

/// The key of the model after a step.
pub(crate) fn checkpoint_key(step: u64) -> String {
    format!("step={step}")
}

/// Most steps and most tokens of a training.
const LONGEST: u64 = 1_000_000_000_000;

/// Most tokens of a step.
const MOST_A_STEP: usize = 1 << 24;

/// Whether a training is of a length that makes sense. `at` is where its options are: empty, or `training.`.
pub(crate) fn check_length(at: &str, steps: Option<u64>, tokens: Option<u64>) -> Result<(), Problems> {
    let mut problems = Problems::none();
    for (option, value) in [("steps", steps), ("tokens", tokens)] {
        if value.is_some_and(|value| value > LONGEST) {
            problems.push(Problems::config(format!("{at}{option}"), format!("must be at most {LONGEST}")));
        }
    }
    problems.finish()
}

/// Whether a step of rows of so many tokens is of a size that makes sense.
pub(crate) fn check_step(at: &str, batch: usize, accumulate: usize, context: usize) -> Result<(), Problems> {
    let rows = batch as u128 * accumulate as u128;
    let most = (MOST_A_STEP / context.max(1)).max(1);
    if rows <= most as u128 {
        return Ok(());
    }
    let option = if accumulate > batch { "accumulate" } else { "batch" };
    let message = format!("a step would have {rows} rows of {context} tokens; it may have {MOST_A_STEP} tokens");
    let problem = Problems::config(format!("{at}{option}"), message);
    Err(problem.help(format!("`batch` · `accumulate` of at most {most}")))
}

/// Memory that a training takes, in bytes, with so many rows of so many tokens in a forward pass.
pub(crate) fn training_memory(model: &ModelFacts, batch: usize, context: usize) -> u64 {
    // Parameters on host and device, gradients, two moments; the activations that the backward pass needs; logits.
    let of_token = model.n_layers * (16 * model.d_model + 4 * model.d_mlp) + 8 * model.d_model;
    let activations = batch.saturating_mul(context).saturating_mul(of_token).saturating_add(256 * model.vocab_size);
    let numbers = (6 * model.parameters).saturating_add(activations as u64);
    numbers.saturating_mul(4).saturating_add(64 << 20)
}

/// The outputs of a training: the model, the curve as `curve` says, then `more`, then the models after `checkpoints`.
pub(crate) fn outputs(curve: &'static str, more: Option<Output>, checkpoints: &[u64]) -> Vec<Output> {
    let keyed = (!checkpoints.is_empty()).then(|| {
        let keys = checkpoints.iter().map(|step| checkpoint_key(*step)).collect();
        Output::keyed("checkpoints", Kind::Model, keys, "The model after each step of `checkpoints`.")
    });
    let model = Output::new("model", Kind::Model, "The model after the last step.");
    [model, Output::new("curve", Kind::Table, curve)].into_iter().chain(more).chain(keyed).collect()
}

/// How long a training goes on, and what is kept of it.
pub(crate) struct Course<'a> {
    pub(crate) steps: u64,
    pub(crate) tokens_per_step: u64,
    /// Steps after which the model is kept.
    pub(crate) checkpoints: &'a [u64],
    /// Steps between two measurements of the loss on `test`.
    pub(crate) test_every: u64,
    pub(crate) test: Option<&'a Tokens>,
    pub(crate) saved_with: &'a SavedWith,
}

/// What goes with the weights of a model.
pub(crate) struct SavedWith {
    /// Its `config.json`.
    pub(crate) json: Value,
    /// The tokenizer's and other files.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl SavedWith {
    /// What came with a model.
    pub(crate) fn of(model: &ModelReader) -> Self {
        let names = model.files.names().filter(|name| *name != "config.json");
        let files = names.filter_map(|name| Some((name.to_owned(), model.files.get(name)?.to_vec())));
        Self { json: model.meta.config.clone(), files: files.collect() }
    }
}

/// A training under way.
pub(crate) struct Run<'a, K, C: Compute> {
    cx: &'a RunContext<'a, K>,
    trainer: Trainer<'a, C>,
    course: Course<'a>,
    curve: Vec<CurvePoint>,
    /// Where the models of `checkpoints` are until they are written.
    snapshots: PathBuf,
}

impl<'a, K, C: Compute> Run<'a, K, C> {
    /// Trains to the end and writes the outputs `model` and `checkpoints`; from the last checkpoint, if there is one.
    pub(crate) fn finish(
        cx: &'a RunContext<'a, K>,
        trainer: Trainer<'a, C>,
        course: Course<'a>,
    ) -> Result<(Trainer<'a, C>, Vec<CurvePoint>), StageError> {
        let mut run = Self { cx, trainer, course, curve: Vec::new(), snapshots: cx.scratch()? };
        match cx.checkpoints().latest()? {
            Some(folder) => run.resume(&folder)?,
            None => run.snapshot()?,
        }
        run.train()?;
        run.write()?;
        Ok((run.trainer, run.curve))
    }

    fn resume(&mut self, folder: &Path) -> Result<(), StageError> {
        let beside = self.trainer.resume(&folder.join(STATE), &[POINTS])?;
        self.cx.note(format!("goes on from its checkpoint after step {}", self.trainer.done()));
        self.curve = beside.first().map(|words| curve_from_words(words)).unwrap_or_default();
        for step in self.taken() {
            let name = snapshot_name(step);
            fs::copy(folder.join(&name), self.snapshots.join(&name))?;
        }
        Ok(())
    }

    fn train(&mut self) -> Result<(), StageError> {
        let (mut saved, mut reported) = (Instant::now(), Instant::now());
        let steps = self.course.steps;
        while self.trainer.done() < steps {
            self.step()?;
            if reported.elapsed() > REPORT_EVERY || self.trainer.done() == steps {
                let seen = |steps| steps * self.course.tokens_per_step;
                self.cx.progress(seen(self.trainer.done()), seen(steps), "tokens");
                reported = Instant::now();
            }
            let cancelled = self.cx.cancelled();
            if cancelled || saved.elapsed() > self.cx.checkpoint_every() {
                self.save()?;
                saved = Instant::now();
            }
            if cancelled {
                return Err(StageError::cancelled());
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), StageError> {
        let report = self.trainer.step()?;
        let due = report.step.is_multiple_of(self.course.test_every) || report.step == self.course.steps;
        let test_loss = match self.course.test {
            Some(test) if due => Some(held_out_loss(&self.trainer.model()?, test)?).filter(|loss| !loss.is_nan()),
            _ => None,
        };
        self.curve.push(CurvePoint { report, test_loss });
        self.snapshot()
    }

    /// Keeps the model if its step is one of `checkpoints`.
    fn snapshot(&self) -> Result<(), StageError> {
        let step = self.trainer.done();
        if self.course.checkpoints.contains(&step) {
            self.trainer.save_snapshot(&self.snapshots.join(snapshot_name(step)))?;
        }
        Ok(())
    }

    /// Steps of `checkpoints` that are done.
    fn taken(&self) -> Vec<u64> {
        let done = self.trainer.done();
        self.course.checkpoints.iter().copied().filter(|step| *step <= done).collect()
    }

    fn save(&self) -> Result<(), StageError> {
        let words = curve_to_words(&self.curve);
        self.cx.checkpoints().save(|folder| {
            self.trainer.save(&folder.join(STATE), &[(POINTS, &words)]).map_err(io::Error::other)?;
            for step in self.taken() {
                let name = snapshot_name(step);
                fs::copy(self.snapshots.join(&name), folder.join(&name))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn write(&self) -> Result<(), StageError> {
        let SavedWith { json, files } = self.course.saved_with;
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let trained = self.trainer.model()?;
        save(&trained, json, &files, self.cx.output("model")?)?;
        for step in self.taken() {
            let model = self.trainer.load_snapshot(&self.snapshots.join(snapshot_name(step)))?;
            save(&model, json, &files, self.cx.output_keyed("checkpoints", &checkpoint_key(step))?)?;
        }
        if let Some(last) = self.curve.last() {
            let test = last.test_loss.map_or(String::new(), |loss| format!(", on test rows {loss:.4}"));
            self.cx.note(format!("loss {:.4} at the last step{test}", last.report.loss));
        }
        if let Some(test) = self.course.test {
            self.warn_of_test(&trained, test)?;
        }
        Ok(())
    }

    /// Tells of test rows that are predicted far worse than training rows were in the last steps.
    fn warn_of_test(&self, model: &Model<C>, test: &Tokens) -> Result<(), StageError> {
        let last = &self.curve[self.curve.len().saturating_sub(LAST_STEPS)..];
        let trained = last.iter().map(|point| point.report.loss).sum::<f64>() / last.len() as f64;
        let tested = self.curve.last().and_then(|point| point.test_loss);
        if tested.is_some_and(|tested| tested <= trained + FAR) {
            return Ok(());
        }
        // No loss is known where nothing is predicted, and where it is no number.
        let (mean, rows) = (tested.unwrap_or(f64::NAN), losses_of_rows(model, test)?);
        let (Some(median), Some(largest)) = (rows.get(rows.len().saturating_sub(1) / 2), rows.last()) else {
            return Ok(());
        };
        self.cx.note(format!(
            "test rows are not predicted as training rows are: their mean loss is {mean:.4}, that of the last {} steps {trained:.4}. A few rows can carry such \
             a mean: the median over test rows is {median:.4}, the largest {largest:.4}",
            last.len()
        ));
        Ok(())
    }
}

/// The mean loss of each row that has predicted tokens, rising; what is no number comes last.
fn losses_of_rows<C: Compute>(model: &Model<C>, tokens: &Tokens) -> Result<Vec<f64>, StageError> {
    let losses = mediant_lm::losses(model, tokens, Hooks::none, |_, _| Ok::<_, StageError>(()))?;
    let mut losses = losses.into_iter().map(f64::from);
    let of_row = |row: usize| {
        let count = predicted(tokens, row..row + 1).count();
        (count > 0).then(|| losses.by_ref().take(count).sum::<f64>() / count as f64)
    };
    let mut rows: Vec<f64> = (0..tokens.len()).filter_map(of_row).collect();
    rows.iter_mut().filter(|loss| loss.is_nan()).for_each(|loss| *loss = f64::NAN);
    rows.sort_by(f64::total_cmp);
    Ok(rows)
}

fn snapshot_name(step: u64) -> String {
    format!("step-{step}.safetensors")
}

/// The columns of [`CURVE`].
pub(crate) fn curve_columns(curve: &[CurvePoint]) -> Columns {
    let report = || curve.iter().map(|point| point.report);
    Columns::default()
        .count("step", report().map(|report| report.step))
        .count("tokens", report().map(|report| report.tokens))
        .number("loss", report().map(|report| report.loss))
        .number("lr", report().map(|report| report.lr))
        .number("grad_norm", report().map(|report| report.grad_norm))
        .optional_number("test_loss", curve.iter().map(|point| point.test_loss))
}

/// Writes the output `curve`.
pub(crate) fn write_curve<K>(cx: &RunContext<'_, K>, columns: Columns) -> Result<(), StageError> {
    columns.write(
        cx.output("curve")?,
        "Training curve",
        "Loss is the mean over the predicted tokens of the step before its update, test_loss that over all predicted tokens of the test rows after \
         it, both in nats.",
    )
}
