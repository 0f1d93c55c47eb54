//! Documents in columns: a Parquet file, or a table artifact.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type};
use mediant_artifact::Artifact;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::documents::Document;
use crate::{Error, Result};

/// Rows read at a time.
const BATCH: usize = 1024;

/// Columns that hold documents; the first that there is counts.
const COLUMNS: [&str; 2] = ["text", "input_ids"];

/// The documents of a Parquet file.
pub(super) struct Rows {
    reader: ParquetRecordBatchReader,
    path: PathBuf,
    row: u64,
    batch: std::vec::IntoIter<Result<Document, String>>,
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let wrong = |why: String| Error::source(path, None, why);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| wrong(error.to_string()))?;
        let column = COLUMNS.into_iter().find_map(|name| builder.schema().index_of(name).ok());
        let column = column.ok_or_else(|| wrong("no column `text` or `input_ids`".to_owned()))?;
        let only = ProjectionMask::roots(builder.parquet_schema(), [column]);
        let reader = builder.with_projection(only).with_batch_size(BATCH).build();
        let reader = reader.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { reader, path: path.to_owned(), row: 0, batch: Vec::new().into_iter() })
    }
}

impl Iterator for Rows {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        loop {
            if let Some(document) = self.batch.next() {
                self.row += 1;
                return Some(document.map_err(|why| Error::source(&self.path, Some(self.row), why)));
            }
            let documents = match self.reader.next()? {
                Ok(batch) => batch_documents(&batch),
                Err(error) => Err(error.to_string()),
            };
            match documents {
                Ok(documents) => self.batch = documents.into_iter(),
                Err(why) => return Some(Err(Error::source(&self.path, Some(self.row + 1), why))),
            }
        }
    }
}

/// The documents of a table artifact with a column `text` or `input_ids`.
///
/// # Errors
/// If the artifact is no table or has no such column; each document may be an error of its own.
pub fn table_documents(artifact: &Artifact) -> Result<impl Iterator<Item = Result<Document>>> {
    let mut row = 0;
    let wrong = |row, why: String| Error::Tokens(format!("row {row} of the corpus: {why}"));
    let documents = artifact.batches("rows")?.flat_map(move |batch| {
        let first = row;
        let documents = match batch {
            Ok(batch) => {
                row += batch.num_rows();
                batch_documents(&batch).map_err(|why| wrong(first, why))
            }
            Err(error) => Err(error.into()),
        };
        match documents {
            Err(error) => vec![Err(error)],
            Ok(documents) => {
                let numbered = documents.into_iter().enumerate();
                numbered.map(|(at, document)| document.map_err(|why| wrong(first + at, why))).collect()
            }
        }
    });
    Ok(documents)
}

fn batch_documents(batch: &RecordBatch) -> Result<Vec<Result<Document, String>>, String> {
    let column = COLUMNS.into_iter().find_map(|name| Some((name, batch.column_by_name(name)?)));
    match column {
        Some(("text", column)) => texts(column),
        Some((_, column)) => ids(column),
        None => Err("no column `text` or `input_ids`".to_owned()),
    }
}

fn texts(column: &ArrayRef) -> Result<Vec<Result<Document, String>>, String> {
    let texts = cast(column, &DataType::Utf8).map_err(|error| format!("column `text`: {error}"))?;
    let texts = texts.as_string::<i32>();
    let document =
        |text: Option<&str>| text.map(|text| Document::Text(text.to_owned())).ok_or("`text` is null".to_owned());
    Ok(texts.iter().map(document).collect())
}

fn ids(column: &ArrayRef) -> Result<Vec<Result<Document, String>>, String> {
    let list = DataType::List(Field::new_list_field(DataType::Int64, true).into());
    let lists = cast(column, &list).map_err(|error| format!("column `input_ids`: {error}"))?;
    let document = |list: Option<ArrayRef>| {
        let list = list.ok_or("`input_ids` is null")?;
        let ids = list.as_primitive::<Int64Type>();
        if ids.null_count() > 0 {
            return Err("`input_ids` holds a null".to_owned());
        }
        let id = |&id: &i64| u32::try_from(id).map_err(|_| format!("`input_ids` holds {id}"));
        Ok(Document::Ids(ids.values().iter().map(id).collect::<Result<_, _>>()?))
    };
    Ok(lists.as_list::<i32>().iter().map(document).collect())
}
