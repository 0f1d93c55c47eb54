//! `command`: a program of the user's as a stage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use indexmap::IndexMap;
use mediant_artifact::{
    DirectionsFacts, Facts, Kind, MetricRow, TableFacts, TableMeta, write_directions, write_metrics, write_table,
};
use mediant_engine::{
    Docs, InputFacts, MemberInput, Output, Ports, Problems, RunContext, Source, SourceKind, SourcePaths, Stage,
    StageError,
};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::own_directions::{own_directions, own_meta};
use crate::table::{self, Cell};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Command;

/// Options of `command`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The program and its arguments. `{files.NAME}` stands for a declared file, `{inputs.PORT}` for the folder of an
    /// input's Parquet files, `{outputs.NAME}` for the folder to write an output to; `{{` is a plain `{`.
    argv: Vec<String>,
    /// Files that the program reads, its own script among them, by name. Their content is part of the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, String>,
    /// What the program writes: for each output its kind. It writes Parquet files, or one `rows.jsonl`, into the folder.
    outputs: IndexMap<String, OutputKind>,
    /// Environment variables to set. Besides these the program sees PATH, HOME, LANG, TMPDIR and those named MEDIANT_….
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OutputKind {
    /// Any columns.
    Table,
    /// Columns `name` and `value`; `unit`, `n`, `low`, `high`, `split` if there are any.
    Metrics,
    /// Orthonormal bases of subspaces: columns `hook` and `vector`; `positions`, `rank`, `index`, `value` if there are any.
    Directions,
}

impl OutputKind {
    fn kind(self) -> Kind {
        match self {
            Self::Table => Kind::Table,
            Self::Metrics => Kind::Metrics,
            Self::Directions => Kind::Directions,
        }
    }
}

const DETAILS: &str = "\
The program is started without a shell in an empty folder. It finds its inputs and outputs through its arguments \
(`{inputs.PORT}`, `{outputs.NAME}`, `{files.NAME}`) or, as JSON, in the variables `MEDIANT_INPUTS`, `MEDIANT_OUTPUTS` and \
`MEDIANT_FILES`: `MEDIANT_INPUTS` holds for each port a list of `{path, labels, name}`, so that a port which collects \
axes is readable too. Each input is a folder with `manifest.json` and Parquet files.\n\n\
Into an output's folder it writes one or more `.parquet` files with the same columns (taken in the order of their \
names) or one `rows.jsonl` (an object a line, values flat). Of `directions` every row is a vector of length 1 at a `hook`, in a \
list or fixed-size list of numbers; rows of one `hook`, `positions` (JSON as in a pipeline, \
`all` if there is no such column) and `rank` are the orthonormal basis of one subspace, in order. What it prints goes to the run's log. An exit code other \
than 0 fails the stage.\n\n\
The key holds the arguments, the environment set here, and the content of the declared files; the programs that `argv` \
names by a bare name, and files that are not declared, are not in it.\n\n\
A pipeline with this stage runs only with `--allow-command`, or when the project's `mediant.toml` says \
`allow_command = true`.";

