//! What a report is made from: read from a plan, a lock file or a run.

mod cost;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mediant_artifact::{Artifact, Digest};
use mediant_engine::{Known, LockFile, LockedStage, Plan, RunPlan, Status, describe, output_name};
use mediant_report::{InstanceRun, ResultFile, Run, State};
use mediant_store::{ActionRecord, Id, RunInfo, Store};

use crate::exit::Failure;
use cost::{cost, times};
use recorded::Recorded;

/// The present results of a plan; where one is missing, what became of it in the newest run of the pipeline.
pub(crate) fn of_plan(plan: &Plan) -> Result<Run, Failure> {
    let newest = newest_run(plan)?;
    let mut about =
        vec![("pipeline file".to_owned(), shown(&plan.file)), ("store".to_owned(), shown(plan.store.root()))];
    let mut endings = BTreeMap::new();
    if let Some((run, kept)) = &newest {
        about.push(("newest run".to_owned(), run.id.clone()));
        endings = endings_of(run)?;
        endings.retain(|label, _| {
            plan.find(label).is_some_and(|index| kept.instances.get(label) == Some(&plan.instances[index].recipe))
        });
    }
    let mut instances = Vec::new();
    for (index, status) in super::commands::plan::statuses(plan, BTreeSet::new())? {
        let planned = &plan.instances[index];
        let mut instance = InstanceRun {
            node: planned.decl,
            label: planned.label.clone(),
            axes: planned.axes.clone(),
            state: None,
            why: String::new(),
            recipe: planned.recipe.to_string(),
            options: planned.config.to_json(),
            cost: None,
            headline: Vec::new(),
            results: Vec::new(),
        };
        match &status {
            Status::Cached(known, _) => {
                instance.state = Some(State::Done);
                instance.cost = plan.store.read_action(id(planned.recipe))?.map(|record| cost(&record));
                instance.results = planned_results(plan, index, known)?;
            }
            missing => {
                let state = if matches!(missing, Status::Depends(_)) { State::Depends } else { State::WillRun };
                let ending = endings.remove(&planned.label).unwrap_or_else(|| (state, describe(plan, missing)));
                (instance.state, instance.why) = (Some(ending.0), ending.1);
            }
        }
        instances.push(instance);
    }
    instances.sort_by_key(|instance| instance.node);
    let sources = mediant_engine::sources(plan).into_iter().map(|(name, digest)| (name, digest.to_string()));
    about.extend(times(&instances));
    Ok(Run {
        pipeline: plan.pipeline.name.clone(),
        about,
        sources: sources.collect(),
        overrides: plan.pipeline.overrides.clone(),
        store: plan.store.root().to_owned(),
        graph: super::commands::dag::graph(plan, &states(&instances))?,
        instances,
    })
}

/// The results of a lock file that the store has.
pub(crate) fn of_lock(path: &Path, lock: LockFile, store: &Store) -> Result<Run, Failure> {
    let about = vec![
        ("lock file".to_owned(), path.display().to_string()),
        ("written by".to_owned(), format!("Mediant {}", lock.mediant)),
        ("store".to_owned(), shown(store.root())),
    ];
    let recipes = lock.stages.iter().map(|(label, stage)| (label.clone(), stage.recipe)).collect();
    let mut read = Recorded::read(recipes, store, |label, record| differs(&lock.stages[label], record))?;
    for instance in read.instances.iter_mut().filter(|instance| instance.results.is_empty()) {
        instance.headline = lock.stages[&instance.label].metrics.clone().into_iter().collect();
    }
    let sources = lock.sources.into_iter().map(|(name, digest)| (name, digest.to_string()));
    read.run(lock.pipeline, about, sources.chain(lock.hub).collect(), lock.overrides, store)
}

