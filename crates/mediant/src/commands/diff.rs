//! `mediant diff`: two runs or lock files compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use mediant_artifact::Digest;
use mediant_engine::{LockFile, Made, Project, RunPlan};
use mediant_report::{Diff, Instance, Metric, Recipe, Snapshot};
use mediant_store::{Id, RunInfo, Store};
use serde_json::Value;

use crate::exit::{CommandResult, Failure};
use crate::progress::terminal;

/// Compares two runs or lock files: options, inputs, keys, outputs and metrics.
///
/// OLD and NEW are each a lock file, the id of a run or the beginning of one, or `last`, `last~1`, ... for the newest runs.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant diff last~1 last\n  mediant diff pipelines/quickstart.lock last --markdown"
)]
pub(crate) struct DiffCommand {
    /// What to compare
    #[arg(value_name = "OLD")]
    old: String,
    /// What to compare it with
    #[arg(value_name = "NEW")]
    new: String,
    /// The store's folder [default: .mediant beside the nearest mediant.toml, else in this folder]
    #[arg(long, value_name = "DIR", env = "MEDIANT_STORE")]
    store: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Markdown, for a pull request
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

impl DiffCommand {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        // Lock files can be compared without any store; with one, options are known as well.
        let folder = Project::of(Path::new("."))?.store(self.store.as_deref());
        let store = if folder.is_dir() { Some(Store::open(&folder)?) } else { None };
        let diff = Diff::between(&snapshot(&self.old, store.as_ref())?, &snapshot(&self.new, store.as_ref())?);
        if self.json {
            anstream::println!("{}", diff.to_json());
        } else if self.markdown {
            anstream::print!("{}", diff.to_markdown());
        } else {
            anstream::print!("{}", diff.to_terminal(terminal()));
        }
        Ok(())
    }
}

fn snapshot(name: &str, store: Option<&Store>) -> Result<Snapshot, Failure> {
    let path = Path::new(name);
    if path.is_file() {
        let lock = LockFile::read(path)?.ok_or_else(|| Failure::input(format!("{name} is gone")))?;
        return of_lock(name, lock, store);
    }
    let Some(store) = store else {
        return Err(Failure::Input(format!(
            "error: there is no lock file {name}, and no store here to look for a run of that name in\nhelp: give the store with --store DIR\n"
        )));
    };
    let run = find(name, store)?;
    let plan = RunPlan::read(&run)?;
    let labels: BTreeMap<Digest, String> =
        plan.instances.iter().map(|(label, recipe)| (*recipe, label.clone())).collect();
    let mut instances = BTreeMap::new();
    for (label, recipe) in &plan.instances {
        instances.insert(label.clone(), instance(*recipe, &labels, Some(store))?);
    }
    Ok(Snapshot { title: format!("{} ({})", plan.pipeline, run.id), sources: BTreeMap::new(), instances })
}

/// The run of an id, the beginning of one, or `last~N`.
pub(crate) fn find(name: &str, store: &Store) -> Result<RunInfo, Failure> {
    let runs = store.runs()?;
    let back = name
        .strip_prefix("last")
        .and_then(|rest| if rest.is_empty() { Some(0) } else { rest.strip_prefix('~')?.parse::<usize>().ok() });
    let mut found: Vec<RunInfo> = match back {
        Some(back) => runs.into_iter().skip(back).take(1).collect(),
        None => runs.into_iter().filter(|run| run.id.to_lowercase().starts_with(&name.to_lowercase())).collect(),
    };
    match (found.pop(), found.len()) {
        (Some(run), 0) => Ok(run),
        (Some(_), more) => {
            Err(Failure::Input(format!("error: {} runs begin with `{name}`\nhelp: give more of the id\n", more + 1)))
        }
        (None, _) => Err(Failure::Input(format!(
            "error: there is neither a file nor a run `{name}`\nhelp: runs are in {}\n",
            store.root().join("runs").display()
        ))),
    }
}

fn of_lock(name: &str, lock: LockFile, store: Option<&Store>) -> Result<Snapshot, Failure> {
    let labels: BTreeMap<Digest, String> =
        lock.stages.iter().map(|(label, stage)| (stage.recipe, label.clone())).collect();
    let mut instances = BTreeMap::new();
    for (label, stage) in lock.stages {
        let known = instance(stage.recipe, &labels, store)?;
        let outputs = stage.outputs.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect();
        // What the lock says counts, not what this store has come to by itself.
        instances.insert(label, Instance { outputs, metrics: metrics(stage.metrics), ..known });
    }
    let sources = lock.sources.into_iter().map(|(path, digest)| (path, digest.to_string())).collect();
    Ok(Snapshot { title: name.to_owned(), sources, instances })
}

/// What a store knows of a recipe.
fn instance(recipe: Digest, labels: &BTreeMap<Digest, String>, store: Option<&Store>) -> Result<Instance, Failure> {
    let key = recipe.to_string();
    let record = match store {
        Some(store) => store.read_action(Id::from_bytes(*recipe.as_bytes()))?,
        None => None,
    };
    let Some(record) = record else { return Ok(Instance { key, ..Instance::default() }) };
    let made: Made = record.provenance.parse().unwrap_or_default();
    Ok(Instance {
        key,
        recipe: record.preimage.parse().ok().map(|preimage| read_recipe(&preimage, labels)),
        outputs: record.outputs.into_iter().map(|(name, output)| (name, output.logical.to_string())).collect(),
        metrics: metrics(made.metrics),
    })
}

fn metrics(metrics: BTreeMap<String, f64>) -> Vec<Metric> {
    metrics.into_iter().map(|(name, value)| Metric { name, unit: String::new(), value }).collect()
}

/// The stored pre-image of a key, its inputs by label where they are known.
fn read_recipe(preimage: &Value, labels: &BTreeMap<Digest, String>) -> Recipe {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let member = |member: &Value| {
        let producer = text(&member["recipe"]);
        let label = producer.parse().ok().and_then(|recipe| labels.get(&recipe).cloned()).unwrap_or(producer);
        let key = member["key"].as_str().map(|key| format!("[{key}]")).unwrap_or_default();
        format!("{label}.{}{key}", text(&member["output"]))
    };
    let entries = |field: &str| preimage[field].as_object().into_iter().flatten();
    let members = |value: &Value| value.as_array().into_iter().flatten().map(member).collect();
    Recipe {
        uses: text(&preimage["stage"]),
        version: preimage["version"].as_u64().and_then(|version| u32::try_from(version).ok()).unwrap_or_default(),
        config: preimage["config"].clone(),
        inputs: entries("inputs").map(|(port, value)| (port.clone(), members(value))).collect(),
        sources: entries("sources").map(|(field, source)| (field.clone(), text(&source["digest"]))).collect(),
    }
}
