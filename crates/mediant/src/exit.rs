//! How the program ends: 0 done, 1 a stage failed, 2 the input is wrong, 130 interrupted.

use std::process::ExitCode;

use mediant_engine::Error as EngineError;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pipeline, the options or a file that the user gave is wrong. The text is complete.
    Input(String),
    /// A stage failed, or what was asked for did not hold; already shown.
    Stage,
    /// Ctrl-C.
    Interrupted,
    /// Something else: a store that cannot be read, a full disk.
    Other(String),
}

pub(crate) type CommandResult = Result<(), Failure>;

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Input(text) => Self::Input(text),
            other => Self::Other(other.to_string()),
        }
    }
}

macro_rules! other {
    ($($type:ty),*) => {$(
        impl From<$type> for Failure {
            fn from(error: $type) -> Self {
                Self::Other(error.to_string())
            }
        }
    )*};
}
other!(
    mediant_store::Error,
    mediant_artifact::Error,
    mediant_lm::Error,
    mediant_dict::Error,
    mediant_report::Error,
    std::io::Error,
    serde_json::Error
);

impl Failure {
    /// A wrong option or file, in one sentence without a full stop.
    pub(crate) fn input(message: impl std::fmt::Display) -> Self {
        Self::Input(format!("error: {message}\n"))
    }
}

pub(crate) fn finish(result: CommandResult) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(text)) => {
            anstream::eprint!("{text}");
            ExitCode::from(2)
        }
        Err(Failure::Stage) => ExitCode::from(1),
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(Failure::Other(text)) => {
            anstream::eprintln!("error: {text}");
            ExitCode::from(1)
        }
    }
}
