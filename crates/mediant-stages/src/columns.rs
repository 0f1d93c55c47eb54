//! Tables put together column by column.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ArtifactWriter, Facts, TableFacts, TableMeta, write_table};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;

/// Columns of one length.
#[derive(Default)]
pub(crate) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn push(mut self, name: &str, nullable: bool, array: ArrayRef) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), nullable));
        self.arrays.push(array);
        self
    }

    pub(crate) fn text(self, name: &str, values: impl Iterator<Item = impl AsRef<str>>) -> Self {
        self.push(name, false, Arc::new(StringArray::from_iter_values(values)))
    }

    /// What may be absent.
    pub(crate) fn optional_text(self, name: &str, values: impl Iterator<Item = Option<impl AsRef<str>>>) -> Self {
        self.push(name, true, Arc::new(values.collect::<StringArray>()))
    }

    pub(crate) fn flag(self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        self.push(name, false, Arc::new(BooleanArray::from(values.collect::<Vec<_>>())))
    }

    pub(crate) fn count(self, name: &str, values: impl Iterator<Item = u64>) -> Self {
        self.push(name, false, Arc::new(UInt64Array::from_iter_values(values)))
    }

    /// What may be absent.
    pub(crate) fn optional_count(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.push(name, true, Arc::new(values.collect::<UInt64Array>()))
    }

    pub(crate) fn number(self, name: &str, values: impl Iterator<Item = f64>) -> Self {
        self.push(name, false, Arc::new(Float64Array::from_iter_values(values)))
    }

    /// What may be absent.
    pub(crate) fn optional_number(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        self.push(name, true, Arc::new(values.collect::<Float64Array>()))
    }

    /// `NAME`, `NAME_low` and `NAME_high`.
    pub(crate) fn estimate(self, name: &str, values: impl Iterator<Item = Option<Estimate>> + Clone) -> Self {
        let end = |end: fn((f64, f64)) -> f64| values.clone().map(move |value| value?.interval.map(end));
        self.optional_number(name, values.clone().map(|value| Some(value?.value)))
            .optional_number(&format!("{name}_low"), end(|(low, _)| low))
            .optional_number(&format!("{name}_high"), end(|(_, high)| high))
    }

    /// Writes the table.
    pub(crate) fn write(self, artifact: ArtifactWriter, title: &str, description: &str) -> Result<(), StageError> {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(schema.clone(), self.arrays)?;
        let meta = TableMeta { title: title.to_owned(), description: description.to_owned() };
        write_table(artifact, schema, [Ok(batch)], &meta)?;
        Ok(())
    }
}

/// The facts of a table with these columns.
pub(crate) fn table_facts(columns: &[&str]) -> Facts {
    Facts::Table(TableFacts { columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()) })
}
