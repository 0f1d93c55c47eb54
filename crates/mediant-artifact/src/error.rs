//! The one error type of the crate.

use std::path::{Path, PathBuf};

/// What can go wrong when an artifact is written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest: expected 64 lower-case hexadecimal digits")]
    Digest(String),
    /// Not a kind of artifact.
    #[error("`{0}` is not a kind of artifact")]
    Kind(String),
    /// Not a number format.
    #[error("`{0}` is not a number format: expected float32, float16 or bfloat16")]
    DType(String),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The Parquet library refused a file or a batch.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: parquet::errors::ParquetError,
    },
    /// The Arrow library refused an operation on columns.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// JSON that does not hold what was asked for.
    #[error("{what}: {source}")]
    Json {
        /// What was being read or written.
        what: String,
        /// What the JSON library said.
        source: serde_json::Error,
    },
    /// A file of an artifact does not hold what its manifest or its kind promises.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The artifact has no table of this name.
    #[error("no table `{name}` in this {kind} artifact; it has {}", list(have))]
    NoTable {
        /// The name asked for.
        name: String,
        /// The artifact's kind.
        kind: crate::Kind,
        /// The names there are.
        have: Vec<String>,
    },
    /// An artifact of another kind was expected.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// The kind asked for.
        expected: crate::Kind,
        /// The kind found.
        found: crate::Kind,
    },
    /// The caller asked to write something that no artifact can hold.
    #[error("{0}")]
    Invalid(String),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn parquet(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Parquet { path, source }
    }

    pub(crate) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
