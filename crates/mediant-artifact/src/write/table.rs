//! Writing an ordinary table.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::part::{CREATED_BY, HashedFile};
use super::{PART_ROWS, Shared};
use crate::error::{Error, Result};
use crate::logical::{Chunks, TableHasher};
use crate::manifest::{PartEntry, TableEntry};
use crate::schema::schema_text;

/// Where a table is cut, in rows and bytes. The bytes of a file follow from these and the rows, never from the batches
/// that the rows came in.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// Rows handed to the Parquet writer at a time.
    pub(crate) batch_rows: usize,
    /// A row group ends once it holds this many bytes.
    pub(crate) group_bytes: usize,
    /// Most rows of a part.
    pub(crate) part_rows: u64,
}

impl Cut {
    /// Rows of some hundred bytes.
    pub(crate) const ROWS: Self = Self { batch_rows: 1024, group_bytes: 64 << 20, part_rows: PART_ROWS };
    /// Rows that are sequences of up to some thousand tokens.
    pub(crate) const SEQUENCES: Self = Self { batch_rows: 128, ..Self::ROWS };
    /// Rows of many megabytes, read one at a time: a row group each. Parquet counts row groups in 15 bits.
    pub(crate) const BLOBS: Self = Self { batch_rows: 1, group_bytes: 0, part_rows: 1 << 10 };
}

/// Writes the rows of a table; memory is bounded by one row group.
pub struct TableWriter {
    shared: Arc<Shared>,
    name: String,
    schema: SchemaRef,
    schema_text: String,
    properties: WriterProperties,
    cut: Cut,
    hasher: TableHasher,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    part: Option<Part>,
    parts: Vec<PartEntry>,
    rows: u64,
}

struct Part {
    writer: ArrowWriter<HashedFile>,
    path: PathBuf,
    rows: u64,
}

impl TableWriter {
    pub(super) fn open(shared: Arc<Shared>, name: &str, schema: &Schema, cut: Cut) -> Result<Self> {
        let schema = Arc::new(Schema::new(schema.fields().clone()));
        let schema_text = schema_text(schema.fields())?;
        let progress = shared.open(name, &schema_text)?;
        let cut = Cut { part_rows: cut.part_rows.min(shared.part_rows), ..cut };
        let rows = progress.rows();
        let chunks = Chunks { digests: progress.chunks, rows };
        Ok(Self {
            shared,
            name: name.to_owned(),
            properties: properties(&schema, cut.batch_rows),
            hasher: TableHasher::new(schema.fields(), chunks),
            schema,
            schema_text,
            cut,
            waiting: Vec::new(),
            waiting_rows: 0,
            part: None,
            parts: progress.parts,
            rows,
        })
    }

    /// Number of rows, those of a resumed checkpoint included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends rows. Columns are matched by place and must have the names and types of the table's schema.
    ///
    /// # Errors
    /// If they have not, a required column holds a null, or writing fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        if names(&batch.schema()) != names(&self.schema) {
            let found = schema_text(batch.schema().fields())?;
            return Err(Error::Invalid(format!("table `{}` has ({}), not ({found})", self.name, self.schema_text)));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?;
        self.hasher.update(&batch)?;
        self.rows += batch.num_rows() as u64;
        let mut at = 0;
        while at < batch.num_rows() {
            let rows = (self.room() - self.waiting_rows).min(batch.num_rows() - at);
            self.waiting.push(batch.slice(at, rows));
            self.waiting_rows += rows;
            at += rows;
            if self.waiting_rows == self.room() {
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    /// Rows of the next batch for the Parquet writer.
    fn room(&self) -> usize {
        let left = self.cut.part_rows - self.part.as_ref().map_or(0, |part| part.rows);
        self.cut.batch_rows.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn write_waiting(&mut self) -> Result<()> {
        let batch = match &self.waiting[..] {
            [one] => one.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        self.waiting.clear();
        self.waiting_rows = 0;
        let group_bytes = self.cut.group_bytes;
        let part = self.open_part()?;
        part.writer.write(&batch).map_err(Error::parquet(&part.path))?;
        part.rows += batch.num_rows() as u64;
        if part.writer.in_progress_size() >= group_bytes {
            part.writer.flush().map_err(Error::parquet(&part.path))?;
        }
        let rows = part.rows;
        if rows == self.cut.part_rows { self.close_part() } else { Ok(()) }
    }

    fn open_part(&mut self) -> Result<&mut Part> {
        let part = match self.part.take() {
            Some(part) => part,
            None => {
                let file = HashedFile::create(&self.shared.dir, &self.name, self.parts.len())?;
                let path = file.path.clone();
                let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(self.properties.clone()))
                    .map_err(Error::parquet(&path))?;
                Part { writer, path, rows: 0 }
            }
        };
        Ok(self.part.insert(part))
    }

    fn close_part(&mut self) -> Result<()> {
        if let Some(Part { writer, path, rows }) = self.part.take() {
            let file = writer.into_inner().map_err(Error::parquet(&path))?;
            self.parts.push(file.entry(rows));
            if rows == PART_ROWS {
                let chunks = &self.hasher.chunks.digests[..self.parts.len()];
                self.shared.part_done(&self.name, &self.parts, chunks);
            }
        }
        Ok(())
    }

    /// Writes what is left. A table without rows has one part, which holds its schema.
    ///
    /// # Errors
    /// If writing fails.
    pub fn close(mut self) -> Result<()> {
        if self.waiting_rows > 0 {
            self.write_waiting()?;
        }
        if self.parts.is_empty() {
            self.open_part()?;
        }
        self.close_part()?;
        let entry = TableEntry {
            logical: self.hasher.finish(&self.schema_text),
            parts: self.parts,
            rows: self.rows,
            schema: self.schema_text,
            vectors: None,
        };
        self.shared.close(self.name, entry);
        Ok(())
    }
}

/// The writer settings of every table: nothing in a file depends on when or where it was written.
pub(crate) fn properties(schema: &Schema, batch_rows: usize) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_write_batch_size(batch_rows);
    for field in schema.fields() {
        if opaque(field) {
            let column = ColumnPath::from(vec![field.name().clone()]);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
    }
    properties.build()
}

/// Bytes that are no text: nothing is gained by ordering or sharing them.
fn opaque(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_))
}
