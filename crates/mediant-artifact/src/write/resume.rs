//! Stopping and going on: finished parts survive in a checkpoint, by hard link where the file system has them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ArtifactWriter, PART_ROWS, Slot};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::manifest::PartEntry;

/// Name of the file that lists what a checkpoint holds.
const PROGRESS: &str = "progress.json";

/// The finished parts of an open table and the digests of the chunks they hold.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    pub(super) schema: String,
    pub(super) parts: Vec<PartEntry>,
    pub(super) chunks: Vec<Digest>,
}

impl Progress {
    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    kind: Kind,
    tables: BTreeMap<String, Progress>,
}

impl ArtifactWriter {
    /// Puts the finished parts of 2^16 rows of all tables into the empty folder `checkpoint`, without copying where hard links work.
    /// [`resume`](Self::resume) goes on from there, in this process or another. The caller makes the folder durable.
    ///
    /// # Errors
    /// If a table has been closed already or files cannot be linked or written.
    pub fn checkpoint(&self, checkpoint: &Path) -> Result<()> {
        let mut tables = BTreeMap::new();
        for (name, slot) in &*self.shared.tables() {
            let (Slot::Open(progress) | Slot::Resumed(progress)) = slot else {
                return Err(Error::Invalid(format!("table `{name}` is closed, so there is nothing to resume")));
            };
            tables.insert(name.clone(), progress.clone());
        }
        for part in tables.values().flat_map(|progress| &progress.parts) {
            link(&self.shared.dir, checkpoint, part)?;
        }
        let path = checkpoint.join(PROGRESS);
        let json = serde_json::to_vec(&Checkpoint { kind: self.shared.kind, tables }).map_err(Error::json(PROGRESS))?;
        std::fs::write(&path, json).map_err(Error::io(&path))
    }

    /// Starts an artifact in an existing, empty folder with the parts of a checkpoint. A table opened under a name that
    /// the checkpoint knows begins with its rows: [`VectorWriter::rows`](super::VectorWriter::rows) and
    /// [`TableWriter::rows`](super::TableWriter::rows) say how many, and the caller writes those after them.
    ///
    /// # Errors
    /// If the checkpoint is of another kind or damaged, or files cannot be linked.
    pub fn resume(dir: &Path, kind: Kind, checkpoint: &Path) -> Result<Self> {
        let writer = Self::create(dir, kind)?;
        let path = checkpoint.join(PROGRESS);
        let json = std::fs::read(&path).map_err(Error::io(&path))?;
        let found: Checkpoint = serde_json::from_slice(&json).map_err(Error::json(path.display().to_string()))?;
        if found.kind != kind {
            return Err(Error::WrongKind { expected: kind, found: found.kind });
        }
        for (name, progress) in found.tables {
            let whole = progress.parts.iter().all(|part| part.rows == PART_ROWS && !part.file.contains('/'));
            if !whole || progress.parts.len() != progress.chunks.len() {
                return Err(Error::damaged(&path, format!("table `{name}` is not one of whole parts")));
            }
            for part in &progress.parts {
                verify(checkpoint, &part.file, part.bytes, part.blake3)?;
                link(checkpoint, dir, part)?;
            }
            writer.shared.tables().insert(name, Slot::Resumed(progress));
        }
        Ok(writer)
    }
}

fn link(from: &Path, to: &Path, part: &PartEntry) -> Result<()> {
    let (from, to) = (from.join(&part.file), to.join(&part.file));
    match std::fs::hard_link(&from, &to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::io(&to)(error)),
        // File systems without links, and folders on two file systems.
        Err(_) => std::fs::copy(&from, &to).map(drop).map_err(Error::io(&from)),
    }
}

/// Checks a file's size and digest.
pub(crate) fn verify(dir: &Path, name: &str, expected: u64, digest: Digest) -> Result<()> {
    let path = dir.join(name);
    let mut file = File::open(&path).map_err(Error::io(&path))?;
    let bytes = file.metadata().map_err(Error::io(&path))?.len();
    if bytes != expected {
        return Err(Error::damaged(&path, format!("{bytes} bytes, expected {expected}")));
    }
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hasher).map_err(Error::io(&path))?;
    if Digest::from(hasher.finalize()) != digest {
        return Err(Error::damaged(&path, "its content is not what was written"));
    }
    Ok(())
}
