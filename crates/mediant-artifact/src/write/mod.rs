//! Writing an artifact: tables and vectors into an empty folder, the manifest last.

mod part;
mod resume;
mod table;
mod vector_part;
mod vectors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::logical;
use crate::manifest::{FORMAT, MANIFEST, Manifest, PartEntry, PlainFile, TableEntry};
use resume::Progress;

pub(crate) use resume::verify;
pub use table::TableWriter;
pub(crate) use table::{Cut, properties};
pub(crate) use vectors::vector_field;
pub use vectors::{VectorSpec, VectorWriter};

/// Rows of a part.
pub(crate) const PART_ROWS: u64 = logical::CHUNK_ROWS;

/// Longest name of a table; its file's name has to fit the file system's 255 bytes when every byte is escaped.
const LONGEST_NAME: usize = 80;

/// Writes one artifact into a folder that nothing else writes to.
///
/// Several tables may be open at once, on several threads. What has been written is an artifact once
/// [`finish`](Self::finish) has returned, not before.
pub struct ArtifactWriter {
    shared: Arc<Shared>,
}

/// What the writers of the tables share with the writer of the artifact.
struct Shared {
    dir: PathBuf,
    kind: Kind,
    part_rows: u64,
    tables: Mutex<BTreeMap<String, Slot>>,
}

/// A table on its way into the manifest.
enum Slot {
    /// Read from a checkpoint, not opened yet.
    Resumed(Progress),
    /// Open; these parts are complete.
    Open(Progress),
    Closed(TableEntry),
}

impl Shared {
    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the table's name known; what a checkpoint already holds of it is the result.
    fn open(&self, name: &str, schema: &str) -> Result<Progress> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(Error::Invalid(format!("the name of a table has 1 to {LONGEST_NAME} bytes: `{name}`")));
        }
        let mut tables = self.tables();
        let progress = match tables.remove(name) {
            None => Progress { schema: schema.to_owned(), ..Progress::default() },
            Some(Slot::Resumed(progress)) if progress.schema == schema => progress,
            Some(Slot::Resumed(progress)) => {
                return Err(Error::Invalid(format!("table `{name}` had the schema ({}) before", progress.schema)));
            }
            Some(taken) => {
                tables.insert(name.to_owned(), taken);
                return Err(Error::Invalid(format!("there is a table `{name}` already")));
            }
        };
        tables.insert(name.to_owned(), Slot::Open(progress.clone()));
        Ok(progress)
    }

    /// Notes for a checkpoint which parts are complete, and the chunk of the logical digest that each holds.
    fn part_done(&self, name: &str, parts: &[PartEntry], chunks: &[Digest]) {
        if let Some(Slot::Open(progress)) = self.tables().get_mut(name) {
            progress.parts.extend_from_slice(&parts[progress.parts.len()..]);
            progress.chunks.extend_from_slice(&chunks[progress.chunks.len()..]);
        }
    }

    fn close(&self, name: String, entry: TableEntry) {
        self.tables().insert(name, Slot::Closed(entry));
    }
}

impl ArtifactWriter {
    /// Starts an artifact in an existing, empty folder.
    ///
    /// # Errors
    /// If the folder does not exist, cannot be read or is not empty.
    pub fn create(dir: &Path, kind: Kind) -> Result<Self> {
        Self::create_in_parts(dir, kind, PART_ROWS)
    }

    /// As [`create`](Self::create), with tables cut into parts of at most this many rows in place of 2^16. The logical
    /// digest is the same.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_in_parts(dir: &Path, kind: Kind, part_rows: u64) -> Result<Self> {
        if std::fs::read_dir(dir).map_err(Error::io(dir))?.next().is_some() {
            return Err(Error::Invalid(format!("{} is not empty", dir.display())));
        }
        let part_rows = part_rows.clamp(1, PART_ROWS);
        let tables = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { dir: dir.to_owned(), kind, part_rows, tables }) })
    }

    /// The kind being written.
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Checks the kind being written.
    ///
    /// # Errors
    /// If it is another.
    pub fn expect(&self, kind: Kind) -> Result<()> {
        let found = self.kind();
        if found == kind { Ok(()) } else { Err(Error::WrongKind { expected: kind, found }) }
    }

    /// Opens a table. The schema's own metadata is dropped, that of its fields is kept.
    ///
    /// # Errors
    /// If the name is taken or too long, a column has a type that artifacts do not hold, or the file cannot be created.
    pub fn table(&self, name: &str, schema: SchemaRef) -> Result<TableWriter> {
        self.table_cut(name, &schema, Cut::ROWS)
    }

    /// As [`table`](Self::table), for rows that are large.
    pub(crate) fn table_cut(&self, name: &str, schema: &Schema, cut: Cut) -> Result<TableWriter> {
        TableWriter::open(Arc::clone(&self.shared), name, schema, cut)
    }

    /// Opens a table of vectors: one required FixedSizeBinary column `vector`.
    ///
    /// # Errors
    /// If the name is taken or too long, a row has no numbers or more than 2 GiB, or the file cannot be created.
    pub fn vectors(&self, name: &str, spec: VectorSpec) -> Result<VectorWriter> {
        VectorWriter::open(Arc::clone(&self.shared), name, spec)
    }

    /// Writes the manifest. Every table must have been closed.
    ///
    /// # Errors
    /// If a table is still open or `meta` is not JSON.
    pub fn finish(self, meta: &impl Serialize) -> Result<Manifest> {
        self.finish_with(meta, Vec::new())
    }

    /// The folder that is written to.
    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// As [`finish`](Self::finish), with files that are no tables; a table says what is in them.
    pub(crate) fn finish_with(self, meta: &impl Serialize, files: Vec<PlainFile>) -> Result<Manifest> {
        let mut meta = serde_json::to_value(meta).map_err(Error::json("the meta of an artifact"))?;
        meta.sort_all_objects();
        let mut tables = BTreeMap::new();
        for (name, slot) in std::mem::take(&mut *self.shared.tables()) {
            let Slot::Closed(entry) = slot else {
                return Err(Error::Invalid(format!("table `{name}` was not closed")));
            };
            tables.insert(name, entry);
        }
        let kind = self.shared.kind;
        let digests = tables.iter().map(|(name, table)| (name.as_str(), table.logical)).collect();
        let logical = logical::artifact(kind, &meta, &digests);
        let manifest = Manifest { format: FORMAT, kind, logical, meta, tables, files };
        let path = self.shared.dir.join(MANIFEST);
        std::fs::write(&path, manifest.to_json()?).map_err(Error::io(&path))?;
        Ok(manifest)
    }
}
