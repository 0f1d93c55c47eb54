//! One Parquet file of a table, opened.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use crate::error::{Error, Result};
use crate::manifest::{PartEntry, TableEntry};
use crate::schema::schema_text;

/// An open part whose size, schema and number of rows are those of the manifest.
pub(crate) struct OpenPart {
    pub(crate) path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
}

/// Opens a part, comparing its size with the manifest's.
pub(super) fn open_file(dir: &Path, part: &PartEntry) -> Result<(PathBuf, File)> {
    let path = dir.join(&part.file);
    let file = File::open(&path).map_err(Error::io(&path))?;
    let bytes = file.metadata().map_err(Error::io(&path))?.len();
    if bytes == part.bytes {
        Ok((path, file))
    } else {
        Err(Error::damaged(&path, format!("{bytes} bytes, its manifest says {}", part.bytes)))
    }
}

/// Runs what decodes a file. On files that nobody wrote by accident the library's readers panic here and there.
pub(super) fn decoding<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Error::damaged(path, "the Parquet reader gave up")))
}

/// Checks the sizes and places of column chunks, which the library allocates memory by.
fn check_group(group: &RowGroupMetaData, file_bytes: u64) -> Result<(), String> {
    let inside = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = start.checked_add(column.compressed_size())?;
        let file_bytes = i64::try_from(file_bytes).ok()?;
        let ordered = 0 <= start && start <= end && end <= file_bytes && start <= column.data_page_offset();
        (ordered && column.num_values() >= 0).then_some(())
    };
    if group.num_rows() >= 0 && group.columns().iter().all(|column| inside(column).is_some()) {
        Ok(())
    } else {
        Err("its footer describes columns that cannot be in it".to_owned())
    }
}

impl OpenPart {
    pub(crate) fn open(dir: &Path, table: &TableEntry, part: &PartEntry) -> Result<Self> {
        let (path, file) = open_file(dir, part)?;
        let load = || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(Error::parquet(&path));
        let metadata = decoding(&path, load)?;
        let schema = schema_text(metadata.schema().fields())?;
        if schema != table.schema {
            return Err(Error::damaged(&path, format!("has ({schema}), its manifest says ({})", table.schema)));
        }
        let groups = metadata.metadata().row_groups();
        groups.iter().try_for_each(|group| check_group(group, part.bytes)).map_err(|why| Error::damaged(&path, why))?;
        let rows = groups.iter().fold(0, |rows: i64, group| rows.saturating_add(group.num_rows()));
        if u64::try_from(rows) != Ok(part.rows) {
            return Err(Error::damaged(&path, format!("{rows} rows, its manifest says {}", part.rows)));
        }
        Ok(Self { path, file, metadata })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Reads some columns, or all, of some rows, or all.
    pub(crate) fn reader(
        &self,
        columns: Option<&[String]>,
        rows: Option<Range<u64>>,
        batch_rows: usize,
    ) -> Result<PartReader> {
        let file = self.file.try_clone().map_err(Error::io(&self.path))?;
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone()).with_batch_size(batch_rows);
        if let Some(columns) = columns {
            let fields = self.schema().fields();
            let place = |name: &String| match fields.find(name) {
                Some((place, _)) => Ok(place),
                None => Err(Error::damaged(&self.path, format!("no column `{name}`"))),
            };
            let places = columns.iter().map(place).collect::<Result<Vec<_>>>()?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), places);
            builder = builder.with_projection(mask);
        }
        if let Some(rows) = rows {
            let (groups, skip) = self.groups(&rows);
            builder = builder.with_row_groups(groups).with_offset(skip).with_limit((rows.end - rows.start) as usize);
        }
        let reader = decoding(&self.path, || builder.build().map_err(Error::parquet(&self.path)))?;
        Ok(PartReader { path: self.path.clone(), reader })
    }

    /// The row groups that hold these rows, and the rows to skip in the first.
    fn groups(&self, rows: &Range<u64>) -> (Vec<usize>, usize) {
        let (mut found, mut skip, mut start) = (Vec::new(), 0, 0);
        for (i, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = start + group.num_rows().unsigned_abs();
            if start < rows.end && end > rows.start {
                if found.is_empty() {
                    skip = (rows.start - start) as usize;
                }
                found.push(i);
            }
            start = end;
        }
        (found, skip)
    }
}

/// The batches of a part.
pub(crate) struct PartReader {
    pub(super) path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl PartReader {
    pub(super) fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }
}

impl Iterator for PartReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { path, reader } = self;
        let next = || reader.next().transpose().map_err(|error| Error::damaged(path, error.to_string()));
        decoding(path, next).transpose()
    }
}
