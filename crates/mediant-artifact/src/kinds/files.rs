//! A table `files`: small files by name, as they were.

use std::sync::Arc;

use arrow::array::{ArrayRef, LargeBinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use indexmap::IndexMap;

use super::column::{column, required};
use crate::{Artifact, ArtifactWriter, Digest, Error, Result, TableWriter};

const FILES: &str = "files";

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![required("name", DataType::Utf8), required("data", DataType::LargeBinary)]))
}

/// Writes the table.
pub struct FileTableWriter {
    table: TableWriter,
    digests: IndexMap<String, Digest>,
}

impl FileTableWriter {
    /// Opens the table.
    ///
    /// # Errors
    /// If the artifact has one already or the file cannot be created.
    pub fn new(artifact: &ArtifactWriter) -> Result<Self> {
        let table = artifact.table_cut(FILES, &schema(), crate::write::Cut::BLOBS)?;
        Ok(Self { table, digests: IndexMap::new() })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If the name is no file name or was used before, or writing fails.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if !is_file_name(name) {
            return Err(Error::Invalid(format!("`{}` is no file name", name.escape_debug())));
        }
        if self.digests.insert(name.to_owned(), Digest::of(bytes)).is_some() {
            return Err(Error::Invalid(format!("there is a file `{name}` already")));
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec![name])), Arc::new(LargeBinaryArray::from(vec![bytes]))];
        self.table.write(&RecordBatch::try_new(schema(), columns)?)
    }

    /// The digest of a file added before.
    pub fn digest(&self, name: &str) -> Option<Digest> {
        self.digests.get(name).copied()
    }

    /// Closes the table.
    ///
    /// # Errors
    /// If writing fails.
    pub fn close(self) -> Result<()> {
        self.table.close()
    }
}

/// The files of an artifact, in memory.
pub struct Files {
    files: IndexMap<String, Vec<u8>>,
}

impl Files {
    /// Reads the table.
    ///
    /// # Errors
    /// If the artifact has none or it is damaged.
    pub fn read(artifact: &Artifact) -> Result<Self> {
        let mut files = IndexMap::new();
        for batch in artifact.batches(FILES)? {
            let batch = batch?;
            let names = column::<StringArray>(&batch, "name")?;
            let data = column::<LargeBinaryArray>(&batch, "data")?;
            for (name, bytes) in names.iter().flatten().zip(data.iter().flatten()) {
                // Files are exported by these names.
                if !is_file_name(name) || files.insert(name.to_owned(), bytes.to_owned()).is_some() {
                    let why = format!("`{}` is no file name or occurs twice", name.escape_debug());
                    return Err(Error::damaged(artifact.dir(), why));
                }
            }
        }
        Ok(Self { files })
    }

    /// The names, in the order of writing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The bytes of a file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
