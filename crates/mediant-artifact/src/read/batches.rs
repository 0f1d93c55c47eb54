//! The rows of a table in order, part after part.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Artifact;
use super::part::{OpenPart, PartReader};
use crate::error::{Error, Result};
use crate::manifest::TableEntry;

/// Iterates over the rows of a table in batches; nothing is yielded after an error.
pub struct Batches {
    dir: PathBuf,
    table: TableEntry,
    columns: Option<Vec<String>>,
    batch_rows: usize,
    next_part: usize,
    open: Option<Open>,
}

struct Open {
    schema: SchemaRef,
    reader: PartReader,
    /// Rows still to come, says the manifest.
    left: u64,
}

impl Batches {
    pub(super) fn new(artifact: &Artifact, table: &str, columns: Option<&[&str]>, batch_rows: usize) -> Result<Self> {
        Ok(Self {
            dir: artifact.dir.clone(),
            table: artifact.table(table)?.clone(),
            columns: columns.map(|columns| columns.iter().map(|&column| column.to_owned()).collect()),
            batch_rows,
            next_part: 0,
            open: None,
        })
    }

    /// The schema of the batches.
    ///
    /// # Errors
    /// If the first file cannot be read.
    pub fn schema(&mut self) -> Result<SchemaRef> {
        match &self.open {
            Some(open) => Ok(open.schema.clone()),
            None => {
                let open = self.open_part(0)?.ok_or_else(|| Error::damaged(&self.dir, "a table without files"))?;
                Ok(open.schema)
            }
        }
    }

    fn open_part(&self, index: usize) -> Result<Option<Open>> {
        let Some(entry) = self.table.parts.get(index) else {
            return Ok(None);
        };
        let part = OpenPart::open(&self.dir, &self.table, entry)?;
        let reader = part.reader(self.columns.as_deref(), None, self.batch_rows)?;
        let schema = match &self.columns {
            None => part.schema().clone(),
            Some(_) => reader.schema(),
        };
        Ok(Some(Open { schema, reader, left: entry.rows }))
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.open.is_none() {
                self.open = self.open_part(self.next_part)?;
                self.next_part += 1;
            }
            let Some(open) = &mut self.open else {
                return Ok(None);
            };
            match open.reader.next().transpose()? {
                Some(batch) => {
                    let left = open.left.checked_sub(batch.num_rows() as u64);
                    open.left =
                        left.ok_or_else(|| Error::damaged(&open.reader.path, "more rows than its manifest says"))?;
                    return Ok(Some(batch));
                }
                None if open.left > 0 => {
                    return Err(Error::damaged(&open.reader.path, "fewer rows than its manifest says"));
                }
                None => self.open = None,
            }
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.open = None;
            self.next_part = self.table.parts.len();
        }
        next
    }
}
