//! Arrow columns as cells.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes as dt;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mediant_artifact::{Artifact, VectorEntry};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::number::count;
use crate::table::{Cell, TextTable};
use crate::vector;

/// The first rows of a table, with a note on how many more there are.
///
/// # Errors
/// If there is no such table or it is damaged.
pub fn head(artifact: &Artifact, table: &str, limit: usize) -> Result<TextTable> {
    let (columns, rows) = read(artifact, table, limit)?;
    let mut out = TextTable::new(columns);
    for row in rows {
        out.push(row);
    }
    more(&mut out, artifact.rows(table)?, "row");
    Ok(out)
}

/// The columns of a table and its first rows.
pub(crate) fn read(artifact: &Artifact, table: &str, limit: usize) -> Result<(Vec<String>, Vec<Vec<Cell>>)> {
    let vectors: Vec<VectorEntry> = artifact.table(table)?.vectors.iter().cloned().collect();
    let mut batches = artifact.batches(table)?;
    let columns = batches.schema()?.fields().iter().map(|field| field.name().clone()).collect();
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch?;
        for row in 0..batch.num_rows().min(limit - rows.len()) {
            rows.push(cells(&batch, row, &vectors)?);
        }
        if rows.len() == limit {
            break;
        }
    }
    Ok((columns, rows))
}

/// Notes how many of `all` are not in the table, which has a row for each.
pub(super) fn more(table: &mut TextTable, all: u64, what: &str) {
    let shown = table.len() as u64;
    more_than(table, shown, all, what);
}

/// Notes how many of `all` are not among the `shown`.
pub(super) fn more_than(table: &mut TextTable, shown: u64, all: u64, what: &str) {
    let rest = all.saturating_sub(shown);
    if rest > 0 {
        table.note(format!("… {} more {what}{}", count(rest), if rest == 1 { "" } else { "s" }));
    }
}

fn cells(batch: &RecordBatch, row: usize, vectors: &[VectorEntry]) -> Result<Vec<Cell>> {
    batch.columns().iter().map(|column| cell(column, row, vectors)).collect()
}

/// One value. Binary data is described, not shown.
fn cell(array: &dyn Array, row: usize, vectors: &[VectorEntry]) -> Result<Cell> {
    if array.is_null(row) {
        return Ok(Cell::Empty);
    }
    let list = |items: &dyn Array| -> Result<Cell> {
        let items = (0..items.len()).map(|i| Ok(cell(items, i, vectors)?.to_json()));
        Ok(Cell::Json(Value::Array(items.collect::<Result<_>>()?)))
    };
    Ok(match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(array.as_primitive::<dt::Int8Type>().value(row).into()),
        DataType::Int16 => Cell::Int(array.as_primitive::<dt::Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Int(array.as_primitive::<dt::Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<dt::Int64Type>().value(row).into()),
        DataType::UInt8 => Cell::Int(array.as_primitive::<dt::UInt8Type>().value(row).into()),
        DataType::UInt16 => Cell::Int(array.as_primitive::<dt::UInt16Type>().value(row).into()),
        DataType::UInt32 => Cell::Int(array.as_primitive::<dt::UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::Int(array.as_primitive::<dt::UInt64Type>().value(row).into()),
        DataType::Float32 => Cell::Float(vector::widen(array.as_primitive::<dt::Float32Type>().value(row))),
        DataType::Float64 => Cell::Float(array.as_primitive::<dt::Float64Type>().value(row)),
        DataType::Utf8 => Cell::text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::text(array.as_string::<i64>().value(row)),
        DataType::Binary => Cell::text(vector::describe(array.as_binary::<i32>().value(row).len(), &[])),
        DataType::LargeBinary => Cell::text(vector::describe(array.as_binary::<i64>().value(row).len(), &[])),
        DataType::FixedSizeBinary(_) => {
            Cell::text(vector::describe(array.as_fixed_size_binary().value(row).len(), vectors))
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let value = |(field, column): (&dt::FieldRef, &ArrayRef)| {
                Ok((field.name().clone(), cell(column, row, vectors)?.to_json()))
            };
            Cell::Json(Value::Object(fields.iter().zip(columns).map(value).collect::<Result<Map<_, _>>>()?))
        }
        _ => Cell::text(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string()),
    })
}
