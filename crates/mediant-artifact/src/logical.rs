//! Logical digests: over schema and values, whatever the files look like.
//!
//! A table is cut into chunks of 2^16 rows. Within a chunk every column, and every level of a nested column, feeds three
//! streams: one byte a slot for validity (nullable columns only), eight bytes a value for the lengths of strings and
//! lists, and the bytes of the values that are not null. The streams together determine the values, so `["ab", "c"]` and
//! `["a", "bc"]` differ, a null differs from an empty string, and floats count by their bits. A chunk's digest covers its
//! streams; the table's covers the schema, the number of rows and the chunks. Nothing depends on how the rows came in,
//! and a writer resumes at a chunk from the digests of the finished ones.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::schema::schema_text;

#[cfg(target_endian = "big")]
compile_error!("values are hashed and stored as they lie in memory, which must be little-endian");

/// Rows of a chunk.
pub(crate) const CHUNK_ROWS: u64 = 1 << 16;

/// The digests of the finished chunks of a table.
#[derive(Default)]
pub(crate) struct Chunks {
    pub(crate) digests: Vec<Digest>,
    pub(crate) rows: u64,
}

impl Chunks {
    /// Ends a chunk. `streams` are validity, lengths and values of each column, children after their parent.
    pub(crate) fn push(&mut self, rows: u64, streams: impl IntoIterator<Item = Digest>) {
        let mut hasher = blake3::Hasher::new_derive_key("mediant: chunk of a table, version 1");
        hasher.update(&rows.to_le_bytes());
        for stream in streams {
            hasher.update(stream.as_bytes());
        }
        self.digests.push(hasher.finalize().into());
        self.rows += rows;
    }

    /// The digest of a table with these chunks.
    pub(crate) fn finish(&self, schema: &str) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("mediant: table, version 1");
        text(&mut hasher, schema);
        hasher.update(&self.rows.to_le_bytes());
        for digest in &self.digests {
            hasher.update(digest.as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Hashes the batches of a table as they come.
pub(crate) struct TableHasher {
    pub(crate) chunks: Chunks,
    columns: Vec<Column>,
    open: u64,
}

impl TableHasher {
    pub(crate) fn new(fields: &Fields, chunks: Chunks) -> Self {
        Self { chunks, columns: fields.iter().map(|field| Column::new(field)).collect(), open: 0 }
    }

    pub(crate) fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            let room = usize::try_from(CHUNK_ROWS - self.open).unwrap_or(usize::MAX);
            let rows = room.min(batch.num_rows() - at);
            for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
                column.update(&array.slice(at, rows))?;
            }
            at += rows;
            self.open += rows as u64;
            if self.open == CHUNK_ROWS {
                self.end_chunk();
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, schema: &str) -> Digest {
        if self.open > 0 {
            self.end_chunk();
        }
        self.chunks.finish(schema)
    }

    fn end_chunk(&mut self) {
        let mut streams = Vec::new();
        for column in &mut self.columns {
            column.end_chunk(&mut streams);
        }
        self.chunks.push(self.open, streams);
        self.open = 0;
    }
}

/// The streams of a column and of the columns nested in it.
struct Column {
    nullable: bool,
    validity: blake3::Hasher,
    lengths: blake3::Hasher,
    values: blake3::Hasher,
    children: Vec<Self>,
}

impl Column {
    fn new(field: &Field) -> Self {
        let children = match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                vec![Self::new(item)]
            }
            DataType::Struct(fields) => fields.iter().map(|field| Self::new(field)).collect(),
            _ => Vec::new(),
        };
        Self {
            nullable: field.is_nullable(),
            validity: blake3::Hasher::new(),
            lengths: blake3::Hasher::new(),
            values: blake3::Hasher::new(),
            children,
        }
    }

