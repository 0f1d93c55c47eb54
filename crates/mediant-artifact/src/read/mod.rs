//! Reading an artifact.

mod batches;
mod part;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::logical::table_digest;
use crate::manifest::{Manifest, TableEntry};
use crate::write::verify;

pub use batches::Batches;
pub(crate) use part::OpenPart;
pub use vectors::Vectors;

/// Rows of a batch when reading.
const BATCH_ROWS: usize = 1024;

/// An artifact in a folder. Cheap to clone.
///
/// Opening reads the manifest and nothing else; files are opened, and their sizes compared with the manifest's, when
/// their rows are asked for. Digests are not compared on the way, see [`verify`](Self::verify).
#[derive(Clone, Debug)]
pub struct Artifact {
    dir: PathBuf,
    manifest: Arc<Manifest>,
}

impl Artifact {
    /// Opens the artifact in `dir`.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), manifest: Arc::new(Manifest::read(dir)?) })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.manifest.kind
    }

    /// Checks what it holds.
    ///
    /// # Errors
    /// If it is another kind.
    pub fn expect(&self, kind: Kind) -> Result<()> {
        let found = self.kind();
        if found == kind { Ok(()) } else { Err(Error::WrongKind { expected: kind, found }) }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The kind's own description.
    ///
    /// # Errors
    /// If it does not have the form of `T`.
    pub fn meta<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.manifest.meta).map_err(Error::json(format!("the meta of {}", self.dir.display())))
    }

    /// Names of the tables, sorted.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.manifest.tables.keys().map(String::as_str)
    }

    /// The manifest's entry of a table.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn table(&self, name: &str) -> Result<&TableEntry> {
        self.manifest.tables.get(name).ok_or_else(|| Error::NoTable {
            name: name.to_owned(),
            kind: self.kind(),
            have: self.table_names().map(str::to_owned).collect(),
        })
    }

    /// Number of rows of a table.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn rows(&self, table: &str) -> Result<u64> {
        Ok(self.table(table)?.rows)
    }

    /// The rows of a table, in batches.
    ///
    /// # Errors
    /// If there is no table of this name. Damage shows as an error among the batches.
    pub fn batches(&self, table: &str) -> Result<Batches> {
        Batches::new(self, table, None, BATCH_ROWS)
    }

    /// Some columns of a table, in batches, in the order of the table's schema.
    ///
    /// # Errors
    /// If there is no table of this name. Damage and missing columns show as an error among the batches.
    pub fn columns(&self, table: &str, columns: &[&str]) -> Result<Batches> {
        Batches::new(self, table, Some(columns), BATCH_ROWS)
    }

    /// All rows of a table.
    ///
    /// # Errors
    /// If there is no table of this name or it is damaged.
    pub fn read(&self, table: &str) -> Result<RecordBatch> {
        let mut batches = self.batches(table)?;
        let schema = batches.schema()?;
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&schema, &batches)?)
    }

    /// A table of vectors, mapped into memory.
    ///
    /// # Errors
    /// If there is no table of this name, it is not one of vectors, or it is damaged.
    pub fn vectors(&self, table: &str) -> Result<Vectors> {
        Vectors::open(self, table)
    }

    /// Reads every file and compares digests, of files and of values.
    ///
    /// # Errors
    /// Names the first file or table that is not what the manifest says.
    pub fn verify(&self) -> Result<()> {
        self.manifest.stored().try_for_each(|(name, bytes, digest)| verify(&self.dir, name, bytes, digest))?;
        for (name, table) in &self.manifest.tables {
            let mut batches = self.batches(name)?;
            let schema = batches.schema()?;
            if table_digest(schema.fields(), batches)? != table.logical {
                return Err(Error::damaged(
                    &self.dir,
                    format!("the values of table `{name}` are not what was written"),
                ));
            }
        }
        Ok(())
    }
}