/// What a run was about, and its pipeline file.
pub(crate) fn of_run(run: &RunInfo, store: &Store) -> Result<(PathBuf, Run), Failure> {
    let plan = RunPlan::read(run)?;
    let about = vec![
        ("pipeline file".to_owned(), shown(&plan.file)),
        ("run".to_owned(), run.id.clone()),
        ("store".to_owned(), shown(store.root())),
    ];
    let mut read = Recorded::read(plan.instances, store, |_, _| None)?;
    let mut endings = endings_of(run)?;
    for instance in read.instances.iter_mut().filter(|instance| instance.results.is_empty()) {
        if let Some((state, why)) = endings.remove(&instance.label) {
            (instance.state, instance.why) = (Some(state), why);
        }
    }
    let sources = std::mem::take(&mut read.sources);
    Ok((plan.file, read.run(plan.pipeline, about, sources, plan.overrides, store)?))
}

/// Why the results of a record do not count for a lock.
fn differs(locked: &LockedStage, record: &ActionRecord) -> Option<String> {
    let same = locked.outputs.len() == record.outputs.len()
        && record
            .outputs
            .iter()
            .all(|(name, output)| locked.outputs.get(name).is_some_and(|digest| id(*digest) == output.logical));
    (!same).then(|| "this store has another result of this recipe".to_owned())
}

fn planned_results(plan: &Plan, index: usize, known: &Known) -> Result<Vec<ResultFile>, Failure> {
    let instance = &plan.instances[index];
    let first = instance.outputs.first().map(|output| output.name.as_str());
    let mut results = Vec::new();
    for (output, key) in instance.artifacts() {
        let name = output_name(&output.name, key);
        let Some(found) = known.output(&name) else { continue };
        let artifact = Artifact::open(&plan.store.object_path(found.object))?;
        results.push(ResultFile { default: first == Some(&name), key: pairs(key), output: name, artifact });
    }
    Ok(results)
}

/// The newest run of the plan's pipeline file, if its plan can be read.
fn newest_run(plan: &Plan) -> Result<Option<(RunInfo, RunPlan)>, Failure> {
    let file = std::path::absolute(&plan.file)?.display().to_string();
    let run = plan.store.runs()?.into_iter().find(|run| run.pipeline.as_ref() == Some(&file));
    Ok(run.and_then(|run| RunPlan::read(&run).ok().map(|kept| (run, kept))))
}

/// What failed or was skipped in a run, and why.
fn endings_of(run: &RunInfo) -> Result<BTreeMap<String, (State, String)>, Failure> {
    let mut endings = BTreeMap::new();
    for event in mediant_engine::events(run)? {
        let event = &event["event"];
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("failed") => endings.insert(text("stage"), (State::Failed, text("error"))),
            Some("skipped") => endings.insert(text("stage"), (State::Skipped, text("because"))),
            _ => None,
        };
    }
    Ok(endings)
}

/// The state of every stage: the most urgent of its instances'.
fn states(instances: &[InstanceRun]) -> BTreeMap<usize, State> {
    let urgency = |state: State| match state {
        State::Failed => 0,
        State::Skipped => 1,
        State::Running => 2,
        State::WillRun => 3,
        State::Depends => 4,
        State::Cached | State::Done => 5,
    };
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for (node, state) in instances.iter().filter_map(|instance| Some((instance.node, instance.state?))) {
        states
            .entry(node)
            .and_modify(|known| *known = std::cmp::min_by_key(*known, state, |state| urgency(*state)))
            .or_insert(state);
    }
    states
}

/// `k=4,seed=0` in pairs; labels may hold commas.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in text.split(',') {
        match (part.split_once('='), pairs.last_mut()) {
            (Some((axis, label)), _) => pairs.push((axis.to_owned(), label.to_owned())),
            (None, Some((_, label))) => label.push_str(&format!(",{part}")),
            (None, None) => {}
        }
    }
    pairs
}

fn id(digest: Digest) -> Id {
    Id::from_bytes(*digest.as_bytes())
}

/// A path as seen from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let path = here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    path.display().to_string()
}
