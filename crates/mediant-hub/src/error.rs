use std::path::{Path, PathBuf};

/// What can go wrong with files of the hub.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the user wrote names no file of the hub.
    #[error("{why}")]
    Address {
        /// What is wrong with it.
        why: String,
        /// What to write instead.
        help: String,
    },
    /// The hub does not have it, or does not give it.
    #[error("{why}")]
    Refused {
        /// What it said.
        why: String,
        /// What would help.
        help: String,
    },
    /// The hub could not be reached, or stopped answering.
    #[error("{url} cannot be fetched: {why}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// What was fetched is not what the hub says it is.
    #[error("{url}: {why}; what was fetched is thrown away")]
    Damaged {
        /// The address.
        url: String,
        /// How it differs.
        why: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// What would help, where that is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Address { help, .. } | Self::Refused { help, .. } => Some(help),
            Self::Network { .. } => {
                Some("with HF_HUB_OFFLINE=1 nothing is asked of the hub, and what is in the cache is used")
            }
            Self::Damaged { .. } => Some("run it again"),
            Self::Io { .. } => None,
        }
    }
}
