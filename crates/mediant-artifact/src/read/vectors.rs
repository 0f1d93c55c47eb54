//! Reading vectors by row, without decoding Parquet: where every page begins is known from the page index, and a page is
//! its rows, one after the other.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
use parquet::basic::{Compression, Encoding, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use parquet::file::page_index::index_reader::decode_offset_index;

use super::Artifact;
use super::part::{OpenPart, decoding, open_file};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::manifest::{PartEntry, TableEntry, VectorEntry};

/// Largest header of a page without statistics; the library's have about 20 bytes.
const LARGEST_HEADER: u64 = 256;

/// A table of vectors, its parts mapped into memory.
pub struct Vectors {
    entry: VectorEntry,
    width: usize,
    rows: u64,
    parts: Vec<Mapped>,
}

/// A mapped part.
struct Mapped {
    /// Number of its first row in the table.
    start: u64,
    map: Mmap,
    page_rows: u64,
    /// Where the rows of each page begin in the file. Every row has been checked to lie within it.
    pages: Vec<usize>,
}

impl Vectors {
    pub(super) fn open(artifact: &Artifact, name: &str) -> Result<Self> {
        let table = artifact.table(name)?;
        let entry =
            table.vectors.clone().ok_or_else(|| Error::Invalid(format!("table `{name}` is not one of vectors")))?;
        let width = entry.shape.iter().try_fold(entry.dtype.size(), |width, side| width.checked_mul(*side));
        let Some(width) = width.filter(|width| (1..=i32::MAX as usize).contains(width)) else {
            return Err(Error::damaged(
                artifact.dir(),
                format!("table `{name}` has vectors of shape {:?}", entry.shape),
            ));
        };
        let mut rows = 0;
        let mut parts = Vec::new();
        for part in table.parts.iter().filter(|part| part.rows > 0) {
            parts.push(Mapped::open(artifact.dir(), table, part, width, rows)?);
            rows += part.rows;
        }
        Ok(Self { entry, width, rows, parts })
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Format of the stored numbers.
    pub fn dtype(&self) -> DType {
        self.entry.dtype
    }

    /// Shape of one row.
    pub fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width / self.entry.dtype.size()
    }

    /// Bytes of a row.
    pub fn width_bytes(&self) -> usize {
        self.width
    }

    /// The bytes of a row, little-endian, not aligned.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn row(&self, row: u64) -> Result<&[u8]> {
        Ok(&self.run(row)?[..self.width])
    }

    /// Reads rows as `f32` in the order given: `out` is `[rows.len(), width()]`.
    ///
    /// # Errors
    /// If there is no such row or `out` has another length.
    pub fn gather_f32(&self, rows: &[u64], out: &mut [f32]) -> Result<()> {
        self.check_out(rows.len() as u64, out)?;
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.width())) {
            self.entry.dtype.decode(self.row(*row)?, out)?;
        }
        Ok(())
    }

    /// Reads consecutive rows as `f32`: `out` is `[rows.end - rows.start, width()]`.
    ///
    /// # Errors
    /// If there are no such rows or `out` has another length.
    pub fn range_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        self.check_out(rows.end.saturating_sub(rows.start), out)?;
        let mut out = out;
        for bytes in self.runs(rows) {
            let bytes = bytes?;
            let (head, rest) = out.split_at_mut(bytes.len() / self.entry.dtype.size());
            self.entry.dtype.decode(bytes, head)?;
            out = rest;
        }
        Ok(())
    }

    /// The bytes of consecutive rows, in pieces of whole rows, as they lie in the files.
    pub fn runs(&self, rows: Range<u64>) -> impl Iterator<Item = Result<&[u8]>> {
        let mut next = rows.start;
        std::iter::from_fn(move || {
            (next < rows.end).then(|| {
                let run = self.run(next)?;
                let most = (rows.end - next).saturating_mul(self.width as u64);
                let run = &run[..run.len().min(usize::try_from(most).unwrap_or(usize::MAX))];
                next += (run.len() / self.width) as u64;
                Ok(run)
            })
        })
    }

    /// The bytes from a row to the end of its page.
    fn run(&self, row: u64) -> Result<&[u8]> {
        if row >= self.rows {
            return Err(Error::Invalid(format!("there is no row {row} in a table of {}", self.rows)));
        }
        // The first part starts at row 0, so at least one starts at or before any row.
        let index = self.parts.partition_point(|part| part.start <= row) - 1;
        let end = self.parts.get(index + 1).map_or(self.rows, |next| next.start);
        let part = &self.parts[index];
        let local = row - part.start;
        let (page, skip) = (local / part.page_rows, local % part.page_rows);
        let left = (part.page_rows - skip).min(end - row);
        let start = part.pages[page as usize] + skip as usize * self.width;
        Ok(&part.map[start..start + left as usize * self.width])
    }

    fn check_out(&self, rows: u64, out: &[f32]) -> Result<()> {
        if rows.checked_mul(self.width() as u64) == Some(out.len() as u64) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{rows} rows of {} numbers do not fit {}", self.width(), out.len())))
    }
}

