//! The `scores` kind: table `scores`, the columns of the mediator first.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, nullable, required};
use super::effects::{Contrast, check_passes};
use super::mediator::{self, BATCH, Mediator};
use crate::{Artifact, ArtifactWriter, Error, Kind, Manifest, Result};

const SCORES: &str = "scores";

/// What is known of scores besides their values; most of it is that of the effects they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresMeta {
    /// How the effects were found: `activation_patching`, ...
    pub method: String,
    /// What is measured: `logit_difference`, ...
    pub metric: String,
    /// Unit of the metric, of numerators and denominators: `nats`, `1` for pure numbers, ...
    pub unit: String,
    /// What is divided by what.
    pub contrast: Contrast,
    /// Name of the counterfactual, where the method takes one.
    pub counterfactual: Option<String>,
    /// Forward-pass equivalents over the examples that all this took.
    pub passes: f64,
    /// Settings that a reader of the numbers needs: reference point, sign, steps, ...
    pub settings: BTreeMap<String, String>,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Number of scores.
    pub scores: u64,
}

/// How much a mediator matters, over all examples. A number may be NaN or infinite where its denominator is zero or the
/// metric is not defined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreRow {
    /// The mediator.
    pub mediator: Mediator,
    /// The numerator over the denominator.
    pub value: f64,
    /// Mean over the examples of what is divided.
    pub numerator: f64,
    /// Mean over the examples of what it is divided by.
    pub denominator: f64,
    /// Number of examples.
    pub n: u64,
    /// Lower end of the interval of the value.
    pub low: Option<f64>,
    /// Upper end of the interval of the value.
    pub high: Option<f64>,
}

fn schema() -> SchemaRef {
    let fields = mediator::fields().into_iter().chain([
        required("value", DataType::Float64),
        required("numerator", DataType::Float64),
        required("denominator", DataType::Float64),
        required("n", DataType::UInt64),
        Field::new("low", DataType::Float64, true),
        Field::new("high", DataType::Float64, true),
    ]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Writes scores. The count in `meta` is set to what is written.
///
/// # Errors
/// If the writer is not of kind [`Kind::Scores`], two scores are of one mediator, an interval has one end or ends before
/// it starts, `passes` is no number, or writing fails.
pub fn write_scores(artifact: ArtifactWriter, meta: ScoresMeta, rows: &[ScoreRow]) -> Result<Manifest> {
    artifact.expect(Kind::Scores)?;
    let meta = ScoresMeta { scores: rows.len() as u64, ..meta };
    check(&meta, rows).map_err(Error::Invalid)?;
    let mut table = artifact.table(SCORES, schema())?;
    for rows in rows.chunks(BATCH) {
        let number = |value: fn(&ScoreRow) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(value)))
        };
        let mut columns = mediator::columns(rows.iter().map(|row| &row.mediator));
        columns.extend([
            number(|row| row.value),
            number(|row| row.numerator),
            number(|row| row.denominator),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.n))),
            Arc::new(rows.iter().map(|row| row.low).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.high).collect::<Float64Array>()),
        ]);
        table.write(&RecordBatch::try_new(schema(), columns)?)?;
    }
    table.close()?;
    artifact.finish(&meta)
}

/// Reads scores, in the order of writing.
///
/// # Errors
/// If the artifact is of another kind, damaged, or holds what [`write_scores`] would refuse.
pub fn read_scores(artifact: &Artifact) -> Result<(ScoresMeta, Vec<ScoreRow>)> {
    artifact.expect(Kind::Scores)?;
    let meta: ScoresMeta = artifact.meta()?;
    let mut rows = Vec::new();
    for batch in artifact.batches(SCORES)? {
        let batch = batch?;
        let number = |name| column::<Float64Array>(&batch, name);
        let (value, numerator, denominator) = (number("value")?, number("numerator")?, number("denominator")?);
        let n = column::<UInt64Array>(&batch, "n")?;
        let end = |name| nullable::<Float64Array>(&batch, name);
        let (low, high) = (end("low")?, end("high")?);
        let some = |array: &Float64Array, i| array.is_valid(i).then(|| array.value(i));
        rows.extend(mediator::read(&batch)?.into_iter().enumerate().map(|(i, mediator)| ScoreRow {
            mediator,
            value: value.value(i),
            numerator: numerator.value(i),
            denominator: denominator.value(i),
            n: n.value(i),
            low: some(low, i),
            high: some(high, i),
        }));
    }
    check(&meta, &rows).map_err(|why| Error::damaged(artifact.dir(), why))?;
    Ok((meta, rows))
}

fn check(meta: &ScoresMeta, rows: &[ScoreRow]) -> Result<(), String> {
    check_passes(meta.passes)?;
    mediator::check(rows.iter().map(|row| &row.mediator))?;
    if meta.scores != rows.len() as u64 {
        return Err(format!("there are {} scores, not {} as announced", rows.len(), meta.scores));
    }
    for row in rows {
        let whole = match (row.low, row.high) {
            (Some(low), Some(high)) => low <= high || low.is_nan() || high.is_nan(),
            (None, None) => true,
            _ => false,
        };
        if !whole {
            return Err(format!("{:?} to {:?} is no interval of `{}`", row.low, row.high, row.mediator.name));
        }
    }
    Ok(())
}
