//! What can go wrong, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted: "read", "write", ...
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk or the quota is full. Nothing finished is lost: a result counts only once its record is written.
    #[error(
        "no space left on the disk while writing {}: nothing finished was lost; free some space (`mediant gc --dry-run` shows what the store can give back) and run again",
        path.display()
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The store cannot be written.
    #[error(
        "the store is read-only: cannot write {}; make it writable, or choose another with --store DIR or the variable MEDIANT_STORE",
        path.display()
    )]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// The store was written by a newer Mediant.
    #[error(
        "{} has version {found}, this Mediant knows version {known}: use the newer Mediant, or another store with --store DIR",
        folder.display()
    )]
    NewerStore {
        /// The versioned folder.
        folder: PathBuf,
        /// What its VERSION file says.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// Something in the store is not what it must be, and what to do about it is not the store's to decide.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file kept changing while it was read.
    #[error("{} changes while it is being read", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// Something else stands where a plain file is needed.
    #[error("{} is not a plain file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Something else stands where a folder is needed.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link leads back to a folder that contains it.
    #[error("{} is a symbolic link to a folder around it", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// A name that would lead outside its folder, or that cannot be stored.
    #[error("`{name}` cannot be used as a file name inside {}: {why}", folder.display())]
    BadName {
        /// The name.
        name: String,
        /// The folder that it was meant for.
        folder: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file pattern that cannot be read.
    #[error("bad file pattern `{pattern}`: {why}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// Text that is not a digest.
    #[error("`{0}` is not a digest: expected 64 lower-case hex digits")]
    BadId(String),
    /// A value that cannot be written as JSON.
    #[error("cannot write as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// For reading: the path and the system's own words.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// For writing inside the store: a full disk and a store that cannot be written get words of their own.
    pub(crate) fn write(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.to_owned() },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path: path.to_owned() }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}