impl Mapped {
    fn open(dir: &Path, table: &TableEntry, part: &PartEntry, width: usize, start: u64) -> Result<Self> {
        OpenPart::open(dir, table, part)?;
        let (path, file) = open_file(dir, part)?;
        let map = map(&file).map_err(Error::io(&path))?;
        let (page_rows, pages) =
            decoding(&path, || pages(&file, &map, part.rows, width).map_err(|why| Error::damaged(&path, why)))?;
        Ok(Self { start, map, page_rows, pages })
    }
}

#[expect(unsafe_code, reason = "mapping a file is what makes gathering rows cheap")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the files of an artifact are immutable once its manifest exists, and the store makes them read-only; who
    // truncates one regardless gets SIGBUS in this process, which the engine reports as a crash of the stage.
    unsafe { Mmap::map(file) }
}

/// Rows of a page and where the rows of every page begin, checked against the file.
fn pages(file: &File, map: &[u8], rows: u64, width: usize) -> Result<(u64, Vec<usize>), String> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(|error| error.to_string())?;
    let [group] = metadata.row_groups() else {
        return Err("not one row group".to_owned());
    };
    let [column] = group.columns() else {
        return Err("not one column".to_owned());
    };
    check_column(column, width)?;
    let locations = offset_index(column, map)?;
    let page_rows = locations.get(1).map_or(rows, |second| second.first_row);
    if page_rows == 0 || rows.div_ceil(page_rows) != locations.len() as u64 {
        return Err("its pages do not hold its rows".to_owned());
    }
    let mut end = 0;
    let mut pages = Vec::with_capacity(locations.len());
    for (i, location) in locations.iter().enumerate() {
        let first = i as u64 * page_rows;
        let bytes = page_rows.min(rows - first).checked_mul(width as u64);
        let header = bytes.and_then(|bytes| location.bytes.checked_sub(bytes));
        let page_end = location.offset.checked_add(location.bytes);
        match (header, page_end) {
            (Some(header), Some(page_end))
                if (1..=LARGEST_HEADER).contains(&header)
                    && location.first_row == first
                    && location.offset >= end
                    && page_end <= map.len() as u64 =>
            {
                pages.push((location.offset + header) as usize);
                end = page_end;
            }
            _ => return Err(format!("page {i} is not where its rows could be")),
        }
    }
    Ok((page_rows, pages))
}

/// A column whose pages are the bytes of its rows.
fn check_column(column: &ColumnChunkMetaData, width: usize) -> Result<(), String> {
    let descriptor = column.column_descr();
    let plain = descriptor.physical_type() == Type::FIXED_LEN_BYTE_ARRAY
        && usize::try_from(descriptor.type_length()) == Ok(width)
        && descriptor.max_def_level() == 0
        && descriptor.max_rep_level() == 0
        && column.compression() == Compression::UNCOMPRESSED
        && column.dictionary_page_offset().is_none()
        && column.encodings().all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE));
    if plain { Ok(()) } else { Err("not a required, plain, uncompressed column of vectors".to_owned()) }
}

struct Location {
    offset: u64,
    bytes: u64,
    first_row: u64,
}

fn offset_index(column: &ColumnChunkMetaData, map: &[u8]) -> Result<Vec<Location>, String> {
    let range = column.offset_index_range().ok_or("no page index")?;
    let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    let bytes = bytes.and_then(|(start, end)| map.get(start..end)).ok_or("its page index is outside of it")?;
    if announced(bytes) > bytes.len() as u64 {
        return Err("its page index announces more pages than it has room for".to_owned());
    }
    let index = decode_offset_index(bytes).map_err(|error| error.to_string())?;
    let location = |page: &parquet::file::page_index::offset_index::PageLocation| {
        Ok(Location {
            offset: page.offset.try_into()?,
            bytes: page.compressed_page_size.try_into()?,
            first_row: page.first_row_index.try_into()?,
        })
    };
    let locations = index.page_locations().iter().map(location).collect::<Result<Vec<_>, std::num::TryFromIntError>>();
    locations.map_err(|_| "its page index has negative numbers".to_owned())
}

/// The length of the list that a page index begins with. The library would allocate as much as is announced there.
fn announced(index: &[u8]) -> u64 {
    // A Thrift compact struct: one byte of field header, then the list's: its length in the upper half of a byte, or, if
    // all four bits are set, as a varint after it.
    match index {
        [_, header, varint @ ..] if header >> 4 == 15 => varint
            .iter()
            .take(10)
            .scan(true, |more, byte| std::mem::replace(more, byte & 0x80 != 0).then_some(byte & 0x7f))
            .enumerate()
            .fold(0, |length, (i, bits)| length | u64::from(bits).checked_shl(7 * i as u32).unwrap_or(u64::MAX)),
        _ => 0,
    }
}
