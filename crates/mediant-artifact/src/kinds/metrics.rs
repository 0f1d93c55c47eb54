//! The `metrics` kind: table `metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, nullable, required};
use crate::{Artifact, ArtifactWriter, Error, Kind, Manifest, Result};

const METRICS: &str = "metrics";

/// What is known of metrics besides their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsMeta {
    /// Number of metrics.
    pub metrics: u64,
}

/// A number and what it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricRow {
    /// Name with its variant: `ev_mc`, `ce_recovered`, ...
    pub name: String,
    /// The value; may be NaN where the metric is not defined on the data.
    pub value: f64,
    /// Unit: `nats`, `bits`, `1` for pure numbers, ...
    pub unit: String,
    /// Number of items it was computed from.
    pub n: u64,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
    /// Of a ratio, what is divided.
    pub numerator: Option<f64>,
    /// Of a ratio, what it is divided by.
    pub denominator: Option<f64>,
    /// The seed it was computed with.
    pub seed: Option<u64>,
    /// The part of the data it was computed on.
    pub split: Option<String>,
    /// Anything else that tells it from others of the same name: hook, template, quantile, ...
    pub tags: BTreeMap<String, String>,
}

fn schema() -> SchemaRef {
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        required("name", DataType::Utf8),
        required("value", DataType::Float64),
        required("unit", DataType::Utf8),
        required("n", DataType::UInt64),
        optional("low", DataType::Float64),
        optional("high", DataType::Float64),
        optional("numerator", DataType::Float64),
        optional("denominator", DataType::Float64),
        optional("seed", DataType::UInt64),
        optional("split", DataType::Utf8),
        required("tags", DataType::Utf8),
    ]))
}

/// Writes metrics.
///
/// # Errors
/// If the writer is not of kind [`Kind::Metrics`] or writing fails.
pub fn write_metrics(artifact: ArtifactWriter, rows: &[MetricRow]) -> Result<Manifest> {
    artifact.expect(Kind::Metrics)?;
    let mut table = artifact.table(METRICS, schema())?;
    let tags = |row: &MetricRow| serde_json::to_string(&row.tags).map_err(Error::json("the tags of a metric"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.name))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.unit))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.n))),
        Arc::new(rows.iter().map(|row| row.low).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.high).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.numerator).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.denominator).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.seed).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.split.as_deref()).collect::<StringArray>()),
        Arc::new(StringArray::from(rows.iter().map(tags).collect::<Result<Vec<_>>>()?)),
    ];
    table.write(&RecordBatch::try_new(schema(), columns)?)?;
    table.close()?;
    artifact.finish(&MetricsMeta { metrics: rows.len() as u64 })
}

/// Reads metrics, in the order of writing.
///
/// # Errors
/// If the artifact is of another kind or damaged.
pub fn read_metrics(artifact: &Artifact) -> Result<Vec<MetricRow>> {
    artifact.expect(Kind::Metrics)?;
    let mut rows = Vec::new();
    for batch in artifact.batches(METRICS)? {
        let batch = batch?;
        let text = |name| column::<StringArray>(&batch, name);
        let number = |name| nullable::<Float64Array>(&batch, name);
        let (name, unit, tags) = (text("name")?, text("unit")?, text("tags")?);
        let value = column::<Float64Array>(&batch, "value")?;
        let n = column::<UInt64Array>(&batch, "n")?;
        let (low, high) = (number("low")?, number("high")?);
        let (numerator, denominator) = (number("numerator")?, number("denominator")?);
        let seed = nullable::<UInt64Array>(&batch, "seed")?;
        let split = nullable::<StringArray>(&batch, "split")?;
        let some = |array: &Float64Array, i| array.is_valid(i).then(|| array.value(i));
        for i in 0..batch.num_rows() {
            rows.push(MetricRow {
                name: name.value(i).to_owned(),
                value: value.value(i),
                unit: unit.value(i).to_owned(),
                n: n.value(i),
                low: some(low, i),
                high: some(high, i),
                numerator: some(numerator, i),
                denominator: some(denominator, i),
                seed: seed.is_valid(i).then(|| seed.value(i)),
                split: split.is_valid(i).then(|| split.value(i).to_owned()),
                tags: serde_json::from_str(tags.value(i)).map_err(Error::json("the tags of a metric"))?,
            });
        }
    }
    Ok(rows)
}
