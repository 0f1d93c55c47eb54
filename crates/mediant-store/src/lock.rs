//! Advisory locks on files. They save work (no action runs twice at once) and keep gc away from runs; that results are
//! right rests on rename alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::store::Folder;
use crate::{Error, Id, Result, Store};

/// The right to run one action, given back on drop.
#[derive(Debug)]
pub struct ActionLock {
    _file: LockFile,
}

/// Held by runs and their workers, so that gc waits for them.
#[derive(Debug)]
pub struct SharedLock {
    _file: Option<File>,
}

/// Held by gc: no run is using the store.
#[derive(Debug)]
pub struct ExclusiveLock {
    file: Option<File>,
}

impl ExclusiveLock {
    /// False where the file system has no locks: then nothing keeps a run away.
    pub(crate) fn is_real(&self) -> bool {
        self.file.is_some()
    }
}

impl Store {
    /// Waits until no other process runs the action `key`; `waiting` is called once if there is somebody to wait for.
    ///
    /// The lock ends with the returned value or with the process, however that ends.
    pub fn lock_action(&self, key: Id, waiting: impl FnOnce()) -> Result<ActionLock> {
        LockFile::acquire(&self.lock_path(key), waiting).map(|file| ActionLock { _file: file })
    }

    /// As [`Store::lock_action`], but `None` where that would wait.
    pub fn try_lock_action(&self, key: Id) -> Result<Option<ActionLock>> {
        Ok(LockFile::try_acquire(&self.lock_path(key))?.map(|file| ActionLock { _file: file }))
    }

    /// Keeps gc away. Every run takes it, and every worker too, since a worker may outlive its run.
    pub fn shared_lock(&self, waiting: impl FnOnce()) -> Result<SharedLock> {
        let path = self.store_lock_path();
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let held = wait(&file, waiting, File::try_lock_shared, File::lock_shared);
        Ok(SharedLock { _file: held.map_err(Error::io("lock", &path))?.then_some(file) })
    }

    /// Waits until no run uses the store.
    pub fn exclusive_lock(&self, waiting: impl FnOnce()) -> Result<ExclusiveLock> {
        let (file, path) = self.open_store_lock()?;
        let held = wait(&file, waiting, File::try_lock, File::lock);
        Ok(ExclusiveLock { file: held.map_err(Error::io("lock", &path))?.then_some(file) })
    }

    /// As [`Store::exclusive_lock`], but `None` while a run uses the store.
    pub fn try_exclusive_lock(&self) -> Result<Option<ExclusiveLock>> {
        let (file, path) = self.open_store_lock()?;
        Ok(match attempt(&file, File::try_lock).map_err(Error::io("lock", &path))? {
            Attempt::Held => Some(ExclusiveLock { file: Some(file) }),
            Attempt::Unsupported => Some(ExclusiveLock { file: None }),
            Attempt::Busy => None,
        })
    }

    /// Removes the lock files of processes that were killed.
    pub(crate) fn remove_stale_locks(&self) -> Result<usize> {
        let dir = self.folder(Folder::Locks);
        let mut removed = 0;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "lock") {
                // Taking a lock and giving it back removes its file.
                removed += usize::from(matches!(LockFile::try_existing(&entry.path()), Ok(Some(_))));
            }
        }
        Ok(removed)
    }

    fn lock_path(&self, key: Id) -> PathBuf {
        self.folder(Folder::Locks).join(format!("{key}.lock"))
    }

    /// The lock of the whole store is on a file that always exists and that nobody removes.
    fn store_lock_path(&self) -> PathBuf {
        self.root().join(crate::store::TAG)
    }

    fn open_store_lock(&self) -> Result<(File, PathBuf)> {
        let path = self.store_lock_path();
        // Over NFS an exclusive lock needs a writable descriptor.
        let file = File::options().read(true).write(true).open(&path).map_err(Error::write("open", &path))?;
        Ok((file, path))
    }
}

/// A lock file that exists while somebody holds or wants it.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// `None` where the file system has no locks; the lock file then only tells people who is at work.
    _file: Option<File>,
}

impl LockFile {
    pub(crate) fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let mut waiting = Some(waiting);
        loop {
            let file = open(path, true)?;
            let announce = || waiting.take().into_iter().for_each(|waiting| waiting());
            let held = wait(&file, announce, File::try_lock, File::lock).map_err(Error::io("lock", path))?;
            if let Some(lock) = Self::settle(path, file, held)? {
                return Ok(lock);
            }
        }
    }

    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = open(path, true)?;
            let held = match attempt(&file, File::try_lock).map_err(Error::io("lock", path))? {
                Attempt::Busy => return Ok(None),
                Attempt::Held => true,
                Attempt::Unsupported => false,
            };
            if let Some(lock) = Self::settle(path, file, held)? {
                return Ok(Some(lock));
            }
        }
    }

    /// Takes over a lock file that a dead process left; `None` if it is held, gone or cannot be known.
    pub(crate) fn try_existing(path: &Path) -> Result<Option<Self>> {
        let file = open(path, false)?;
        match attempt(&file, File::try_lock).map_err(Error::io("lock", path))? {
            Attempt::Held => Self::settle(path, file, true),
            Attempt::Busy | Attempt::Unsupported => Ok(None),
        }
    }

    /// The holder before us removed the file on release, perhaps after we opened it: then ours is a lock on nothing.
    fn settle(path: &Path, file: File, held: bool) -> Result<Option<Self>> {
        if !held {
            return Ok(Some(Self { path: path.to_owned(), _file: None }));
        }
        let ours = file.metadata().map_err(Error::io("lock", path))?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                Ok(Some(Self { path: path.to_owned(), _file: Some(file) }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("lock", path)(error)),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody else can hold a lock on the file that goes.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path, create: bool) -> Result<File> {
    let flags =
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | if create { OFlags::CREATE } else { OFlags::empty() };
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
    file.map(File::from).map_err(|errno| Error::write("open", path)(errno.into()))
}

enum Attempt {
    Held,
    Busy,
    Unsupported,
}

fn attempt(file: &File, lock: fn(&File) -> Result<(), TryLockError>) -> io::Result<Attempt> {
    loop {
        match lock(file) {
            Ok(()) => return Ok(Attempt::Held),
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                warn_unsupported();
                return Ok(Attempt::Unsupported);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Locks, waiting if need be; false where there are no locks.
fn wait(
    file: &File,
    waiting: impl FnOnce(),
    try_lock: fn(&File) -> Result<(), TryLockError>,
    lock: fn(&File) -> io::Result<()>,
) -> io::Result<bool> {
    match attempt(file, try_lock)? {
        Attempt::Held => return Ok(true),
        Attempt::Unsupported => return Ok(false),
        Attempt::Busy => waiting(),
    }
    loop {
        match lock(file) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK))
}

fn warn_unsupported() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "the file system of the store has no file locks: two runs at once may do the same work twice (results stay right)"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_locks_are_told_from_failures() {
        for errno in [Errno::NOTSUP, Errno::NOSYS, Errno::NOLCK] {
            assert!(is_unsupported(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::WOULDBLOCK] {
            assert!(!is_unsupported(&errno.into()), "{errno:?}");
        }
    }
}
