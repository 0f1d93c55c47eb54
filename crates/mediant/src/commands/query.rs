//! `mediant query`: SQL over results.

use std::path::PathBuf;

use clap::Args;
use mediant_report::{Cell, Database, Source, TextTable, main_table};

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::progress::terminal;
use crate::results::Results;

/// Runs SQL over the tables of finished results. Without SQL, lists the tables.
///
/// `eval` is the main table of a stage's default output, `sae.curve` its table `curve`, `tokens.train` another output. A stage
/// with a matrix is one table with its axes as columns (`axis_seed` where it has a column `seed` itself);
/// "sae[name=topk16].curve", in double quotes, selects instances.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant query pipelines/quickstart.yaml \"SELECT axis_name, AVG(value) FROM eval WHERE name = 'ev_mc' GROUP BY axis_name\"\n  mediant query pipelines/quickstart.yaml 'SELECT step, value FROM \"sae[seed=0].curve\"' --csv > curve.csv"
)]
pub(crate) struct QueryCommand {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// One SELECT statement
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// The most rows shown on the terminal; the other forms have them all
    #[arg(long, value_name = "N", default_value_t = 40)]
    rows: usize,
    /// A JSON array of objects
    #[arg(long, group = "form")]
    json: bool,
    /// CSV with a header
    #[arg(long, group = "form")]
    csv: bool,
    /// A Markdown table
    #[arg(long, group = "form")]
    markdown: bool,
    /// Write the result to a Parquet file
    #[arg(long, value_name = "FILE", group = "form")]
    parquet: Option<PathBuf>,
}

impl QueryCommand {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let results = Results::of(self.pipeline.plan(&[])?)?;
        let database = Database::new(sources(&results)?);
        let Some(sql) = &self.sql else {
            let mut table = TextTable::new(["table", "instances"]);
            for (name, instances) in database.names() {
                table.push([Cell::text(name), Cell::Count(instances as u64)]);
            }
            self.print(&table);
            return Ok(());
        };
        let query = database.query(sql).map_err(Failure::input)?;
        match &self.parquet {
            Some(path) => query.write_parquet(path)?,
            None => {
                let all = self.json || self.csv || self.markdown;
                self.print(&query.table((!all).then_some(self.rows)).map_err(Failure::input)?);
            }
        }
        Ok(())
    }

    fn print(&self, table: &TextTable) {
        if self.json {
            anstream::println!("{}", table.to_json());
        } else if self.csv {
            anstream::print!("{}", table.to_csv());
        } else if self.markdown {
            anstream::print!("{}", table.to_markdown());
        } else {
            anstream::print!("{}", table.to_terminal(terminal()));
        }
    }
}

/// Every table of every result; a default output by the stage's name alone as well as by its own.
fn sources(results: &Results) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for finished in results.all() {
        let artifact = finished.open()?;
        let stage = finished.instance.label.split('[').next().unwrap_or_default();
        let mut names = vec![format!("{stage}.{}", finished.output.name)];
        names.extend(finished.default.then(|| stage.to_owned()));
        for (table, entry) in &artifact.manifest().tables {
            for name in &names {
                sources.push(Source {
                    name: name.clone(),
                    axes: finished.axes(),
                    table: table.clone(),
                    main: table == main_table(artifact.kind()),
                    vectors: entry.vectors.clone(),
                    files: entry.parts.iter().map(|part| finished.path.join(&part.file)).collect(),
                });
            }
        }
    }
    Ok(sources)
}
