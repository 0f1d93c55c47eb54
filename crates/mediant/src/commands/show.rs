//! `mediant show`: what a result is.

use clap::Args;
use mediant_artifact::{
    Artifact, Digest, Kind, MetricRow, ModelReader, PromptsMeta, TokenizerReader, TokensMeta, read_metrics,
};
use mediant_lm::text::Tokenizer;
use mediant_report::{Cell, Page, ShowOptions, TextTable, metrics_table};

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::progress::terminal;
use crate::results::{Finished, Results};

/// Shows what a result is: its description, its tables, its first rows, statistics.
///
/// Without a stage, lists all results. A stage with a matrix shows the metrics of all its instances in one table, and of
/// other kinds each instance. FILE may also be the folder of an artifact.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant show pipelines/quickstart.yaml compare\n  mediant show pipelines/quickstart.yaml tokens.train --head 5\n  mediant show pipelines/quickstart.yaml 'sae[seed=0]' --json"
)]
pub(crate) struct Show {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// What to show: a stage, a stage.output, an instance such as sae[seed=0]
    #[arg(value_name = "STAGE[.OUTPUT]")]
    selector: Option<String>,
    /// How many first rows [default: 10; of metrics and scores 200, and all with --json]
    #[arg(long, value_name = "N")]
    head: Option<usize>,
    /// One JSON object a result, a line each
    #[arg(long)]
    json: bool,
    /// Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

impl Show {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        if self.pipeline.file.is_dir() {
            let artifact = Artifact::open(&self.pipeline.file)?;
            self.print(&self.page(&artifact, &self.pipeline.file.display().to_string(), None)?);
            return Ok(());
        }
        let targets: Vec<String> = Vec::new();
        let results = Results::of(self.pipeline.plan(&targets)?)?;
        let Some(selector) = &self.selector else {
            self.print(&list(&results)?);
            return Ok(());
        };
        let found = results.select(selector)?;
        if found.len() > 1 && found.iter().all(|finished| finished.output.kind == Kind::Metrics) {
            self.print(&united(selector, &found, self.most_metrics())?);
            return Ok(());
        }
        for (i, finished) in found.iter().enumerate() {
            let artifact = finished.open()?;
            let tokenizer = tokenizer(&artifact, &results)?;
            if i > 0 && !self.json {
                anstream::println!();
            }
            self.print(&self.page(&artifact, &finished.label(), tokenizer.as_ref())?);
        }
        Ok(())
    }

    fn page(&self, artifact: &Artifact, title: &str, tokenizer: Option<&Tokenizer>) -> Result<Page, Failure> {
        let decode = |ids: &[i32]| {
            let ids: Vec<u32> = ids.iter().map(|id| id.cast_unsigned()).collect();
            tokenizer.and_then(|tokenizer| tokenizer.decode(&ids).ok()).unwrap_or_default()
        };
        let decode: Option<mediant_report::Decode<'_>> = if tokenizer.is_some() { Some(&decode) } else { None };
        Ok(mediant_report::show(
            artifact,
            title,
            &ShowOptions { head: self.head.unwrap_or(10), metrics: self.most_metrics(), decode },
        )?)
    }

    fn most_metrics(&self) -> usize {
        self.head.unwrap_or(if self.json { usize::MAX } else { 200 })
    }

    fn print(&self, page: &Page) {
        if self.json {
            anstream::println!("{}", page.to_json());
        } else if self.markdown {
            anstream::print!("{}", page.to_markdown());
        } else {
            anstream::print!("{}", page.to_terminal(terminal()));
        }
    }
}

/// All results.
fn list(results: &Results) -> Result<Page, Failure> {
    let mut table = TextTable::new(["result", "kind", "uses", "rows", "size"]);
    for finished in results.all() {
        let artifact = finished.open()?;
        table.push([
            Cell::text(finished.label()),
            Cell::text(artifact.kind().name()),
            Cell::text(finished.instance.uses),
            Cell::Count(artifact.rows(mediant_report::main_table(artifact.kind()))?),
            Cell::Bytes(artifact.manifest().stored().map(|(_, bytes, _)| bytes).sum()),
        ]);
    }
    if table.is_empty() {
        table.note(format!("nothing yet; mediant run {} makes results", results.plan.file.display()));
    }
    let mut page = Page::new(format!("results of {}", results.plan.pipeline.name));
    page.table("Results", table);
    Ok(page)
}

/// The metrics of many instances, with their axes as columns.
fn united(selector: &str, found: &[Finished<'_>], most: usize) -> Result<Page, Failure> {
    let mut rows: Vec<MetricRow> = Vec::new();
    for finished in found {
        let axes = finished.axes();
        rows.extend(read_metrics(&finished.open()?)?.into_iter().map(|mut row| {
            row.tags.extend(axes.iter().cloned());
            row
        }));
    }
    let mut page = Page::new(format!("{selector}: {}", mediant_report::number::plural(found.len() as u64, "instance")));
    page.table("Metrics", metrics_table(&rows, most));
    Ok(page)
}

/// The tokenizer that made the tokens or prompts, if it is among the results of the pipeline.
fn tokenizer(artifact: &Artifact, results: &Results) -> Result<Option<Tokenizer>, Failure> {
    let wanted = match artifact.kind() {
        Kind::Tokens => artifact.meta::<TokensMeta>()?.tokenizer,
        Kind::Prompts => Some(artifact.meta::<PromptsMeta>()?.tokenizer),
        _ => None,
    };
    let Some(wanted) = wanted else { return Ok(None) };
    for finished in results.all() {
        let files = match finished.output.kind {
            Kind::Tokenizer => TokenizerReader::open(&finished.open()?)?.files,
            Kind::Model => ModelReader::open(&finished.open()?)?.files,
            _ => continue,
        };
        if files.get("tokenizer.json").is_some_and(|json| Digest::of(json) == wanted) {
            return Ok(Tokenizer::from_files(&files)?);
        }
    }
    Ok(None)
}
