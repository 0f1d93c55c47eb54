//! A table `tensors`: one row a tensor, or a piece of up to 16 MiB of one.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, LargeBinaryArray, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;

use super::column::{column, items, required, required_list};
use crate::read::OpenPart;
use crate::write::Cut;
use crate::{Artifact, ArtifactWriter, DType, Error, Result, TableWriter};

const TENSORS: &str = "tensors";

/// Most bytes of a row.
const CHUNK_BYTES: usize = 16 << 20;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("name", DataType::Utf8),
        required("dtype", DataType::Utf8),
        required_list("shape", DataType::UInt64),
        required("chunk", DataType::UInt32),
        required("data", DataType::LargeBinary),
    ]))
}

/// Bytes of a tensor, if they can be counted.
fn byte_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |bytes, side| bytes.checked_mul(*side))
}

/// Writes the table.
pub struct TensorTableWriter {
    table: TableWriter,
    names: HashSet<String>,
}

impl TensorTableWriter {
    /// Opens the table.
    ///
    /// # Errors
    /// If the artifact has one already or the file cannot be created.
    pub fn new(artifact: &ArtifactWriter) -> Result<Self> {
        Ok(Self { table: artifact.table_cut(TENSORS, &schema(), Cut::BLOBS)?, names: HashSet::new() })
    }

    /// Adds a tensor: little-endian, row-major.
    ///
    /// # Errors
    /// If the bytes do not fit the shape, the name was used before, or writing fails.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<()> {
        if byte_count(dtype, shape) != Some(bytes.len()) {
            return Err(Error::Invalid(format!("tensor `{name}`: {} bytes are not {dtype} {shape:?}", bytes.len())));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(Error::Invalid(format!("there is a tensor `{name}` already")));
        }
        // A tensor of no numbers has one row too.
        let chunks = bytes.len().div_ceil(CHUNK_BYTES).max(1);
        for chunk in 0..chunks {
            let bytes = &bytes[chunk * CHUNK_BYTES..bytes.len().min((chunk + 1) * CHUNK_BYTES)];
            self.table.write(&row(name, dtype, shape, chunk, bytes)?)?;
        }
        Ok(())
    }

    /// Closes the table.
    ///
    /// # Errors
    /// If writing fails.
    pub fn close(self) -> Result<()> {
        self.table.close()
    }
}

fn row(name: &str, dtype: DType, shape: &[usize], chunk: usize, bytes: &[u8]) -> Result<RecordBatch> {
    let sides = UInt64Array::from_iter_values(shape.iter().map(|&side| side as u64));
    let item = Arc::new(Field::new_list_field(DataType::UInt64, false));
    let shape = ListArray::try_new(item, OffsetBuffer::from_lengths([shape.len()]), Arc::new(sides), None)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![name])),
        Arc::new(StringArray::from(vec![dtype.name()])),
        Arc::new(shape),
        Arc::new(UInt32Array::from_iter_values([chunk as u32])),
        Arc::new(LargeBinaryArray::from(vec![bytes])),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// What is known of a tensor before its bytes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Format of its numbers.
    pub dtype: DType,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Format of its numbers.
    pub dtype: DType,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
    /// Its numbers, little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Its numbers as `f32`, exactly.
    ///
    /// # Errors
    /// If `bytes` does not hold a whole number of them.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut numbers = vec![0.0; self.bytes.len() / self.dtype.size()];
        self.dtype.decode(&self.bytes, &mut numbers)?;
        Ok(numbers)
    }
}

/// The tensors of an artifact, read one at a time.
pub struct Tensors {
    parts: Vec<(u64, OpenPart)>,
    tensors: IndexMap<String, (TensorInfo, Range<u64>)>,
}

