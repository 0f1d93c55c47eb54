//! Writing vectors: one required FixedSizeBinary column, PLAIN, uncompressed, a fixed number of rows a page.
//! A page is written as soon as it is full, so memory is one page, whatever the length of the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::vector_part::Part;
use super::{PART_ROWS, Shared};
use crate::digest::Digest;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::logical::{CHUNK_ROWS, Chunks};
use crate::manifest::{PartEntry, TableEntry, VectorEntry};
use crate::schema::schema_text;

/// Name of the one column.
const VECTOR: &str = "vector";

/// About how many bytes a page has: enough for the hash to run at full speed, few enough to stay in a core's cache.
const PAGE_BYTES: usize = 256 << 10;

/// What the rows of a table of vectors are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorSpec {
    /// Format of one number.
    pub dtype: DType,
    /// Shape of one row: `[d_model]`, `[n_heads, d_head]`, ...
    pub shape: Vec<usize>,
    /// More pairs for the field's metadata, beside `dtype` and `shape`.
    pub metadata: BTreeMap<String, String>,
}

impl VectorSpec {
    /// Rows of this format and shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype, shape: shape.into(), metadata: BTreeMap::new() }
    }

    /// Bytes of a row.
    fn width(&self) -> Result<usize> {
        let width = self.shape.iter().try_fold(self.dtype.size(), |width, side| width.checked_mul(*side));
        match width {
            Some(width) if width > 0 && width <= i32::MAX as usize => Ok(width),
            _ => Err(Error::Invalid(format!("a vector of shape {:?} does not have 1 byte to 2 GiB", self.shape))),
        }
    }
}

/// The Arrow field of vectors: its metadata says how to read the bytes.
pub(crate) fn vector_field(name: &str, dtype: DType, shape: &[usize], width: usize) -> Field {
    let metadata = HashMap::from([
        ("dtype".to_owned(), dtype.name().to_owned()),
        ("shape".to_owned(), serde_json::Value::from(shape.to_vec()).to_string()),
    ]);
    // Widths are checked against i32 where they are made.
    let width = i32::try_from(width).unwrap_or(i32::MAX);
    Field::new(name, DataType::FixedSizeBinary(width), false).with_metadata(metadata)
}

/// Writes a table of vectors.
pub struct VectorWriter {
    shared: Arc<Shared>,
    name: String,
    entry: VectorEntry,
    schema: Schema,
    schema_text: String,
    width: usize,
    page_rows: usize,
    page: Vec<u8>,
    part: Option<Part>,
    parts: Vec<PartEntry>,
    chunks: Chunks,
    chunk: blake3::Hasher,
    chunk_bytes: usize,
    rows: u64,
    encoded: Vec<u8>,
}

impl VectorWriter {
    pub(super) fn open(shared: Arc<Shared>, name: &str, spec: VectorSpec) -> Result<Self> {
        let width = spec.width()?;
        let mut field = vector_field(VECTOR, spec.dtype, &spec.shape, width);
        let mut metadata = field.metadata().clone();
        metadata.extend(spec.metadata);
        field.set_metadata(metadata);
        let schema = Schema::new(vec![field]);
        let schema_text = schema_text(schema.fields())?;
        let progress = shared.open(name, &schema_text)?;
        let rows = progress.rows();
        let part_rows = usize::try_from(shared.part_rows).unwrap_or(usize::MAX);
        Ok(Self {
            shared,
            name: name.to_owned(),
            entry: VectorEntry { dtype: spec.dtype, shape: spec.shape },
            schema,
            schema_text,
            width,
            page_rows: page_rows(width).min(part_rows),
            page: Vec::new(),
            part: None,
            parts: progress.parts,
            chunks: Chunks { digests: progress.chunks, rows },
            chunk: blake3::Hasher::new(),
            chunk_bytes: 0,
            rows,
            encoded: Vec::new(),
        })
    }