const EXAMPLE: &str = "\
count:
  uses: command
  inputs: { tokens: tokens.train }
  with:
    argv: [python3, \"{files.script}\", \"{inputs.tokens}\", \"{outputs.result}\"]
    files: { script: scripts/count.py }
    outputs: { result: table }
";

impl Stage for Command {
    type Config = Config;
    const NAME: &'static str = "command";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A program of your own (Python, R, shell): Parquet in, Parquet out",
            details: DETAILS,
            example: EXAMPLE,
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Open
    }

    fn outputs(&self, config: &Config) -> Vec<Output> {
        config
            .outputs
            .iter()
            .map(|(name, kind)| Output::new(name.clone(), kind.kind(), "What the program wrote."))
            .collect()
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        let source = |(name, path): (&String, &String)| Source {
            field: format!("files.{name}"),
            path: path.clone(),
            what: SourceKind::FileOrFolder(&["**/*"]),
        };
        config.files.iter().map(source).collect()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut found = Problems::none();
        if config.argv.is_empty() {
            found.push(Problems::config("argv", "there is no program"));
        }
        if config.outputs.is_empty() {
            found.push(
                Problems::config("outputs", "a command without outputs would leave nothing behind")
                    .help("declare what it writes, such as `outputs: { result: table }`"),
            );
        }
        for name in config.outputs.keys().chain(config.files.keys()) {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
                found.push(
                    Problems::config("", format!("`{}` is no name for a file or an output", name.escape_debug()))
                        .help("use letters, digits, `_` and `-`"),
                );
            }
        }
        found.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        // All placeholders are tried now, so that a wrong one is found before anything runs.
        let single = |port: &str| (inputs.many(port).len() == 1).then(PathBuf::new);
        for (index, argument) in config.argv.iter().enumerate() {
            let known = Places {
                files: &|name| config.files.contains_key(name).then(PathBuf::new),
                inputs: &single,
                outputs: &|name| config.outputs.contains_key(name).then(PathBuf::new),
            };
            known.fill(argument).map_err(|message| Problems::config(format!("argv[{index}]"), message))?;
        }
        let facts = |kind: OutputKind| match kind {
            OutputKind::Table => Facts::Table(TableFacts { columns: None }),
            OutputKind::Metrics => Facts::Metrics,
            OutputKind::Directions => {
                Facts::Directions(DirectionsFacts { nested: Some(false), subspaces: None, search: None })
            }
        };
        Ok(config.outputs.iter().map(|(name, kind)| (name.clone(), facts(*kind))).collect())
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let scratch = cx.scratch()?;
        let work = scratch.join("work");
        std::fs::create_dir(&work)?;
        for name in config.outputs.keys() {
            std::fs::create_dir(scratch.join(output_name(name)))?;
        }
        let status = execute(cx, &scratch, &work)?;
        cx.check_cancelled()?;
        if !status.success() {
            return Err(StageError::new(format!("{}: {status}", config.argv[0])));
        }
        for (name, kind) in &config.outputs {
            let batches = read_output(&scratch.join(output_name(name)))
                .map_err(|error| error.context(format!("output `{name}`")))?;
            let writer = cx.output(name)?;
            match kind {
                OutputKind::Table => {
                    let schema = batches[0].schema();
                    write_table(writer, schema, batches.into_iter().map(Ok), &TableMeta::default())?;
                }
                OutputKind::Metrics => {
                    let rows = metric_rows(&batches).map_err(|error| error.context(format!("output `{name}`")))?;
                    write_metrics(writer, &rows)?;
                }
                OutputKind::Directions => {
                    let rows = own_directions(&batches).map_err(|error| error.context(format!("output `{name}`")))?;
                    write_directions(writer, own_meta(), &rows)?;
                }
            }
        }
        Ok(())
    }

    fn runs_programs(&self) -> bool {
        true
    }
}

fn output_name(name: &str) -> String {
    format!("output-{name}")
}

/// Runs the program to its end, or until the run is cancelled.
fn execute(cx: &RunContext<'_, Config>, scratch: &Path, work: &Path) -> Result<ExitStatus, StageError> {
    let config = cx.config();
    let inputs = cx.raw_inputs();
    let file = |name: &str| cx.source(&format!("files.{name}")).ok().map(Path::to_owned);
    let places = Places {
        files: &file,
        inputs: &|port| match inputs.iter().find(|(name, _)| name == port) {
            Some((_, members)) if members.len() == 1 => Some(members[0].path.clone()),
            _ => None,
        },
        outputs: &|name| config.outputs.contains_key(name).then(|| scratch.join(output_name(name))),
    };
    let argv = config
        .argv
        .iter()
        .map(|argument| places.fill(argument))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StageError::new)?;
    let files: BTreeMap<&String, Option<PathBuf>> = config.files.keys().map(|name| (name, file(name))).collect();
    let outputs: BTreeMap<&String, PathBuf> =
        config.outputs.keys().map(|name| (name, scratch.join(output_name(name)))).collect();
    let kept = ["PATH", "HOME", "LANG", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = std::process::Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir(work)
        .env_clear()
        .envs(kept)
        .env("MEDIANT_INPUTS", inputs_json(inputs).to_string())
        .env("MEDIANT_OUTPUTS", serde_json::to_string(&outputs)?)
        .env("MEDIANT_FILES", serde_json::to_string(&files)?)
        .envs(&config.env)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| StageError::from(error).context(format!("cannot start {}", argv[0])))?;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let (ended, cancel) = (AtomicBool::new(false), cx.cancel_flag());
    let status = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) && !cancel.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
            }
            if let Some(pid) = pid.filter(|_| !ended.load(Ordering::Relaxed)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        });
        let status = child.wait();
        ended.store(true, Ordering::Relaxed);
        watch.thread().unpark();
        status
    });
    Ok(status?)
}

