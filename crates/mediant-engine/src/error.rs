//! Errors of running stages and of the engine itself.

use std::path::PathBuf;

/// Why a stage failed while it ran. Anything with a `Display` chain becomes one.
pub struct StageError {
    message: String,
    cancelled: bool,
}

impl StageError {
    /// A failure described by a sentence without a full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cancelled: false }
    }

    /// The stage stopped because the run was cancelled.
    pub fn cancelled() -> Self {
        Self { message: "stopped before it was done".into(), cancelled: true }
    }

    /// Says what was being done.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Whether this is the answer to a cancellation.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

impl std::fmt::Display for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::fmt::Debug for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

// `StageError` itself does not implement `Error`, which is what makes this blanket conversion possible (as in anyhow).
impl<E: std::error::Error> From<E> for StageError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            // Many errors already print their cause.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self { message, cancelled: false }
    }
}

/// What can go wrong in the engine outside a stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline, its options or its inputs are wrong; the text is rendered for the terminal. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] mediant_store::Error),
    /// An artifact.
    #[error(transparent)]
    Artifact(#[from] mediant_artifact::Error),
    /// A file of the engine's own.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A worker process could not be started or spoken to.
    #[error("worker: {0}")]
    Worker(String),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
