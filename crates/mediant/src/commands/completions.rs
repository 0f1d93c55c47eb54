//! `mediant completions`: completion for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::CommandResult;

/// Prints a completion script for a shell.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant completions bash > ~/.local/share/bash-completion/completions/mediant")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> CommandResult {
        clap_complete::generate(self.shell, &mut Cli::command(), "mediant", &mut std::io::stdout());
        Ok(())
    }
}
