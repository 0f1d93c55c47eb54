use std::path::{Path, PathBuf};

/// What can go wrong with dictionaries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is wrong or does not belong to the architecture.
    #[error("{}: {}", .0.path, .0.message)]
    Config(crate::ConfigProblem),
    /// Data do not fit together: widths, rows, hooks.
    #[error("{0}")]
    Data(String),
    /// The training left the finite numbers.
    #[error("{what} is {value} at step {step}: the training diverged; lower `lr`, or look for non-finite activations")]
    NotFinite {
        /// The step, counted from 0.
        step: u64,
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// The one who waits for the data no longer wants it.
    #[error("the training was stopped")]
    Stopped,
    /// A file of another tool is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An artifact could not be read or written.
    #[error(transparent)]
    Artifact(#[from] mediant_artifact::Error),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Tensor(#[from] mediant_tensor::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
