//! Reading effects.

use arrow::array::{Array, Float64Array, RecordBatch, StringArray, UInt32Array};

use super::super::column::{column, nullable};
use super::super::mediator::{self, Mediator};
use super::{EFFECTS, EXAMPLES, Effect, EffectsMeta, Example, MEDIATORS, check_passes};
use crate::{Artifact, Batches, Error, Kind, Result};

/// Reads effects: examples and mediators are in memory, the effects stay in their files.
pub struct Effects {
    /// The description.
    pub meta: EffectsMeta,
    /// The examples.
    pub examples: Vec<Example>,
    /// The mediators.
    pub mediators: Vec<Mediator>,
    artifact: Artifact,
}

impl Effects {
    /// Opens effects and reads their examples and mediators.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Effects)?;
        let meta: EffectsMeta = artifact.meta()?;
        let damaged = |why: String| Error::damaged(artifact.dir(), why);
        check_passes(meta.passes).map_err(damaged)?;
        let mut examples = Vec::new();
        for batch in artifact.batches(EXAMPLES)? {
            let batch = batch?;
            check_numbers(artifact, &batch, "example", examples.len())?;
            let text = |name| column::<StringArray>(&batch, name);
            let (task, template, group) = (text("task")?, text("template")?, text("group")?);
            examples.extend((0..batch.num_rows()).map(|i| Example {
                task: task.value(i).to_owned(),
                template: template.value(i).to_owned(),
                group: group.value(i).to_owned(),
            }));
        }
        let mut mediators = Vec::new();
        for batch in artifact.batches(MEDIATORS)? {
            let batch = batch?;
            check_numbers(artifact, &batch, "mediator", mediators.len())?;
            mediators.extend(mediator::read(&batch)?);
        }
        mediator::check(mediators.iter()).map_err(damaged)?;
        let counts = (examples.len() as u64, mediators.len() as u64, artifact.rows(EFFECTS)?);
        if counts != (meta.examples, meta.mediators, meta.effects) {
            return Err(damaged("it does not hold as many rows as its meta says".to_owned()));
        }
        Ok(Self { meta, examples, mediators, artifact: artifact.clone() })
    }

    /// The effects in the order of writing, some at a time.
    ///
    /// # Errors
    /// If the artifact has none. Damage shows as an error among the batches.
    pub fn batches(&self) -> Result<EffectBatches<'_>> {
        Ok(EffectBatches { effects: self, batches: Some(self.artifact.batches(EFFECTS)?) })
    }

    /// The effects in the order of writing, one at a time.
    ///
    /// # Errors
    /// As [`batches`](Self::batches).
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Effect>>> {
        Ok(self.batches()?.flat_map(|batch| {
            let (effects, error) = match batch {
                Ok(effects) => (effects, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            effects.into_iter().map(Ok).chain(error)
        }))
    }

    fn check(&self, effect: &Effect) -> Result<()> {
        let Effect { example, mediator, counterfactual, .. } = *effect;
        let known = (example as usize) < self.examples.len() && (mediator as usize) < self.mediators.len();
        if !known {
            let why = format!("an effect is about example {example} and mediator {mediator}, which are not there");
            return Err(Error::damaged(self.artifact.dir(), why));
        }
        if counterfactual.is_none() && self.meta.contrast.needs_counterfactual() {
            return Err(Error::damaged(self.artifact.dir(), "an effect has no counterfactual value"));
        }
        Ok(())
    }
}

/// Iterates over effects, a batch at a time; nothing is yielded after an error.
pub struct EffectBatches<'a> {
    effects: &'a Effects,
    batches: Option<Batches>,
}

impl Iterator for EffectBatches<'_> {
    type Item = Result<Vec<Effect>>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.as_mut()?.next()?;
        let effects = batch.and_then(|batch| read(&batch)).and_then(|rows| {
            rows.iter().try_for_each(|effect| self.effects.check(effect))?;
            Ok(rows)
        });
        if effects.is_err() {
            self.batches = None;
        }
        Some(effects)
    }
}

fn read(batch: &RecordBatch) -> Result<Vec<Effect>> {
    let index = |name| column::<UInt32Array>(batch, name);
    let (example, mediator) = (index("example")?, index("mediator")?);
    let number = |name| column::<Float64Array>(batch, name);
    let (clean, patched) = (number("clean")?, number("patched")?);
    let counterfactual = nullable::<Float64Array>(batch, "counterfactual")?;
    let effect = |i| Effect {
        example: example.value(i),
        mediator: mediator.value(i),
        clean: clean.value(i),
        counterfactual: counterfactual.is_valid(i).then(|| counterfactual.value(i)),
        patched: patched.value(i),
    };
    Ok((0..batch.num_rows()).map(effect).collect())
}

/// Checks that a batch of a table continues the count of its rows.
fn check_numbers(artifact: &Artifact, batch: &RecordBatch, name: &str, start: usize) -> Result<()> {
    let numbers = column::<UInt32Array>(batch, name)?;
    if numbers.values().iter().zip(start..).all(|(number, row)| *number as usize == row) {
        Ok(())
    } else {
        Err(Error::damaged(artifact.dir(), format!("column `{name}` does not count its rows")))
    }
}
