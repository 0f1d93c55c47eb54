//! The store's folders: opening, versions, and where things are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Access;
use ulid::Ulid;

use crate::scratch::Scratch;
use crate::{Error, Id, Result, files};

/// The file by which backup programs know a cache (<https://bford.info/cachedir/>).
pub(crate) const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This folder is a cache of Mediant. It can be computed again.\n\
# For information about cache directory tags see https://bford.info/cachedir/\n";

/// The folders of a store. Each has a version of its own, in a file VERSION, raised when its layout changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// `ab/cdef…/`: manifest and tables; immutable, read-only.
    Objects,
    /// `ab/cdef….json`: recipe key → what its stage made.
    Actions,
    /// `ab/cdef….json`: content key → what its stage made.
    Contents,
    /// `<content key>-<device>/<number>/`: the state of long stages that were interrupted.
    Checkpoints,
    /// `<ulid>/`: one run.
    Runs,
    /// `<recipe key>.json`: results that gc keeps.
    Pins,
    /// `<hash of its path>.json`: lock files of pipelines, whose results gc keeps.
    LockFiles,
    /// The stat index.
    Index,
    /// What was found damaged.
    Quarantine,
    /// One file an action that runs.
    Locks,
    /// One folder a process that writes.
    Tmp,
}

impl Folder {
    const ALL: [Self; 11] = [
        Self::Objects,
        Self::Actions,
        Self::Contents,
        Self::Checkpoints,
        Self::Runs,
        Self::Pins,
        Self::LockFiles,
        Self::Index,
        Self::Quarantine,
        Self::Locks,
        Self::Tmp,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Actions => "actions",
            Self::Contents => "contents",
            Self::Checkpoints => "checkpoints",
            Self::Runs => "runs",
            Self::Pins => "pins",
            Self::LockFiles => "lockfiles",
            Self::Index => "index",
            Self::Quarantine => "quarantine",
            Self::Locks => "locks",
            Self::Tmp => "tmp",
        }
    }

    const fn version(self) -> u32 {
        1
    }
}

/// A content-addressed store on disk. Cheap to clone; safe to use from many threads and processes at once.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    read_only: bool,
    scratch: Mutex<Option<Arc<Scratch>>>,
    unsynced: Mutex<BTreeMap<Id, Vec<PathBuf>>>,
}

impl Store {
    /// Opens the store in `root`, creating it if need be, and removes what dead processes left in it.
    ///
    /// A store that cannot be written opens for reading.
    ///
    /// # Errors
    /// [`Error::NewerStore`] if a newer Mediant wrote it, [`Error::NotAFolder`], or what the system says.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::io("find", root))?;
        match fs::create_dir_all(&root) {
            Err(_) if root.is_file() => return Err(Error::NotAFolder { path: root }),
            created => created.map_err(Error::write("create", &root))?,
        }
        let read_only = rustix::fs::access(&root, Access::WRITE_OK).is_err();
        for folder in Folder::ALL {
            prepare(&root.join(folder.name()), folder.version(), read_only)?;
        }
        if !read_only {
            put_if_absent(&root.join(TAG), TAG_TEXT)?;
            // Results are large and can be computed again: nobody wants them in a repository.
            put_if_absent(&root.join(".gitignore"), "*\n")?;
        }
        let store =
            Self { inner: Arc::new(Inner { root, read_only, scratch: Mutex::default(), unsynced: Mutex::default() }) };
        if !read_only {
            store.remove_leftovers();
        }
        Ok(store)
    }

    /// The store's own folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Whether the store can only be read.
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    pub(crate) fn folder(&self, folder: Folder) -> PathBuf {
        self.root().join(folder.name())
    }

    /// `ab/cdef…` of a folder, with a suffix.
    pub(crate) fn sharded(&self, folder: Folder, id: Id, suffix: &str) -> PathBuf {
        let mut path = String::with_capacity(80);
        let hex = id.to_string();
        for part in [folder.name(), "/", &hex[..2], "/", &hex[2..], suffix] {
            path.push_str(part);
        }
        self.root().join(path)
    }

    /// This process's folder under tmp/, made when first needed.
    pub(crate) fn scratch(&self) -> Result<Arc<Scratch>> {
        let mut scratch = lock(&self.inner.scratch);
        if let Some(scratch) = &*scratch {
            return Ok(Arc::clone(scratch));
        }
        let fresh = Arc::new(Scratch::create(&self.folder(Folder::Tmp))?);
        Ok(Arc::clone(scratch.insert(fresh)))
    }

    /// Folders whose entries must be durable before a record may name the object, by object.
    pub(crate) fn unsynced(&self) -> MutexGuard<'_, BTreeMap<Id, Vec<PathBuf>>> {
        lock(&self.inner.unsynced)
    }

    /// Nothing here is needed for a result to be right, so failing to clean is no failure.
    fn remove_leftovers(&self) {
        if let Err(error) = self.remove_stale_locks().and_then(|_| Scratch::remove_dead(&self.folder(Folder::Tmp))) {
            tracing::debug!(%error, "could not remove what a dead process left in the store");
        }
    }

    /// Makes the folder of `path` unless it exists; says which folders must be synced for `path` to stay.
    pub(crate) fn make_parent(path: &Path) -> Result<Vec<PathBuf>> {
        let parent = path.parent().map(Path::to_owned).unwrap_or_default();
        match fs::create_dir(&parent) {
            Ok(()) => {
                let above = parent.parent().map(Path::to_owned).unwrap_or_default();
                Ok(vec![parent, above])
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(vec![parent]),
            Err(error) => Err(Error::write("create", &parent)(error)),
        }
    }
}

/// A panic elsewhere leaves these maps whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates one versioned folder or checks the version of an old one.
fn prepare(dir: &Path, known: u32, read_only: bool) -> Result<()> {
    let file = dir.join("VERSION");
    let mut text = String::new();
    match File::open(&file).and_then(|file| file.take(20).read_to_string(&mut text)) {
        Ok(_) => match text.trim().parse::<u32>() {
            Ok(version) if version <= known => Ok(()),
            _ => Err(Error::NewerStore { folder: dir.to_owned(), found: text.trim().to_owned(), known }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && read_only => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(Error::write("create", dir))?;
            put_if_absent(&file, &format!("{known}\n"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Error::NotAFolder { path: dir.to_owned() }),
        Err(error) => Err(Error::io("read", &file)(error)),
    }
}

/// Two processes may create a store at once: the file appears whole or not at all.
fn put_if_absent(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let draft = path.with_extension(Ulid::new().to_string());
    let written = File::create_new(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| files::rename_new(&draft, path));
    if !matches!(written, Ok(true)) {
        let _ = fs::remove_file(&draft);
    }
    written.map(|_| ()).map_err(Error::write("write", path))
}
