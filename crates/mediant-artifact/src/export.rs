//! One Parquet file for an artifact, to take elsewhere.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ArrowWriter;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kinds::activations::{ActivationsReader, INDEX};
use crate::kinds::directions::DIRECTIONS;
use crate::read::{Artifact, Vectors};
use crate::write::{properties, vector_field};

/// Most bytes of a row group: what a reader, and this writer, holds in memory at a time.
const GROUP_BYTES: usize = 128 << 20;

/// Rows written at a time.
const BATCH_ROWS: usize = 1024;

impl Artifact {
    /// Writes the artifact's main table as one Parquet file, replacing `out_file` once it is complete.
    ///
    /// Activations become one table: `example`, `position`, `token`, then a required FixedSizeBinary column a hook,
    /// named by it, with `dtype` and `shape` (a JSON list) in the field's metadata; rows go by example and position. Of
    /// models and dictionaries the tensors are written, of a tokenizer its files.
    ///
    /// # Errors
    /// If the artifact is damaged or the file cannot be written.
    pub fn export_parquet(&self, out_file: &Path) -> Result<()> {
        persisted(out_file, |file| match self.kind() {
            Kind::Activations => write_activations(&ActivationsReader::open(self)?, self, file, out_file),
            kind => write_table(self, main_table(kind), file, out_file),
        })
    }

    /// Writes the tables that the main one of [`Self::export_parquet`] cannot be read without, one file each beside it:
    /// `effects.mediators.parquet` beside `effects.parquet`.
    ///
    /// # Errors
    /// If the artifact is damaged or a file cannot be written.
    pub fn export_further_parquet(&self, main_file: &Path) -> Result<()> {
        if !matches!(self.kind(), Kind::Effects | Kind::Prompts) {
            return Ok(());
        }
        for table in self.table_names().filter(|table| *table != main_table(self.kind())) {
            let file = main_file.with_extension(format!("{table}.parquet"));
            persisted(&file, |out| write_table(self, table, out, &file))?;
        }
        Ok(())
    }
}

fn main_table(kind: Kind) -> &'static str {
    match kind {
        Kind::Activations => INDEX,
        Kind::Model | Kind::Dictionary => "tensors",
        Kind::Tokenizer | Kind::Files => "files",
        Kind::Tokens => "sequences",
        Kind::Prompts => "prompts",
        Kind::Labels => "labels",
        Kind::Directions => DIRECTIONS,
        Kind::Effects => "effects",
        Kind::Scores => "scores",
        Kind::Metrics => "metrics",
        Kind::Table => "rows",
    }
}

/// A file that is there once it is complete.
fn persisted(out_file: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let dir = match out_file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".export-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(Error::io(dir))?;
    write(file.as_file())?;
    file.persist(out_file).map_err(|error| Error::io(out_file)(error.error))?;
    Ok(())
}

fn write_table(artifact: &Artifact, table: &str, file: &File, path: &Path) -> Result<()> {
    let mut batches = artifact.batches(table)?;
    let mut writer = Writer::new(file, path, batches.schema()?)?;
    batches.try_for_each(|batch| writer.write(&batch?))?;
    writer.close()
}

fn write_activations(activations: &ActivationsReader, artifact: &Artifact, file: &File, path: &Path) -> Result<()> {
    let mut index = artifact.batches(INDEX)?;
    let mut fields: Vec<_> = index.schema()?.fields().iter().cloned().collect();
    let mut hooks = Vec::new();
    for hook in &activations.meta.hooks {
        let vectors = activations.hook(&hook.name)?;
        let field = vector_field(&hook.name, vectors.dtype(), vectors.shape(), vectors.width_bytes());
        fields.push(Arc::new(field));
        hooks.push(vectors);
    }
    let schema = Arc::new(Schema::new(fields));
    let mut writer = Writer::new(file, path, Arc::clone(&schema))?;
    let mut start = 0;
    for batch in index {
        let batch = batch?;
        let end = start + batch.num_rows() as u64;
        let mut columns = batch.columns().to_vec();
        for vectors in &hooks {
            columns.push(rows(vectors, start, end)?);
        }
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
        start = end;
    }
    writer.close()
}

/// Rows of vectors as an Arrow array.
fn rows(vectors: &Vectors, start: u64, end: u64) -> Result<ArrayRef> {
    let width = vectors.width_bytes();
    let mut bytes = MutableBuffer::with_capacity((end - start) as usize * width);
    for run in vectors.runs(start..end) {
        bytes.extend_from_slice(run?);
    }
    let width = i32::try_from(width).unwrap_or(i32::MAX);
    Ok(Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from(bytes), None)?))
}

/// Writes batches of about [`BATCH_ROWS`] rows with row groups of bounded size.
struct Writer<'a> {
    writer: ArrowWriter<&'a File>,
    path: &'a Path,
}

impl<'a> Writer<'a> {
    fn new(file: &'a File, path: &'a Path, schema: SchemaRef) -> Result<Self> {
        let properties = properties(&schema, BATCH_ROWS);
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(Error::parquet(path))?;
        Ok(Self { writer, path })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(Error::parquet(self.path))?;
        if self.writer.in_progress_size() + batch.get_array_memory_size() > GROUP_BYTES {
            self.writer.flush().map_err(Error::parquet(self.path))?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.writer.close().map(drop).map_err(Error::parquet(self.path))
    }
}
