//! The folders of runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::record::{encode, read_checked};
use crate::store::Folder;
use crate::{Error, Id, Result, Store};

const HEADER: &str = "run.json";
const ROOTS: &str = "roots.json";

/// A run that is being made. Its folder is the engine's to fill.
#[derive(Clone, Debug)]
pub struct Run {
    store: Store,
    id: String,
    path: PathBuf,
}

/// A run that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its ULID, which begins with the time.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// The pipeline, as [`Store::create_run`] was told; `None` if that is not legible.
    pub pipeline: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    pipeline: String,
}

impl Store {
    /// Makes the folder of a new run. `pipeline` tells pipelines apart, since gc keeps the last runs of each.
    pub fn create_run(&self, pipeline: &str) -> Result<Run> {
        let id = Ulid::new().to_string();
        let path = self.folder(Folder::Runs).join(&id);
        fs::create_dir(&path).map_err(Error::write("create", &path))?;
        let header = Header { pipeline: pipeline.to_owned() };
        self.write_quick(&path.join(HEADER), &encode(key(&id), &header)?, true)?;
        Ok(Run { store: self.clone(), id, path })
    }

    /// All runs, newest first.
    pub fn runs(&self) -> Result<Vec<RunInfo>> {
        let dir = self.folder(Folder::Runs);
        let mut runs = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))?.flatten() {
            let Ok(id) = entry.file_name().into_string() else {
                continue;
            };
            if Ulid::from_string(&id).is_err() || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let header = read_checked::<Header>(&entry.path().join(HEADER), key(&id));
            runs.push(RunInfo { id, path: entry.path(), pipeline: header.ok().map(|header| header.pipeline) });
        }
        runs.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        Ok(runs)
    }
}

impl Run {
    /// The run's ULID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says which recipe keys the run is about: as long as it is one of its pipeline's last runs, gc keeps their results.
    pub fn keep(&self, actions: &[Id]) -> Result<()> {
        let bytes = encode(key(&self.id), &actions)?;
        self.store.write_durable(&self.path.join(ROOTS), &bytes, Vec::new(), true).map(|_| ())
    }
}

impl RunInfo {
    /// The recipe keys that the run is about. A list that is there but cannot be read is an error: gc must not guess.
    pub fn actions(&self) -> Result<Vec<Id>> {
        match read_checked(&self.path.join(ROOTS), key(&self.id)) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }
}

fn key(id: &str) -> Id {
    Id::of(id.as_bytes())
}
