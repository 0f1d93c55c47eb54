//! Columns of the tables, and a table of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ArtifactWriter, TableMeta, write_table};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::standings::Origin;

pub(super) type Column = (String, ArrayRef);

pub(super) fn texts<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<StringArray>()))
}

pub(super) fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<Float64Array>()))
}

pub(super) fn counts(name: &str, values: impl Iterator<Item = u64>) -> Column {
    (name.to_owned(), Arc::new(UInt64Array::from_iter_values(values)))
}

/// A column for each axis, and one each for mediator and search.
pub(super) fn labelled(axes: &[&str], rows: &[&Origin]) -> Vec<Column> {
    let axis = |axis: &&str| texts(axis, rows.iter().map(|row| row.search.labels.get(*axis).map(String::as_str)));
    let mut columns: Vec<Column> = axes.iter().map(axis).collect();
    columns.push(texts("mediator", rows.iter().map(|row| Some(row.search.facts.mediator.as_str()))));
    columns.push(texts("search", rows.iter().map(|row| Some(row.search.facts.method.as_str()))));
    columns
}

/// Columns that a label's axis has a column of already get that of the axis.
pub(super) fn write(
    artifact: ArtifactWriter,
    columns: Vec<Column>,
    title: &str,
    description: &str,
) -> Result<(), StageError> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let columns: Vec<Column> = columns.into_iter().filter(|(name, _)| known.insert(name.clone())).collect();
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let meta = TableMeta { title: title.to_owned(), description: description.to_owned() };
    write_table(artifact, schema, [Ok(batch)], &meta)?;
    Ok(())
}

/// Columns of a number and, if it has one, of the ends of its interval.
pub(super) fn estimates(name: &str, values: &[Option<Estimate>], interval: bool) -> Vec<Column> {
    let of = |get: fn(&Estimate) -> Option<f64>| values.iter().map(move |value| get(value.as_ref()?));
    let mut columns = vec![numbers(name, of(|estimate| Some(estimate.value)))];
    if interval {
        columns.push(numbers(&format!("{name}_low"), of(|estimate| estimate.interval.map(|(low, _)| low))));
        columns.push(numbers(&format!("{name}_high"), of(|estimate| estimate.interval.map(|(_, high)| high))));
    }
    columns
}
