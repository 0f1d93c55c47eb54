/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Model, dictionary and data do not fit together.
    #[error("{0}")]
    Data(String),
    /// The model.
    #[error(transparent)]
    Lm(#[from] mediant_lm::Error),
    /// From the artifact crate.
    #[error(transparent)]
    Artifact(#[from] mediant_artifact::Error),
    /// The dictionary.
    #[error(transparent)]
    Dict(#[from] mediant_dict::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
