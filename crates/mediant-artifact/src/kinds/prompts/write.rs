//! Writing prompts.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::column::{required, required_list};
use super::{PROMPTS, Prompt, SPANS, VARIABLES, VERSIONS, Version, describe, version_names};
use crate::write::Cut;
use crate::{ArtifactWriter, Digest, Error, Kind, Manifest, Result};

/// A version, the example it belongs to, and its name.
type Row<'a> = (u32, &'a str, &'a Version);

fn schema<const N: usize>(rest: [Field; N]) -> SchemaRef {
    let fields = [required("example", DataType::UInt32)].into_iter().chain(rest);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn text(name: &str) -> Field {
    required(name, DataType::Utf8)
}

/// Writes prompts.
///
/// # Errors
/// If the writer is not of kind [`Kind::Prompts`], the prompts differ in their counterfactuals, an id is outside the
/// vocabulary, a span outside the tokens, a version without tokens or right answers, or writing fails.
pub fn write_prompts(
    artifact: ArtifactWriter,
    counterfactuals: &[String],
    tokenizer: Digest,
    vocab_size: usize,
    prepend_bos: bool,
    prompts: &[Prompt],
) -> Result<Manifest> {
    artifact.expect(Kind::Prompts)?;
    let meta = describe(counterfactuals, tokenizer, vocab_size, prepend_bos, prompts).map_err(Error::Invalid)?;
    write_heads(&artifact, prompts)?;
    let names = version_names(counterfactuals);
    let rows: Vec<Row<'_>> = (0u32..)
        .zip(prompts)
        .flat_map(|(example, prompt)| names.iter().zip(prompt.versions()).map(move |(name, row)| (example, *name, row)))
        .collect();
    write_versions(&artifact, &rows)?;
    write_spans(&artifact, &rows)?;
    write_variables(&artifact, &rows)?;
    artifact.finish(&meta)
}

fn write_heads(artifact: &ArtifactWriter, prompts: &[Prompt]) -> Result<()> {
    let schema = schema([text("task"), text("template"), text("group")]);
    let mut table = artifact.table(PROMPTS, Arc::clone(&schema))?;
    let mut example = 0;
    for prompts in prompts.chunks(Cut::ROWS.batch_rows) {
        let column = |value: fn(&Prompt) -> &String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(prompts.iter().map(value)))
        };
        let end = example + prompts.len() as u32;
        let columns = vec![
            Arc::new(UInt32Array::from_iter_values(example..end)),
            column(|prompt| &prompt.task),
            column(|prompt| &prompt.template),
            column(|prompt| &prompt.group),
        ];
        example = end;
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}

fn write_versions(artifact: &ArtifactWriter, rows: &[Row<'_>]) -> Result<()> {
    let ids = |name| required_list(name, DataType::Int32);
    let schema = schema([text("version"), text("text"), ids("ids"), ids("right"), ids("wrong")]);
    let mut table = artifact.table_cut(VERSIONS, &schema, Cut::SEQUENCES)?;
    for rows in rows.chunks(Cut::SEQUENCES.batch_rows) {
        let list = |ids: fn(&Version) -> &Vec<i32>| -> Result<ArrayRef> {
            let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(_, _, version)| ids(version).len()));
            let items = Int32Array::from_iter_values(rows.iter().flat_map(|(_, _, version)| ids(version)).copied());
            let item = Arc::new(Field::new_list_field(DataType::Int32, false));
            Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(items), None)?))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(example, _, _)| *example))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name, _)| name))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, _, version)| &version.text))),
            list(|version| &version.ids)?,
            list(|version| &version.right)?,
            list(|version| &version.wrong)?,
        ];
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}

fn write_spans(artifact: &ArtifactWriter, rows: &[Row<'_>]) -> Result<()> {
    let number = |name| required(name, DataType::UInt32);
    let schema = schema([text("version"), text("name"), number("start"), number("end")]);
    let mut table = artifact.table(SPANS, Arc::clone(&schema))?;
    for rows in rows.chunks(Cut::ROWS.batch_rows) {
        let spans = || rows.iter().flat_map(|row| row.2.spans.iter().map(move |(name, span)| (row, name, span)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(spans().map(|(row, _, _)| row.0))),
            Arc::new(StringArray::from_iter_values(spans().map(|(row, _, _)| row.1))),
            Arc::new(StringArray::from_iter_values(spans().map(|(_, name, _)| name))),
            Arc::new(UInt32Array::from_iter_values(spans().map(|(_, _, span)| span.0))),
            Arc::new(UInt32Array::from_iter_values(spans().map(|(_, _, span)| span.1))),
        ];
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}

fn write_variables(artifact: &ArtifactWriter, rows: &[Row<'_>]) -> Result<()> {
    let schema = schema([text("version"), text("name"), text("value")]);
    let mut table = artifact.table(VARIABLES, Arc::clone(&schema))?;
    for rows in rows.chunks(Cut::ROWS.batch_rows) {
        let values = || rows.iter().flat_map(|row| row.2.variables.iter().map(move |(name, value)| (row, name, value)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(values().map(|(row, _, _)| row.0))),
            Arc::new(StringArray::from_iter_values(values().map(|(row, _, _)| row.1))),
            Arc::new(StringArray::from_iter_values(values().map(|(_, name, _)| name))),
            Arc::new(StringArray::from_iter_values(values().map(|(_, _, value)| value))),
        ];
        table.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    table.close()
}
