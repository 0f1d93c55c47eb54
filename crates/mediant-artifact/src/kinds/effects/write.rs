//! Writing effects.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::column::required;
use super::super::mediator::{self, BATCH, Mediator};
use super::{EFFECTS, EXAMPLES, Effect, EffectsMeta, Example, MEDIATORS, check_passes};
use crate::{ArtifactWriter, Error, Kind, Manifest, Result, TableWriter};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("example", DataType::UInt32),
        required("mediator", DataType::UInt32),
        required("clean", DataType::Float64),
        Field::new("counterfactual", DataType::Float64, true),
        required("patched", DataType::Float64),
    ]))
}

/// Writes effects; memory is bounded by one batch of them.
pub struct EffectsWriter {
    artifact: ArtifactWriter,
    table: TableWriter,
    waiting: Vec<Effect>,
    examples: u32,
    mediators: u32,
    /// How many effects have no counterfactual value.
    without: u64,
}

impl EffectsWriter {
    /// Starts effects of these mediators on these examples in an empty folder.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Effects`], two mediators share a name, or writing fails.
    pub fn new(artifact: ArtifactWriter, examples: &[Example], mediators: &[Mediator]) -> Result<Self> {
        artifact.expect(Kind::Effects)?;
        mediator::check(mediators.iter()).map_err(Error::Invalid)?;
        let count = |count: usize| {
            u32::try_from(count).map_err(|_| Error::Invalid(format!("{count} rows are more than can be counted")))
        };
        let (rows, columns) = (count(examples.len())?, count(mediators.len())?);
        write_examples(&artifact, examples)?;
        write_mediators(&artifact, mediators)?;
        let table = artifact.table(EFFECTS, schema())?;
        Ok(Self { artifact, table, waiting: Vec::new(), examples: rows, mediators: columns, without: 0 })
    }

    /// Appends an effect.
    ///
    /// # Errors
    /// If there is no such example or mediator, or writing fails.
    pub fn push(&mut self, effect: Effect) -> Result<()> {
        if effect.example >= self.examples || effect.mediator >= self.mediators {
            let Effect { example, mediator, .. } = effect;
            return Err(Error::Invalid(format!("there is no example {example} or no mediator {mediator}")));
        }
        self.without += u64::from(effect.counterfactual.is_none());
        self.waiting.push(effect);
        if self.waiting.len() == BATCH { self.write_waiting() } else { Ok(()) }
    }

    /// Appends effects.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn extend(&mut self, effects: impl IntoIterator<Item = Effect>) -> Result<()> {
        effects.into_iter().try_for_each(|effect| self.push(effect))
    }

    /// Number of effects so far.
    pub fn effects(&self) -> u64 {
        self.table.rows() + self.waiting.len() as u64
    }

    fn write_waiting(&mut self) -> Result<()> {
        let effects = &self.waiting;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(effects.iter().map(|effect| effect.example))),
            Arc::new(UInt32Array::from_iter_values(effects.iter().map(|effect| effect.mediator))),
            Arc::new(Float64Array::from_iter_values(effects.iter().map(|effect| effect.clean))),
            Arc::new(effects.iter().map(|effect| effect.counterfactual).collect::<Float64Array>()),
            Arc::new(Float64Array::from_iter_values(effects.iter().map(|effect| effect.patched))),
        ];
        self.table.write(&RecordBatch::try_new(schema(), columns)?)?;
        self.waiting.clear();
        Ok(())
    }

    /// Writes what is left and the manifest. The counts in `meta` are set to what was written.
    ///
    /// # Errors
    /// If the contrast needs counterfactual values and an effect has none, `passes` is no number, or writing fails.
    pub fn finish(mut self, meta: EffectsMeta) -> Result<Manifest> {
        check_passes(meta.passes).map_err(Error::Invalid)?;
        if self.without > 0 && meta.contrast.needs_counterfactual() {
            let (without, formula) = (self.without, meta.contrast.formula());
            return Err(Error::Invalid(format!("{without} effects have no counterfactual value for {formula}")));
        }
        self.write_waiting()?;
        let effects = self.table.rows();
        self.table.close()?;
        let (examples, mediators) = (self.examples.into(), self.mediators.into());
        self.artifact.finish(&EffectsMeta { examples, mediators, effects, ..meta })
    }
}

fn write_examples(artifact: &ArtifactWriter, examples: &[Example]) -> Result<()> {
    let text = |name| required(name, DataType::Utf8);
    let fields = vec![required("example", DataType::UInt32), text("task"), text("template"), text("group")];
    let schema = Arc::new(Schema::new(fields));
    let mut table = artifact.table(EXAMPLES, Arc::clone(&schema))?;
    for rows in examples.chunks(BATCH) {
        let column = |value: fn(&Example) -> &String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
        };
        let columns = vec![
            numbers(&table, rows.len()),
            column(|example| &example.task),
            column(|example| &example.template),
            column(|example| &example.group),
        ];
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}

fn write_mediators(artifact: &ArtifactWriter, mediators: &[Mediator]) -> Result<()> {
    let fields = [required("mediator", DataType::UInt32)].into_iter().chain(mediator::fields());
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut table = artifact.table(MEDIATORS, Arc::clone(&schema))?;
    for rows in mediators.chunks(BATCH) {
        let mut columns = vec![numbers(&table, rows.len())];
        columns.extend(mediator::columns(rows.iter()));
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}

/// The numbers of the next rows of a table, whose count fits in 32 bits.
fn numbers(table: &TableWriter, rows: usize) -> ArrayRef {
    let start = table.rows() as u32;
    Arc::new(UInt32Array::from_iter_values(start..start + rows as u32))
}