    /// Number of whole rows, those of a resumed checkpoint included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends rows given as little-endian numbers, one row after the other.
    ///
    /// # Errors
    /// If the bytes are not a whole number of rows or writing fails.
    pub fn write(&mut self, little_endian_rows: &[u8]) -> Result<()> {
        if !little_endian_rows.len().is_multiple_of(self.width) {
            return Err(Error::Invalid(format!(
                "table `{}`: {} bytes are not rows of {}",
                self.name,
                little_endian_rows.len(),
                self.width
            )));
        }
        let mut rest = little_endian_rows;
        while !rest.is_empty() {
            let room = self.page_room() * self.width - self.page.len();
            let (rows, after) = rest.split_at(room.min(rest.len()));
            self.page.extend_from_slice(rows);
            self.rows += (rows.len() / self.width) as u64;
            rest = after;
            if rows.len() == room {
                self.write_page()?;
            }
        }
        Ok(())
    }

    /// Appends rows given as numbers, rounded to the table's format.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_f32(&mut self, rows: &[f32]) -> Result<()> {
        if self.entry.dtype == DType::F32 {
            return self.write(bytemuck::cast_slice(rows));
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        let numbers = self.width / self.entry.dtype.size();
        for rows in rows.chunks(numbers * self.page_rows) {
            encoded.clear();
            self.entry.dtype.encode(rows, &mut encoded);
            self.write(&encoded)?;
        }
        self.encoded = encoded;
        Ok(())
    }
}

/// Rows of a page: the largest power of two whose bytes are at most about [`PAGE_BYTES`], at least one.
fn page_rows(width: usize) -> usize {
    1 << (PAGE_BYTES / width).max(1).ilog2()
}

impl VectorWriter {
    /// Rows that the page in hand is to have: fewer at the end of a part.
    fn page_room(&self) -> usize {
        let left = self.shared.part_rows - self.part.as_ref().map_or(0, |part| part.rows);
        self.page_rows.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn write_page(&mut self) -> Result<()> {
        let capacity = self.page.capacity();
        let page = std::mem::replace(&mut self.page, Vec::with_capacity(capacity));
        self.hash_page(&page);
        let mut part = match self.part.take() {
            Some(part) => part,
            None => Part::create(&self.shared, &self.name, self.parts.len())?,
        };
        part.write_page(page, self.width)?;
        let full = part.rows == self.shared.part_rows;
        self.part = Some(part);
        if full { self.close_part() } else { Ok(()) }
    }

    /// Feeds the page to the logical digest, while it is in the cache.
    fn hash_page(&mut self, page: &[u8]) {
        let mut rest = page;
        while !rest.is_empty() {
            let room = CHUNK_ROWS as usize * self.width - self.chunk_bytes;
            let (bytes, after) = rest.split_at(room.min(rest.len()));
            self.chunk.update(bytes);
            self.chunk_bytes += bytes.len();
            rest = after;
            if bytes.len() == room {
                self.end_chunk();
            }
        }
    }

    /// The streams are those of a required column in `logical`: no validity, no lengths, the values.
    fn end_chunk(&mut self) {
        let none = Digest::of(&[]);
        let values = self.chunk.finalize().into();
        self.chunks.push((self.chunk_bytes / self.width) as u64, [none, none, values]);
        self.chunk.reset();
        self.chunk_bytes = 0;
    }

    fn close_part(&mut self) -> Result<()> {
        if let Some(part) = self.part.take() {
            let rows = part.rows;
            self.parts.push(part.close(&self.schema)?);
            if rows == PART_ROWS {
                self.shared.part_done(&self.name, &self.parts, &self.chunks.digests[..self.parts.len()]);
            }
        }
        Ok(())
    }

    /// Writes what is left. A table without rows has one part, which holds its schema.
    ///
    /// # Errors
    /// If writing fails.
    pub fn close(mut self) -> Result<()> {
        if !self.page.is_empty() {
            self.write_page()?;
        }
        if self.parts.is_empty() && self.part.is_none() {
            self.part = Some(Part::create(&self.shared, &self.name, 0)?);
        }
        self.close_part()?;
        if self.chunk_bytes > 0 {
            self.end_chunk();
        }
        let entry = TableEntry {
            logical: self.chunks.finish(&self.schema_text),
            parts: self.parts,
            rows: self.rows,
            schema: self.schema_text,
            vectors: Some(self.entry),
        };
        self.shared.close(self.name, entry);
        Ok(())
    }
}