impl Tensors {
    /// Reads names, formats and shapes.
    ///
    /// # Errors
    /// If the artifact has no such table or it is damaged.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        let mut tensors: IndexMap<String, (TensorInfo, Range<u64>)> = IndexMap::new();
        let mut row = 0;
        for batch in artifact.columns(TENSORS, &["name", "dtype", "shape", "chunk"])? {
            let batch = batch?;
            let chunks = column::<UInt32Array>(&batch, "chunk")?;
            for (info, chunk) in infos(&batch)?.into_iter().zip(chunks.values()) {
                let last = tensors.last_mut().map(|(_, last)| last);
                let right = match last {
                    Some((last, rows)) if *last == info && u64::from(*chunk) == rows.end - rows.start => {
                        rows.end += 1;
                        true
                    }
                    _ => *chunk == 0 && tensors.insert(info.name.clone(), (info, row..row + 1)).is_none(),
                };
                if !right {
                    return Err(Error::damaged(artifact.dir(), format!("row {row} of `{TENSORS}` is out of place")));
                }
                row += 1;
            }
        }
        let table = artifact.table(TENSORS)?;
        let mut start = 0;
        let mut parts = Vec::new();
        for part in &table.parts {
            parts.push((start, OpenPart::open(artifact.dir(), table, part)?));
            start += part.rows;
        }
        Ok(Self { parts, tensors })
    }

    /// The names, in the order of writing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What is known of every tensor, in the order of writing.
    pub fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(info, _)| info)
    }

    /// What is known of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// If there is none of this name or it is damaged.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let rows = self.tensors.get(name).map_or(0, |(_, rows)| rows.end - rows.start);
        let mut bytes = Vec::new();
        let info = self.read(name, |info, piece| {
            if bytes.is_empty() {
                // All at once, but no more than the rows can hold, whatever shape a damaged table claims.
                let whole = byte_count(info.dtype, &info.shape).unwrap_or(0);
                bytes.reserve_exact(whole.min(rows as usize * CHUNK_BYTES));
            }
            bytes.extend_from_slice(piece);
            Ok::<_, Error>(())
        })?;
        Ok(Tensor { dtype: info.dtype, shape: info.shape.clone(), bytes })
    }

    /// Hands over a tensor's bytes in order, up to 16 MiB at a time; together as many as its shape needs.
    ///
    /// # Errors
    /// If there is none of this name or it is damaged, and whatever `each` gives.
    pub fn read<E: From<Error>>(
        &self,
        name: &str,
        mut each: impl FnMut(&TensorInfo, &[u8]) -> Result<(), E>,
    ) -> Result<&TensorInfo, E> {
        let (info, rows) =
            self.tensors.get(name).ok_or_else(|| Error::Invalid(format!("there is no tensor `{name}`")))?;
        let expected = byte_count(info.dtype, &info.shape);
        let mut count = 0;
        let damaged = |count| {
            let why = format!("tensor `{name}`: {count} bytes are not {} {:?}", info.dtype, info.shape);
            E::from(Error::Invalid(why))
        };
        for row in rows.clone() {
            let index = self.parts.partition_point(|(start, _)| *start <= row) - 1;
            let (start, part) = &self.parts[index];
            let local = row - start..row - start + 1;
            for batch in part.reader(Some(&["data".to_owned()]), Some(local), 1)? {
                let data = batch?;
                for piece in column::<LargeBinaryArray>(&data, "data")?.iter().flatten() {
                    count += piece.len();
                    if expected.is_none_or(|expected| count > expected) {
                        return Err(damaged(count));
                    }
                    each(info, piece)?;
                }
            }
        }
        if Some(count) == expected { Ok(info) } else { Err(damaged(count)) }
    }
}

fn infos(batch: &RecordBatch) -> Result<Vec<TensorInfo>> {
    let names = column::<StringArray>(batch, "name")?;
    let dtypes = column::<StringArray>(batch, "dtype")?;
    let shapes = column::<ListArray>(batch, "shape")?;
    let sides = items::<UInt64Array>(shapes, "shape")?;
    let info = |i: usize| {
        let range = shapes.value_offsets()[i] as usize..shapes.value_offsets()[i + 1] as usize;
        let shape = sides.values()[range].iter().map(|&side| usize::try_from(side).unwrap_or(usize::MAX)).collect();
        Ok(TensorInfo { name: names.value(i).to_owned(), dtype: dtypes.value(i).parse()?, shape })
    };
    (0..names.len()).map(info).collect()
}
