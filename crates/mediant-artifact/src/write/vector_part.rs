//! One Parquet file of vectors: pages of raw bytes, one row group, the page index, the footer.
//!
//! The pages are handed to the Parquet library as bytes: its column writer would take the rows one at a time, which is
//! several times slower.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::Schema;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::basic::Encoding;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, OffsetIndexBuilder, ParquetMetaData, ParquetMetaDataBuilder,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

use super::Shared;
use super::part::{CREATED_BY, HashedFile};
use crate::error::{Error, Result};
use crate::manifest::PartEntry;

const MAGIC: &[u8; 4] = b"PAR1";

/// A part being written.
pub(super) struct Part {
    pub(super) rows: u64,
    path: PathBuf,
    file: TrackedWrite<HashedFile>,
    pages: OffsetIndexBuilder,
}

impl Part {
    pub(super) fn create(shared: &Shared, table: &str, index: usize) -> Result<Self> {
        let file = HashedFile::create(&shared.dir, table, index)?;
        let path = file.path.clone();
        let mut file = TrackedWrite::new(file);
        file.write_all(MAGIC).map_err(Error::io(&path))?;
        Ok(Self { rows: 0, path, file, pages: OffsetIndexBuilder::new() })
    }

    /// Writes whole rows of `width` bytes as one page.
    pub(super) fn write_page(&mut self, rows: Vec<u8>, width: usize) -> Result<()> {
        let bytes = rows.len();
        let count = bytes / width;
        let page = Page::DataPage {
            buf: rows.into(),
            num_values: count as u32,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let spec = SerializedPageWriter::new(&mut self.file)
            .write_page(CompressedPage::new(page, bytes))
            .map_err(Error::parquet(&self.path))?;
        self.pages.append_row_count(count as i64);
        self.pages.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
        self.rows += count as u64;
        Ok(())
    }

    /// Writes page index and footer.
    pub(super) fn close(mut self, schema: &Schema) -> Result<PartEntry> {
        let start = self.file.bytes_written() as u64;
        let tail = tail(schema, self.rows, start, self.pages.build()).map_err(Error::parquet(&self.path))?;
        self.file.write_all(&tail).map_err(Error::io(&self.path))?;
        let file = self.file.into_inner().map_err(Error::parquet(&self.path))?;
        Ok(file.entry(self.rows))
    }
}

/// What follows the pages, which end at byte `start`: the page index, if there are pages, and the footer.
fn tail(schema: &Schema, rows: u64, start: u64, pages: OffsetIndexMetaData) -> ParquetResult<Vec<u8>> {
    let parquet_schema = Arc::new(ArrowSchemaConverter::new().convert(schema)?);
    let arrow_schema = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(schema));
    let file = FileMetaData::new(
        1,
        rows as i64,
        Some(CREATED_BY.to_owned()),
        Some(vec![arrow_schema]),
        Arc::clone(&parquet_schema),
        None,
    );
    let empty = ParquetMetaDataBuilder::new(file).build();
    if rows == 0 {
        return footer(&empty);
    }
    let bytes = start as i64 - MAGIC.len() as i64;
    let group = |index: Option<usize>| {
        let column = ColumnChunkMetaData::builder(parquet_schema.column(0))
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values(rows as i64)
            .set_total_compressed_size(bytes)
            .set_total_uncompressed_size(bytes)
            .set_data_page_offset(MAGIC.len() as i64)
            .set_offset_index_offset(index.map(|_| start as i64))
            .set_offset_index_length(index.map(|length| length as i32))
            .build()?;
        RowGroupMetaData::builder(Arc::clone(&parquet_schema))
            .set_num_rows(rows as i64)
            .set_total_byte_size(bytes)
            .set_file_offset(MAGIC.len() as i64)
            .set_ordinal(0)
            .add_column_metadata(column)
            .build()
    };
    // The library writes an index only together with a footer that takes the index to stand at the start of the file.
    let mut index = PageIndexBuilder::default();
    index.allocate_offset_indexes(1, 1);
    index.put_offset_index(pages, 0, 0);
    let builder = empty.clone().into_builder().add_row_group(group(None)?);
    let mut tail = footer(&builder.set_page_index(Some(Arc::new(index.build()))).build())?;
    tail.truncate(footer_start(&tail));
    let footer = footer(&empty.into_builder().add_row_group(group(Some(tail.len()))?).build())?;
    tail.extend_from_slice(&footer);
    Ok(tail)
}

fn footer(metadata: &ParquetMetaData) -> ParquetResult<Vec<u8>> {
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, metadata).finish()?;
    Ok(bytes)
}

/// Where the footer begins in bytes that end with one: its length stands before the final magic bytes.
fn footer_start(bytes: &[u8]) -> usize {
    let length: [u8; 4] = std::array::from_fn(|i| bytes[bytes.len() - 8 + i]);
    bytes.len() - 8 - u32::from_le_bytes(length) as usize
}
