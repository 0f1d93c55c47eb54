//! The training loop of `train_lm`: data in, checkpoints and results out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{TableMeta, TokenizerReader, Tokens, write_table};
use mediant_engine::{RunContext, StageError};
use mediant_lm::train::{CurvePoint, Trainer, curve_from_words, curve_to_words, held_out_loss};
use mediant_lm::{LmConfig, save};
use mediant_tensor::{Compute, on_device};
use serde_json::Value;

use super::{CURVE, Config, checkpoint_key};
use crate::device::compute_device;

/// Least time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

const STATE: &str = "state.safetensors";

pub(super) fn run(cx: &RunContext<'_, Config>) -> Result<(), StageError> {
    let inputs = Inputs::read(cx)?;
    on_device!(compute_device(cx.device()), C, device => Run::<C>::new(cx, &inputs, device)?.finish())
}

struct Inputs {
    tokens: Tokens,
    test: Option<Tokens>,
    /// The tokenizer's files, to go with the model.
    files: Vec<(String, Vec<u8>)>,
    /// The model's `config.json`.
    json: Value,
}

impl Inputs {
    fn read(cx: &RunContext<'_, Config>) -> Result<Self, StageError> {
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let test = cx.optional("test")?.map(|test| Tokens::read(&test)).transpose()?;
        let tokenizer = cx.optional("tokenizer")?.map(|artifact| TokenizerReader::open(&artifact)).transpose()?;
        let files = tokenizer.iter().flat_map(|tokenizer| {
            let file = |name: &str| Some((name.to_owned(), tokenizer.files.get(name)?.to_vec()));
            tokenizer.files.names().filter_map(file)
        });
        let files = files.collect();
        let meta = &tokens.meta;
        let vocab_size = cx.config().vocab_size.unwrap_or(meta.vocab_size);
        let context = cx.config().context.unwrap_or(meta.context);
        // GPT-2's own convention: one token both begins a text and ends it.
        let (bos, eos) = (meta.bos.or(meta.separator), meta.separator.or(meta.bos));
        let json = cx.config().model(vocab_size, context, bos, eos).0;
        Ok(Self { tokens, test, files, json })
    }
}

/// A training under way.
struct Run<'a, C: Compute> {
    cx: &'a RunContext<'a, Config>,
    inputs: &'a Inputs,
    trainer: Trainer<'a, C>,
    curve: Vec<CurvePoint>,
    steps: u64,
    /// Where the models of `checkpoints` are until they are written.
    snapshots: PathBuf,
}

impl<'a, C: Compute> Run<'a, C> {
    fn new(cx: &'a RunContext<'a, Config>, inputs: &'a Inputs, device: C::Device) -> Result<Self, StageError> {
        let config = LmConfig::from_json(&inputs.json)?;
        let steps = cx.config().step_count(inputs.tokens.meta.context);
        let training = cx.config().training(steps);
        cx.note(format!(
            "{} parameters, {steps} steps of {} rows; {} rows are one pass",
            config.parameters(),
            training.batch * training.accumulate,
            inputs.tokens.len()
        ));
        let trainer = Trainer::new(config, training, &inputs.tokens, device)?;
        let mut run = Self { cx, inputs, trainer, curve: Vec::new(), steps, snapshots: cx.scratch()? };
        match cx.checkpoints().latest()? {
            Some(folder) => run.resume(&folder)?,
            None => run.snapshot()?,
        }
        Ok(run)
    }

    fn resume(&mut self, folder: &Path) -> Result<(), StageError> {
        let beside = self.trainer.resume(&folder.join(STATE), &["curve"])?;
        self.curve = beside.first().map(|words| curve_from_words(words)).unwrap_or_default();
        for step in self.taken() {
            let name = snapshot_name(step);
            fs::copy(folder.join(&name), self.snapshots.join(&name))?;
        }
        Ok(())
    }

