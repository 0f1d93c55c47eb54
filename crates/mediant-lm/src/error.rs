//! The one error type of the crate.

use std::path::{Path, PathBuf};

/// What can go wrong when a language model is read, run or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of `config.json` that is missing, of the wrong type, or asks for something that is not built.
    #[error("config.json: `{field}` {why}")]
    Config {
        /// The field, `rope_parameters.rope_type`.
        field: String,
        /// What is wrong with it, a clause that follows the field's name.
        why: String,
    },
    /// A step of weight processing that does not leave the model what it is.
    #[error("`{step}` {why}")]
    Processing {
        /// The step, `fold_ln`.
        step: &'static str,
        /// Why it cannot be, a clause that follows the step's name.
        why: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file that cannot be parsed.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the JSON library said.
        source: serde_json::Error,
    },
    /// A safetensors file whose header lies or whose content is cut off.
    #[error("{}: {why}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Weights that do not fit the config.
    #[error("{0}")]
    Weights(String),
    /// Token sequences that the model cannot take.
    #[error("{0}")]
    Tokens(String),
    /// Activations asked for, or changed, in a way that the model cannot follow.
    #[error("{0}")]
    Hook(String),
    /// A tokenizer that is none, or that cannot take a text.
    #[error("{0}")]
    Tokenizer(String),
    /// A file of documents or of task items that cannot be understood.
    #[error("{}{}: {why}", path.display(), line.map_or(String::new(), |line| format!(":{line}")))]
    Source {
        /// The file.
        path: PathBuf,
        /// The line or row, counted from 1.
        line: Option<u64>,
        /// What is wrong.
        why: String,
    },
    /// A training whose numbers are no longer finite.
    #[error(
        "the {what} is {value} at step {step}: the training has diverged; a lower learning rate or a longer warm-up may help"
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// What is not finite.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// From the artifact crate.
    #[error(transparent)]
    Artifact(#[from] mediant_artifact::Error),
    /// From the tensor crate.
    #[error(transparent)]
    Tensor(#[from] mediant_tensor::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn config(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Config { field: field.into(), why: why.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }

    pub(crate) fn source(path: &Path, line: Option<u64>, why: impl Into<String>) -> Self {
        Self::Source { path: path.to_owned(), line, why: why.into() }
    }

    pub(crate) fn safetensors(path: &Path, why: impl Into<String>) -> Self {
        Self::Safetensors { path: path.to_owned(), why: why.into() }
    }
}
