//! Where things are made before they are finished: one folder a process under tmp/, with a lock inside that lives as
//! long as the process. What the dead leave behind is known by a lock that nobody holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ulid::Ulid;

use crate::lock::LockFile;
use crate::{Error, Result, Store, files};

const LOCK: &str = "lock";

/// A fresh folder for a stage to write into, on the same file system as the store; removed on drop.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Keeps the process's folder while any staging folder is in use.
    _scratch: Arc<Scratch>,
}

impl Staging {
    /// The folder, empty at first. Each output goes into a subfolder of its own.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "could not remove a staging folder");
        }
    }
}

impl Store {
    /// A fresh folder under tmp/; `label` makes it recognisable to people.
    pub fn stage_dir(&self, label: &str) -> Result<Staging> {
        let scratch = self.scratch()?;
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' }
        };
        let label: String = label.chars().map(plain).take(80).collect();
        let path = scratch.fresh(&label);
        fs::create_dir(&path).map_err(Error::write("create", &path))?;
        Ok(Staging { path, _scratch: scratch })
    }
}

/// A process's own folder under tmp/.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    next: AtomicU64,
    /// Dropped after the folder is gone.
    _lock: LockFile,
}

impl Scratch {
    pub(crate) fn create(tmp: &Path) -> Result<Self> {
        loop {
            let dir = tmp.join(format!("{}-{}", std::process::id(), Ulid::new()));
            fs::create_dir(&dir).map_err(Error::write("create", &dir))?;
            match LockFile::acquire(&dir.join(LOCK), || ()) {
                Ok(lock) => {
                    return Ok(Self { dir, next: AtomicU64::new(0), _lock: lock });
                }
                // Another process took the folder for abandoned before the lock was in it.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A path that nothing else uses.
    pub(crate) fn fresh(&self, label: &str) -> PathBuf {
        self.dir.join(format!("{}-{label}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Removes the folders of processes that are gone; says how many.
    pub(crate) fn remove_dead(tmp: &Path) -> Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(tmp).map_err(Error::io("list", tmp))?.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            removed += usize::from(remove_if_dead(&entry.path()));
        }
        Ok(removed)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.dir) {
            tracing::debug!(%error, path = %self.dir.display(), "could not remove a temporary folder");
        }
    }
}

fn remove_if_dead(dir: &Path) -> bool {
    // Looked at twice: a folder that has no lock may just be getting one.
    for _ in 0..2 {
        match LockFile::try_existing(&dir.join(LOCK)) {
            Ok(Some(_dead)) => return files::remove_tree(dir).is_ok(),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Ok(None) | Err(_) => return false,
        }
        // Empty: if its maker still lives, it will make another.
        if fs::remove_dir(dir).is_ok() {
            return true;
        }
    }
    // A removal that was cut short.
    files::remove_tree(dir).is_ok()
}