    fn update(&mut self, array: &ArrayRef) -> Result<()> {
        if self.nullable {
            bytes(&mut self.validity, (0..array.len()).map(|i| [u8::from(array.is_valid(i))]));
        }
        // What lies in the slot of a null, or in the rows that a null list covers, is nobody's value.
        let array = match array.nulls() {
            Some(nulls) if nulls.null_count() > 0 => {
                &arrow::compute::filter(array, &BooleanArray::new(nulls.inner().clone(), None))?
            }
            _ => array,
        };
        match array.data_type() {
            DataType::Boolean => {
                let array = array.as_boolean();
                bytes(&mut self.values, array.values().iter().map(|value| [u8::from(value)]));
            }
            DataType::FixedSizeBinary(_) => drop(self.values.update(array.as_fixed_size_binary().value_data())),
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                self.runs(array.offsets(), array.values());
            }
            DataType::LargeUtf8 => {
                let array = array.as_string::<i64>();
                self.runs(array.offsets(), array.values());
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                self.runs(array.offsets(), array.values());
            }
            DataType::LargeBinary => {
                let array = array.as_binary::<i64>();
                self.runs(array.offsets(), array.values());
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                self.items(array.offsets(), array.values())?;
            }
            DataType::LargeList(_) => {
                let array = array.as_list::<i64>();
                self.items(array.offsets(), array.values())?;
            }
            DataType::FixedSizeList(_, _) => self.children[0].update(array.as_fixed_size_list().values())?,
            DataType::Struct(_) => {
                for (child, array) in self.children.iter_mut().zip(array.as_struct().columns()) {
                    child.update(array)?;
                }
            }
            other => {
                let data = array.to_data();
                let (Some(width), [buffer]) = (other.primitive_width(), data.buffers()) else {
                    return Err(Error::Invalid(format!("artifacts do not hold the type {other}")));
                };
                self.values.update(&buffer[data.offset() * width..][..data.len() * width]);
            }
        }
        Ok(())
    }

    fn runs<O: OffsetSizeTrait>(&mut self, offsets: &OffsetBuffer<O>, values: &[u8]) {
        lengths(&mut self.lengths, offsets);
        self.values.update(&values[offsets[0].as_usize()..offsets[offsets.len() - 1].as_usize()]);
    }

    fn items<O: OffsetSizeTrait>(&mut self, offsets: &OffsetBuffer<O>, values: &ArrayRef) -> Result<()> {
        lengths(&mut self.lengths, offsets);
        let (start, end) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
        self.children[0].update(&values.slice(start, end - start))
    }

    fn end_chunk(&mut self, streams: &mut Vec<Digest>) {
        for hasher in [&mut self.validity, &mut self.lengths, &mut self.values] {
            streams.push(hasher.finalize().into());
            hasher.reset();
        }
        for child in &mut self.children {
            child.end_chunk(streams);
        }
    }
}

/// The digest of an artifact: kind, meta, and name and digest of every table.
pub(crate) fn artifact(kind: Kind, meta: &Value, tables: &BTreeMap<&str, Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("mediant: artifact, version 1");
    text(&mut hasher, kind.name());
    json(&mut hasher, meta);
    hasher.update(&(tables.len() as u64).to_le_bytes());
    for (name, digest) in tables {
        text(&mut hasher, name);
        hasher.update(digest.as_bytes());
    }
    hasher.finalize().into()
}

/// JSON by value: the order of an object's keys does not count, `1` and `1.0` differ.
fn json(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Null => drop(hasher.update(b"n")),
        Value::Bool(value) => drop(hasher.update(if *value { b"t" } else { b"f" })),
        Value::Number(number) => {
            if let Some(value) = number.as_u64() {
                hasher.update(b"u").update(&value.to_le_bytes());
            } else if let Some(value) = number.as_i64() {
                hasher.update(b"i").update(&value.to_le_bytes());
            } else {
                let bits = number.as_f64().unwrap_or(f64::NAN).to_bits();
                hasher.update(b"d").update(&bits.to_le_bytes());
            }
        }
        Value::String(value) => {
            hasher.update(b"s");
            text(hasher, value);
        }
        Value::Array(items) => {
            hasher.update(b"a").update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| json(hasher, item));
        }
        Value::Object(map) => {
            hasher.update(b"o").update(&(map.len() as u64).to_le_bytes());
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (key, value) in sorted {
                text(hasher, key);
                json(hasher, value);
            }
        }
    }
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

fn lengths<O: OffsetSizeTrait>(hasher: &mut blake3::Hasher, offsets: &OffsetBuffer<O>) {
    bytes(hasher, offsets.windows(2).map(|pair| (pair[1].as_usize() as u64 - pair[0].as_usize() as u64).to_le_bytes()));
}

/// Small pieces, gathered so that the hash sees large ones.
fn bytes<const N: usize>(hasher: &mut blake3::Hasher, pieces: impl Iterator<Item = [u8; N]>) {
    let mut block = Vec::with_capacity(1 << 14);
    for piece in pieces {
        block.extend_from_slice(&piece);
        if block.len() >= (1 << 14) - N {
            hasher.update(&block);
            block.clear();
        }
    }
    hasher.update(&block);
}

/// The logical digest of a table given as batches of one schema.
///
/// # Errors
/// If a column's type is one that artifacts do not hold.
pub fn table_digest(fields: &Fields, batches: impl IntoIterator<Item = Result<RecordBatch>>) -> Result<Digest> {
    let schema = schema_text(fields)?;
    let mut hasher = TableHasher::new(fields, Chunks::default());
    for batch in batches {
        hasher.update(&batch?)?;
    }
    Ok(hasher.finish(&schema))
}
