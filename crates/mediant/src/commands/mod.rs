//! One file a subcommand.

pub(crate) mod completions;
pub(crate) mod dag;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod plan;
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod stages;
pub(crate) mod status;
pub(crate) mod worker;

use crate::cli::{Cli, Command};
use crate::exit::CommandResult;

pub(crate) fn dispatch(cli: Cli) -> CommandResult {
    match cli.command {
        Command::Init(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::Query(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Dag(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Stages(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Worker(command) => command.run(),
    }
}
