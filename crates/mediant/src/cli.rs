//! Options that several commands share, and the list of commands.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mediant_engine::{Plan, PlanOptions};

use crate::commands;
use crate::exit::Failure;

/// Declarative experiment pipelines for mechanistic interpretability.
///
/// A pipeline is a YAML file of stages; `mediant run` does what of it is not done yet.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Example:\n  mediant run pipelines/quickstart.yaml\n  mediant show pipelines/quickstart.yaml compare"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a project: a mediant.toml and a first pipeline
    Init(commands::init::Init),
    /// Run what of a pipeline is not done yet
    Run(commands::run::Run),
    /// Show what would run, and why
    Plan(commands::plan::PlanCommand),
    /// Show what of a pipeline is done
    Status(commands::status::Status),
    /// Say why a stage runs again: which field changed, and what changed it
    Explain(commands::explain::Explain),
    /// Show what a result is: description, first rows, statistics
    Show(commands::show::Show),
    /// Run SQL over results
    Query(commands::query::QueryCommand),
    /// Compare two runs or lock files
    Diff(commands::diff::DiffCommand),
    /// Write a report: one HTML file with tables and pictures of all results
    Report(commands::report::ReportCommand),
    /// Draw the pipeline
    Dag(commands::dag::Dag),
    /// Write a result as files for other programs
    Export(commands::export::Export),
    /// List the stages, or describe one
    Stages(commands::stages::Stages),
    /// Print the JSON schema of pipeline files
    Schema(commands::schema::Schema),
    /// Print a completion script for a shell
    Completions(commands::completions::Completions),
    /// Free space: remove results that no recent run, pin or lock file needs
    Gc(commands::gc::Gc),
    /// Take actions from a run (started by `mediant run`)
    #[command(hide = true)]
    Worker(commands::worker::Worker),
}

/// The pipeline, and how it is read.
#[derive(Args, Debug, Clone)]
pub(crate) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Change a value: params.layer=3 or stages.sae.with.d_sae=64 (the value is YAML)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// The store's folder [default: .mediant beside the nearest mediant.toml, else beside the pipeline]
    #[arg(long, value_name = "DIR", env = "MEDIANT_STORE")]
    pub(crate) store: Option<PathBuf>,
}

impl PipelineArgs {
    /// Reads and plans the pipeline; `targets` restricts what is wanted.
    pub(crate) fn plan(&self, targets: &[String]) -> Result<Plan, Failure> {
        let options = PlanOptions {
            overrides: self.overrides.clone(),
            targets: targets.to_vec(),
            store: self.store.clone(),
            color: std::io::stderr().is_terminal(),
            fetching: Some(crate::progress::fetching),
        };
        Ok(Plan::make(&self.file, &options, mediant_stages::catalogue())?)
    }
}