fn inputs_json(inputs: &[(String, Vec<MemberInput>)]) -> serde_json::Value {
    let member = |member: &MemberInput| {
        let labels: serde_json::Map<_, _> =
            member.labels.iter().map(|(axis, label)| (axis.clone(), label.as_str().into())).collect();
        serde_json::json!({ "path": member.path, "labels": labels, "name": member.name })
    };
    inputs
        .iter()
        .map(|(port, members)| (port.clone(), members.iter().map(member).collect()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// What the placeholders of an argument stand for.
struct Places<'a> {
    files: Lookup<'a>,
    inputs: Lookup<'a>,
    outputs: Lookup<'a>,
}

impl Places<'_> {
    /// The argument with every placeholder replaced.
    fn fill(&self, argument: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = argument;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                filled.push('{');
                rest = after;
                continue;
            }
            let (inside, after) =
                rest.split_once('}').ok_or_else(|| "a `{` is not closed; write `{{` for a plain one".to_owned())?;
            let path = match inside.split_once('.') {
                Some(("files", name)) => {
                    (self.files)(name).ok_or_else(|| format!("no file `{name}` is declared under `files`"))?
                }
                Some(("inputs", name)) => (self.inputs)(name)
                    .ok_or_else(|| format!("input `{name}` is not connected to exactly one artifact"))?,
                Some(("outputs", name)) => {
                    (self.outputs)(name).ok_or_else(|| format!("no output `{name}` is declared"))?
                }
                _ => {
                    return Err(format!(
                        "`{{{inside}}}` is no placeholder; there are {{files.NAME}}, {{inputs.PORT}} and {{outputs.NAME}}, and `{{{{` is a plain `{{`"
                    ));
                }
            };
            filled.push_str(&path.to_string_lossy());
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The rows that the program left in an output's folder.
fn read_output(folder: &Path) -> Result<Vec<RecordBatch>, StageError> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    names.sort();
    let lines = folder.join("rows.jsonl");
    let mut batches = Vec::new();
    if names == [lines.clone()] {
        batches.push(read_lines(&lines)?);
    } else {
        for path in &names {
            if path.extension().is_none_or(|extension| extension != "parquet") {
                return Err(StageError::new(format!(
                    "the program left {}; a .parquet file or one rows.jsonl is needed",
                    path.display()
                )));
            }
            // The Arrow schema that some writers embed (large strings, views) says nothing that the Parquet types do not.
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            for batch in ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path)?, options)?.build()? {
                batches.push(batch?);
            }
        }
    }
    if batches.is_empty() {
        return Err(StageError::new("the program wrote no rows"));
    }
    Ok(batches)
}

fn read_lines(path: &Path) -> Result<RecordBatch, StageError> {
    let mut rows: Vec<IndexMap<String, Cell>> = Vec::new();
    for (index, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let line = line?;
        if !line.trim().is_empty() {
            rows.push(
                serde_json::from_str(&line)
                    .map_err(|error| StageError::new(format!("rows.jsonl line {}: {error}", index + 1)))?,
            );
        }
    }
    if rows.is_empty() {
        return Err(StageError::new("rows.jsonl is empty"));
    }
    table::batch(&rows)
}

/// Rows of a table as metrics: columns `name` and `value` are needed.
fn metric_rows(batches: &[RecordBatch]) -> Result<Vec<MetricRow>, StageError> {
    use arrow::array::{Array, AsArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Float64Type, UInt64Type};

    let mut rows = Vec::new();
    for batch in batches {
        let column = |name: &str, data_type: &DataType| -> Result<Option<arrow::array::ArrayRef>, StageError> {
            batch.column_by_name(name).map(|column| cast(column, data_type).map_err(StageError::from)).transpose()
        };
        let needed = |name: &str, data_type: &DataType| {
            column(name, data_type)?.ok_or_else(|| StageError::new(format!("there is no column `{name}`")))
        };
        let names = needed("name", &DataType::Utf8)?;
        let values = needed("value", &DataType::Float64)?;
        let (units, counts) = (column("unit", &DataType::Utf8)?, column("n", &DataType::UInt64)?);
        let (lows, highs, splits) = (
            column("low", &DataType::Float64)?,
            column("high", &DataType::Float64)?,
            column("split", &DataType::Utf8)?,
        );
        for row in 0..batch.num_rows() {
            let text = |array: &Option<arrow::array::ArrayRef>| {
                array
                    .as_ref()
                    .filter(|array| !array.is_null(row))
                    .map(|array| array.as_string::<i32>().value(row).to_owned())
            };
            let number = |array: &Option<arrow::array::ArrayRef>| {
                array
                    .as_ref()
                    .filter(|array| !array.is_null(row))
                    .map(|array| array.as_primitive::<Float64Type>().value(row))
            };
            if names.is_null(row) || values.is_null(row) {
                return Err(StageError::new(format!("row {row} has no name or no value")));
            }
            rows.push(MetricRow {
                name: names.as_string::<i32>().value(row).to_owned(),
                value: values.as_primitive::<Float64Type>().value(row),
                unit: text(&units).unwrap_or_else(|| "1".to_owned()),
                n: counts
                    .as_ref()
                    .filter(|array| !array.is_null(row))
                    .map_or(0, |array| array.as_primitive::<UInt64Type>().value(row)),
                low: number(&lows),
                high: number(&highs),
                split: text(&splits),
                ..MetricRow::default()
            });
        }
    }
    Ok(rows)
}
