//! `mediant report`: a run as one file to read.

use std::path::{Path, PathBuf};

use clap::Args;
use mediant_engine::{LockFile, Project};
use mediant_report::{Card, Report, Run};
use mediant_store::Store;

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::reported;

/// Writes a report: one HTML file with the pipeline's picture, time and memory of every stage, and tables and pictures of all results,
/// each with its data.
///
/// Of a pipeline file, its present results; of a lock file, those of its results that the store has; of a run, what it was about.
/// A run is named by its id or the beginning of it, or as last, last~1, ...
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant report pipelines/quickstart.yaml\n  mediant report pipelines/quickstart.lock --markdown\n  mediant report last --store pipelines/.mediant --card"
)]
pub(crate) struct ReportCommand {
    /// What to report: a pipeline file, a lock file or a run
    #[arg(value_name = "FILE|RUN")]
    subject: String,
    /// Of a pipeline file, change a value: params.layer=3
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// The store's folder [default: .mediant beside the nearest mediant.toml, else beside the pipeline]
    #[arg(long, value_name = "DIR", env = "MEDIANT_STORE")]
    store: Option<PathBuf>,
    /// Where to write [default: PIPELINE.report.html in this folder; Markdown and JSON to standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Markdown, for a README or a paper's supplement
    #[arg(long, group = "form")]
    markdown: bool,
    /// A card of what is to be told of a study, as Markdown; what the run does not know is marked
    #[arg(long, group = "form")]
    card: bool,
    /// The card as one JSON object
    #[arg(long, requires = "card")]
    json: bool,
}

impl ReportCommand {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        self.report().map_err(|failure| match failure {
            Failure::Other(text) => Failure::Input(format!(
                "error: there is no report: {text}\nhelp: what is damaged in a store is found and made again by `mediant run`\n"
            )),
            other => other,
        })
    }

    fn report(&self) -> CommandResult {
        let (stem, run) = self.subject()?;
        let text = if self.card {
            let card = Card::of(&run)?;
            if self.json { format!("{}\n", card.to_json()) } else { card.to_markdown() }
        } else if self.markdown {
            Report::of(&run)?.to_markdown()
        } else {
            let path = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.report.html")));
            let folder = std::path::absolute(&path)?.parent().map(Path::to_path_buf);
            write(&path, &Report::of(&run)?.to_html(folder.as_deref()))?;
            anstream::println!("{}", path.display());
            return Ok(());
        };
        match &self.output {
            Some(path) => write(path, &text),
            None => {
                anstream::print!("{text}");
                Ok(())
            }
        }
    }

    /// What is reported, and what a file about it is called.
    fn subject(&self) -> Result<(String, Run), Failure> {
        let path = Path::new(&self.subject);
        let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let lock = path.extension().is_some_and(|extension| extension == "lock");
        if path.is_file() && !lock {
            let (file, overrides, store) = (path.to_owned(), self.overrides.clone(), self.store.clone());
            let plan = PipelineArgs { file, overrides, store }.plan(&[])?;
            return Ok((stem(path), reported::of_plan(&plan)?));
        }
        if !self.overrides.is_empty() {
            return Err(Failure::input("--set changes a pipeline file; a lock file or a run is what it is"));
        }
        let beside = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
        let folder = std::path::absolute(Project::of(beside)?.store(self.store.as_deref()))?;
        if !folder.is_dir() {
            return Err(Failure::Input(format!(
                "error: there is no file {}, and no store here to look for a run of that name in\nhelp: give the store with --store DIR\n",
                self.subject
            )));
        }
        let store = Store::open(&folder)?;
        if path.is_file() {
            let lock = LockFile::read(path)?.ok_or_else(|| Failure::input(format!("{} is gone", self.subject)))?;
            return Ok((stem(path), reported::of_lock(path, lock, &store)?));
        }
        let (file, run) = reported::of_run(&super::diff::find(&self.subject, &store)?, &store)?;
        Ok((stem(&file), run))
    }
}

fn write(path: &Path, text: &str) -> CommandResult {
    std::fs::write(path, text).map_err(|error| Failure::input(format!("cannot write {}: {error}", path.display())))
}
