//! What gc keeps: the last runs of each pipeline, pins, and the lock files of pipelines that this store has served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{encode, read_checked};
use crate::store::Folder;
use crate::{Error, Id, Result, RunInfo, Store, files};

/// A lock file that is not at its place is believed to come back (another branch is checked out) for this long.
const LOCK_FILE_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A result that gc keeps until it is unpinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The recipe key.
    pub action: Id,
    /// What the user called it.
    pub label: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenLockFile {
    path: String,
    actions: Vec<Id>,
}

/// The recipe keys whose results stay, and what speaks for none any more.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    pub(crate) actions: BTreeSet<Id>,
    pub(crate) old_runs: Vec<RunInfo>,
    /// Records of lock files that are gone, with the places where the files were.
    pub(crate) lost_lock_files: Vec<(PathBuf, String)>,
}

impl Store {
    /// Makes gc keep the result of a recipe key.
    pub fn pin(&self, action: Id, label: &str) -> Result<()> {
        let path = self.pin_path(action);
        self.write_durable(&path, &encode(action, &label)?, Vec::new(), true).map(|_| ())
    }

    /// Lets gc take the result of a recipe key again; says whether it was pinned.
    pub fn unpin(&self, action: Id) -> Result<bool> {
        let path = self.pin_path(action);
        let pinned = path.exists();
        files::remove_tree(&path).map_err(Error::write("remove", &path))?;
        Ok(pinned)
    }

    /// All pins, by key.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let mut pins = Vec::new();
        for (action, path) in self.keyed(Folder::Pins)? {
            pins.push(Pin { action, label: legible(read_checked(&path, action))? });
        }
        Ok(pins)
    }

    /// Remembers a pipeline's lock file and the recipe keys in it: gc keeps their results while the file exists.
    pub fn saw_lock_file(&self, path: &Path, actions: &[Id]) -> Result<()> {
        let path = std::path::absolute(path).map_err(Error::io("find", path))?;
        let key = Id::of(path.as_os_str().as_bytes());
        let seen = SeenLockFile { path: path.to_string_lossy().into_owned(), actions: actions.to_vec() };
        let place = self.folder(Folder::LockFiles).join(format!("{key}.json"));
        self.write_durable(&place, &encode(key, &seen)?, Vec::new(), true).map(|_| ())
    }

    pub(crate) fn roots(&self, keep_runs: usize) -> Result<Roots> {
        let mut roots = Roots::default();
        let mut of_pipeline: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for run in self.runs()? {
            let newer = of_pipeline.entry(run.pipeline.clone()).or_default();
            *newer += 1;
            if *newer <= keep_runs {
                roots.actions.extend(legible(run.actions())?);
            } else {
                roots.old_runs.push(run);
            }
        }
        roots.actions.extend(self.pins()?.into_iter().map(|pin| pin.action));
        for (key, place) in self.keyed(Folder::LockFiles)? {
            let seen: SeenLockFile = legible(read_checked(&place, key))?;
            if Path::new(&seen.path).exists() || files::is_young(&place, LOCK_FILE_KEPT) {
                roots.actions.extend(seen.actions);
            } else {
                roots.lost_lock_files.push((place, seen.path));
            }
        }
        Ok(roots)
    }

    fn pin_path(&self, action: Id) -> PathBuf {
        self.folder(Folder::Pins).join(format!("{action}.json"))
    }

    /// The files `<id>.json` of a folder, sorted.
    fn keyed(&self, folder: Folder) -> Result<Vec<(Id, PathBuf)>> {
        let dir = self.folder(folder);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| Id::parse(name.strip_suffix(".json")?));
            found.extend(id.map(|id| (id, entry.path())));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// What cannot be read might have spoken for any result: gc stops.
fn legible<T>(read: Result<T>) -> Result<T> {
    read.map_err(|error| match error {
        Error::Damaged { path, why } => Error::Damaged {
            path,
            why: format!("{why}; it says which results to keep: remove it if they are not needed"),
        },
        other => other,
    })
}
