//! Between polars and the rest: files to lazy frames, frames to tables.

use std::path::Path;

use mediant_artifact::VectorEntry;
use polars::prelude::*;
use serde_json::{Value, json};

use super::Source;
use crate::error::{Error, Result};
use crate::table::{Cell, TextTable};
use crate::vector;

/// One frame of all sources: their columns (missing ones null) and their axes, typed by what all labels read as.
pub(super) fn union(sources: &[&Source]) -> Result<LazyFrame> {
    let mut frames = Vec::with_capacity(sources.len());
    let mut columns = Schema::default();
    for source in sources {
        let mut frame = scan(source)?;
        let schema = frame.collect_schema().map_err(Error::polars)?;
        for (name, dtype) in schema.iter() {
            if !columns.contains(name) {
                columns.insert(name.clone(), dtype.clone());
            }
        }
        frames.push((frame, schema));
    }
    let mut axes: Vec<&str> = Vec::new();
    for (axis, _) in sources.iter().flat_map(|source| &source.axes) {
        if !axes.contains(&axis.as_str()) {
            axes.push(axis);
        }
    }
    let axes: Vec<Axis> = axes.into_iter().map(|axis| Axis::of(axis, sources, &columns)).collect();
    let select = |(frame, schema): (LazyFrame, SchemaRef), source: &Source| {
        let column = |(name, dtype): (&PlSmallStr, &DataType)| {
            if schema.contains(name) { col(name.clone()) } else { lit(NULL).cast(dtype.clone()).alias(name.clone()) }
        };
        let labels = axes.iter().map(|axis| axis.literal(source));
        frame.select(labels.chain(columns.iter().map(column)).collect::<Vec<_>>())
    };
    let mut frames: Vec<LazyFrame> =
        frames.into_iter().zip(sources).map(|(frame, source)| select(frame, source)).collect();
    // polars counts the rows of a union in a type that this build leaves out.
    if frames.len() == 1 {
        return Ok(frames.remove(0));
    }
    concat(frames, UnionArgs { to_supertypes: true, ..UnionArgs::default() }).map_err(Error::polars)
}

fn scan(source: &Source) -> Result<LazyFrame> {
    let paths: Vec<PlRefPath> = source.files.iter().map(|file| path(file)).collect::<Result<_>>()?;
    // Paths are taken as they are: a folder called `a=b` is no partition and `[` no pattern.
    let args = ScanArgsParquet { glob: false, hive_options: HiveOptions::new_disabled(), ..ScanArgsParquet::default() };
    LazyFrame::scan_parquet_files(paths.into(), args).map_err(Error::polars)
}

/// A path as polars wants it.
pub(super) fn path(path: &Path) -> Result<PlRefPath> {
    PlRefPath::try_from_path(path).map_err(Error::polars)
}

/// An axis as a column.
struct Axis {
    axis: String,
    column: String,
    dtype: DataType,
}

impl Axis {
    fn of(axis: &str, sources: &[&Source], columns: &Schema) -> Self {
        let labels =
            || sources.iter().flat_map(|s| &s.axes).filter(|(a, _)| a == axis).map(|(_, label)| label.as_str());
        let dtype = if labels().all(|label| label.parse::<i64>().is_ok()) {
            DataType::Int64
        } else if labels().all(|label| label.parse::<f64>().is_ok()) {
            DataType::Float64
        } else {
            DataType::String
        };
        let column = if columns.contains(axis) { format!("axis_{axis}") } else { axis.to_string() };
        Self { axis: axis.to_string(), column, dtype }
    }

    fn literal(&self, source: &Source) -> Expr {
        let label = source.axes.iter().find(|(axis, _)| *axis == self.axis).map(|(_, label)| label.as_str());
        let value = match (label, &self.dtype) {
            (Some(label), DataType::Int64) => label.parse::<i64>().map_or_else(|_| lit(NULL), lit),
            (Some(label), DataType::Float64) => label.parse::<f64>().map_or_else(|_| lit(NULL), lit),
            (Some(label), _) => lit(label.to_string()),
            (None, _) => lit(NULL),
        };
        value.cast(self.dtype.clone()).alias(self.column.clone())
    }
}

/// The rows of a frame as cells.
pub(super) fn table(frame: &DataFrame, vectors: &[VectorEntry]) -> TextTable {
    let mut table = TextTable::new(frame.get_column_names().into_iter().map(|name| name.to_string()));
    for row in 0..frame.height() {
        // A row below the height is in every column.
        table.push(
            frame.columns().iter().map(|column| column.get(row).map_or(Cell::Empty, |value| cell(&value, vectors))),
        );
    }
    table
}

fn cell(value: &AnyValue, vectors: &[VectorEntry]) -> Cell {
    match value {
        AnyValue::Null => Cell::Empty,
        AnyValue::Boolean(b) => Cell::Bool(*b),
        AnyValue::String(text) => Cell::text(*text),
        AnyValue::StringOwned(text) => Cell::text(text.as_str()),
        AnyValue::Binary(bytes) => Cell::text(vector::describe(bytes.len(), vectors)),
        AnyValue::BinaryOwned(bytes) => Cell::text(vector::describe(bytes.len(), vectors)),
        AnyValue::Float32(x) => Cell::Float(vector::widen(*x)),
        AnyValue::Float64(x) => Cell::Float(*x),
        AnyValue::List(items) | AnyValue::Array(items, _) => Cell::Json(list(items, vectors)),
        value if value.is_integer() => value.extract::<i128>().map_or_else(|| Cell::text(value.to_string()), Cell::Int),
        value => Cell::text(value.to_string()),
    }
}

fn list(items: &Series, vectors: &[VectorEntry]) -> Value {
    json!(items.iter().map(|item| cell(&item, vectors).to_json()).collect::<Vec<_>>())
}
