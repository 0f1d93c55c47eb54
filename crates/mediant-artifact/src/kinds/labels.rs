//! The `labels` kind: table `labels`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, nullable, required};
use crate::{Artifact, ArtifactWriter, Error, Kind, Manifest, Result, TableWriter};

const LABELS: &str = "labels";

/// Labels written at a time.
const BATCH: usize = 1024;

/// What is known of labels besides their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsMeta {
    /// Number of labels.
    pub labels: u64,
}

/// The value of a variable for a document or a span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelRow<'a> {
    /// The document, counted from 0.
    pub document: u32,
    /// First byte and the byte after the last in the document's text; none stands for the whole document.
    pub span: Option<(u32, u32)>,
    /// Name of the variable.
    pub variable: &'a str,
    /// Its value.
    pub value: &'a str,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("document", DataType::UInt32),
        Field::new("start", DataType::UInt32, true),
        Field::new("end", DataType::UInt32, true),
        required("variable", DataType::Utf8),
        required("value", DataType::Utf8),
    ]))
}

/// Writes labels.
pub struct LabelsWriter {
    artifact: ArtifactWriter,
    table: TableWriter,
    document: Vec<u32>,
    span: Vec<Option<(u32, u32)>>,
    variable: Vec<String>,
    value: Vec<String>,
}

impl LabelsWriter {
    /// Starts labels in an empty folder.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Labels`] or the file cannot be created.
    pub fn new(artifact: ArtifactWriter) -> Result<Self> {
        artifact.expect(Kind::Labels)?;
        let table = artifact.table(LABELS, schema())?;
        Ok(Self { artifact, table, document: vec![], span: vec![], variable: vec![], value: vec![] })
    }

    /// Appends a label.
    ///
    /// # Errors
    /// If its span ends before it starts or writing fails.
    pub fn label(&mut self, row: LabelRow<'_>) -> Result<()> {
        if row.span.is_some_and(|(start, end)| start > end) {
            return Err(Error::Invalid(format!("the span {:?} of a label ends before it starts", row.span)));
        }
        self.document.push(row.document);
        self.span.push(row.span);
        self.variable.push(row.variable.to_owned());
        self.value.push(row.value.to_owned());
        if self.document.len() == BATCH { self.write_waiting() } else { Ok(()) }
    }

    fn write_waiting(&mut self) -> Result<()> {
        let span = std::mem::take(&mut self.span);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(std::mem::take(&mut self.document))),
            Arc::new(UInt32Array::from_iter(span.iter().map(|span| span.map(|(start, _)| start)))),
            Arc::new(UInt32Array::from_iter(span.iter().map(|span| span.map(|(_, end)| end)))),
            Arc::new(StringArray::from(std::mem::take(&mut self.variable))),
            Arc::new(StringArray::from(std::mem::take(&mut self.value))),
        ];
        self.table.write(&RecordBatch::try_new(schema(), columns)?)
    }

    /// Writes what is left and the manifest.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<Manifest> {
        self.write_waiting()?;
        let meta = LabelsMeta { labels: self.table.rows() };
        self.table.close()?;
        self.artifact.finish(&meta)
    }
}

/// Labels in memory, as Arrow holds them.
pub struct Labels {
    batches: Vec<Columns>,
}

struct Columns {
    document: UInt32Array,
    start: UInt32Array,
    end: UInt32Array,
    variable: StringArray,
    value: StringArray,
}

impl Labels {
    /// Reads all labels.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn read(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Labels)?;
        let batches = artifact.batches(LABELS)?.map(|batch| {
            let batch = batch?;
            let columns = Columns {
                document: column::<UInt32Array>(&batch, "document")?.clone(),
                start: nullable::<UInt32Array>(&batch, "start")?.clone(),
                end: nullable::<UInt32Array>(&batch, "end")?.clone(),
                variable: column::<StringArray>(&batch, "variable")?.clone(),
                value: column::<StringArray>(&batch, "value")?.clone(),
            };
            let ordered = columns.start.iter().zip(&columns.end).all(|span| match span {
                (Some(start), Some(end)) => start <= end,
                (None, None) => true,
                _ => false,
            });
            if ordered { Ok(columns) } else { Err(Error::damaged(artifact.dir(), "a label has half a span")) }
        });
        Ok(Self { batches: batches.collect::<Result<_>>()? })
    }

    /// The labels, in the order of writing.
    pub fn rows(&self) -> impl Iterator<Item = LabelRow<'_>> {
        self.batches.iter().flat_map(|columns| {
            (0..columns.document.len()).map(|i| LabelRow {
                document: columns.document.value(i),
                span: columns.start.is_valid(i).then(|| (columns.start.value(i), columns.end.value(i))),
                variable: columns.variable.value(i),
                value: columns.value.value(i),
            })
        })
    }
}