    /// Trains to the end and writes the outputs.
    fn finish(mut self) -> Result<(), StageError> {
        let (mut saved, mut reported) = (Instant::now(), Instant::now());
        while self.trainer.done() < self.steps {
            self.step()?;
            if reported.elapsed() > REPORT_EVERY || self.trainer.done() == self.steps {
                let seen = |steps| steps * self.tokens_per_step();
                self.cx.progress(seen(self.trainer.done()), seen(self.steps), "tokens");
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
        self.write()
    }

    /// In full rows, which all but the last of packed rows are.
    fn tokens_per_step(&self) -> u64 {
        let config = self.cx.config();
        (config.batch * config.accumulate * self.inputs.tokens.meta.context) as u64
    }

    fn step(&mut self) -> Result<(), StageError> {
        let report = self.trainer.step()?;
        let due = report.step.is_multiple_of(self.cx.config().test_every) || report.step == self.steps;
        let test_loss = match &self.inputs.test {
            Some(test) if due => Some(held_out_loss(&self.trainer.model()?, test)?).filter(|loss| !loss.is_nan()),
            _ => None,
        };
        self.curve.push(CurvePoint { report, test_loss });
        self.snapshot()
    }

    /// Keeps the model if its step is one of `checkpoints`.
    fn snapshot(&self) -> Result<(), StageError> {
        let step = self.trainer.done();
        if self.cx.config().checkpoints.contains(&step) {
            self.trainer.save_snapshot(&self.snapshots.join(snapshot_name(step)))?;
        }
        Ok(())
    }

    /// Steps of `checkpoints` that are done.
    fn taken(&self) -> Vec<u64> {
        let done = self.trainer.done();
        self.cx.config().checkpoints.iter().copied().filter(|step| *step <= done).collect()
    }

    fn save(&self) -> Result<(), StageError> {
        let words = curve_to_words(&self.curve);
        self.cx.checkpoints().save(|folder| {
            self.trainer.save(&folder.join(STATE), &[("curve", &words)]).map_err(io::Error::other)?;
            for step in self.taken() {
                let name = snapshot_name(step);
                fs::copy(self.snapshots.join(&name), folder.join(&name))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn write(&self) -> Result<(), StageError> {
        let files = self.inputs.files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()));
        let files: Vec<(&str, Vec<u8>)> = files.collect();
        let json = &self.inputs.json;
        save(&self.trainer.model()?, json, &files, self.cx.output("model")?)?;
        for step in self.taken() {
            let model = self.trainer.load_snapshot(&self.snapshots.join(snapshot_name(step)))?;
            save(&model, json, &files, self.cx.output_keyed("checkpoints", &checkpoint_key(step))?)?;
        }
        let table = curve_table(&self.curve)?;
        let meta = TableMeta {
            title: "Training curve".to_owned(),
            description:
                "Loss is the mean over the predicted tokens of the step before its update, test_loss that over all \
                          predicted tokens of the test rows after it, both in nats."
                    .to_owned(),
        };
        write_table(self.cx.output("curve")?, table.schema(), [Ok(table)], &meta)?;
        if let Some(last) = self.curve.last() {
            let test = last.test_loss.map_or(String::new(), |loss| format!(", on test rows {loss:.4}"));
            self.cx.note(format!("loss {:.4} at the last step{test}", last.report.loss));
        }
        Ok(())
    }
}

fn snapshot_name(step: u64) -> String {
    format!("step-{step}.safetensors")
}

fn curve_table(curve: &[CurvePoint]) -> Result<RecordBatch, StageError> {
    let whole = |f: fn(&CurvePoint) -> u64| Arc::new(UInt64Array::from_iter_values(curve.iter().map(f))) as ArrayRef;
    let real = |f: fn(&CurvePoint) -> f64| Arc::new(Float64Array::from_iter_values(curve.iter().map(f))) as ArrayRef;
    let columns = [
        whole(|point| point.report.step),
        whole(|point| point.report.tokens),
        real(|point| point.report.loss),
        real(|point| point.report.lr),
        real(|point| point.report.grad_norm),
        Arc::new(Float64Array::from_iter(curve.iter().map(|point| point.test_loss))),
    ];
    let field = |(name, column): (&str, &ArrayRef)| Field::new(name, column.data_type().clone(), name == "test_loss");
    let fields: Vec<Field> = CURVE.into_iter().zip(&columns).map(field).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into())?)
}
