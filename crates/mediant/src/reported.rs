//! What a report is made from: read from a plan, a lock file or a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mediant_artifact::{Artifact, Digest};
use mediant_engine::{Known, LockFile, LockedStage, Plan, RunPlan, Status, describe, output_name};
use mediant_report::{Cost, Edge, Graph, InstanceRun, Node, ResultFile, Run, State};
use mediant_store::{ActionRecord, Id, RunInfo, Store};
use serde::Deserialize;
use serde_json::Value;

use crate::exit::Failure;

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

/// Instances as their action records have them.
struct Recorded {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    instances: Vec<InstanceRun>,
    /// Outside files by stage and option.
    sources: Vec<(String, String)>,
}

impl Recorded {
    /// Reads the records of these recipes; `refuse` says why a record is not the one that is meant.
    fn read(
        recipes: BTreeMap<String, Digest>,
        store: &Store,
        refuse: impl Fn(&str, &ActionRecord) -> Option<String>,
    ) -> Result<Self, Failure> {
        let stage = |label: &str| label.split('[').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = recipes.keys().map(|label| stage(label)).collect();
        names.dedup();
        let node = |label: &str| names.iter().position(|name| *name == stage(label)).unwrap_or_default();
        let labels: BTreeMap<String, &str> =
            recipes.iter().map(|(label, recipe)| (recipe.to_string(), label.as_str())).collect();
        let mut outputs = vec![0; names.len()];
        let unknown = |name: &String| Node {
            name: name.clone(),
            uses: "not in this store".to_owned(),
            instances: 0,
            state: None,
        };
        let mut read = Self {
            nodes: names.iter().map(unknown).collect(),
            edges: Vec::new(),
            instances: Vec::new(),
            sources: Vec::new(),
        };
        for (label, recipe) in &recipes {
            let to = node(label);
            read.nodes[to].instances += 1;
            let mut instance = InstanceRun {
                node: to,
                label: label.clone(),
                axes: axes(label),
                state: None,
                why: "its result is not in this store".to_owned(),
                recipe: recipe.to_string(),
                options: Value::Null,
                cost: None,
                headline: Vec::new(),
                results: Vec::new(),
            };
            if let Some(record) = store.read_action(id(*recipe))? {
                let preimage: Value = record.preimage.parse()?;
                read.nodes[to].uses.clone_from(&record.stage);
                outputs[to] = record.outputs.len();
                for (port, from, output) in inputs(&preimage, &labels) {
                    let edge = Edge { from: node(from), to, port, output };
                    if !read.edges.contains(&edge) {
                        read.edges.push(edge);
                    }
                }
                for (field, source) in preimage["sources"].as_object().into_iter().flatten() {
                    let entry =
                        (format!("{}.{field}", names[to]), source["digest"].as_str().unwrap_or_default().to_owned());
                    if !read.sources.contains(&entry) {
                        read.sources.push(entry);
                    }
                }
                instance.options = preimage["config"].clone();
                if let Some(why) = refuse(label, &record).or_else(|| gone(&record, store)) {
                    instance.why = why;
                } else {
                    (instance.state, instance.why) = (Some(State::Done), String::new());
                    instance.cost = Some(cost(&record));
                    instance.results = recorded_results(&record, store)?;
                }
            }
            read.instances.push(instance);
        }
        // A record does not say which output is the default one; of a single output the name says nothing.
        let mut seen = BTreeSet::new();
        read.edges.retain_mut(|edge| {
            edge.output = edge.output.take().filter(|_| outputs[edge.from] > 1);
            seen.insert((edge.from, edge.to, edge.port.clone(), edge.output.clone()))
        });
        Ok(read)
    }

    /// The whole, stages in the order of the pipeline: producers first.
    fn run(
        mut self,
        pipeline: String,
        mut about: Vec<(String, String)>,
        sources: Vec<(String, String)>,
        overrides: Vec<(String, String)>,
        store: &Store,
    ) -> Result<Run, Failure> {
        let mut depth = vec![0usize; self.nodes.len()];
        // As often as there are stages: then every path has been followed to its end.
        for _ in 0..self.nodes.len() {
            for edge in &self.edges {
                depth[edge.to] = depth[edge.to].max(depth[edge.from] + 1);
            }
        }
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|node| depth[*node]);
        let place = |node: usize| order.iter().position(|old| *old == node).unwrap_or_default();
        for edge in &mut self.edges {
            (edge.from, edge.to) = (place(edge.from), place(edge.to));
        }
        for instance in &mut self.instances {
            instance.node = place(instance.node);
        }
        self.instances
            .sort_by_cached_key(|instance| (instance.node, instance.axes.iter().map(natural).collect::<Vec<_>>()));
        let states = states(&self.instances);
        let mut nodes: Vec<Node> = order.iter().map(|node| self.nodes[*node].clone()).collect();
        for (number, node) in nodes.iter_mut().enumerate() {
            node.state = states.get(&number).copied();
        }
        about.extend(times(&self.instances));
        let graph = Graph::new(pipeline.clone(), nodes, self.edges)?;
        Ok(Run {
            pipeline,
            about,
            sources,
            overrides,
            store: store.root().to_owned(),
            graph,
            instances: self.instances,
        })
    }
}

/// Port, label of the producer and output of every input.
fn inputs<'l>(preimage: &Value, labels: &BTreeMap<String, &'l str>) -> Vec<(String, &'l str, Option<String>)> {
    let ports = preimage["inputs"].as_object().into_iter().flatten();
    let members =
        ports.flat_map(|(port, members)| members.as_array().into_iter().flatten().map(move |member| (port, member)));
    let input = |(port, member): (&String, &Value)| {
        let producer = labels.get(member["recipe"].as_str()?)?;
        Some((port.clone(), *producer, member["output"].as_str().map(str::to_owned)))
    };
    members.filter_map(input).collect()
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

/// Why the results of a record cannot be read.
fn gone(record: &ActionRecord, store: &Store) -> Option<String> {
    let missing = record.outputs.iter().find(|(_, output)| !store.object_path(output.object).is_dir());
    missing.map(|(name, _)| format!("its output `{name}` is gone from this store"))
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

fn recorded_results(record: &ActionRecord, store: &Store) -> Result<Vec<ResultFile>, Failure> {
    let mut results = Vec::new();
    for (name, output) in &record.outputs {
        let artifact = Artifact::open(&store.object_path(output.object))?;
        results.push(ResultFile {
            output: name.clone(),
            default: record.outputs.len() == 1,
            key: axes(name),
            artifact,
        });
    }
    Ok(results)
}

/// The part of the provenance that a report shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Provenance {
    mediant: String,
    device: String,
    machine: Machine,
    threads: u64,
    started: String,
    seconds: f64,
    peak_memory: u64,
    actions_together: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Machine {
    cpu: String,
    cpu_features: String,
}

fn cost(record: &ActionRecord) -> Cost {
    let made: Provenance = record.provenance.parse().unwrap_or_default();
    let machine = [made.machine.cpu, made.machine.cpu_features].into_iter().filter(|part| !part.is_empty());
    Cost {
        seconds: made.seconds,
        peak_memory: made.peak_memory,
        together: made.actions_together,
        device: made.device,
        machine: machine.collect::<Vec<_>>().join(", "),
        threads: made.threads,
        started: seconds_of(&made.started),
        mediant: made.mediant,
    }
}

/// A time in RFC 3339 without parts of seconds.
fn seconds_of(time: &str) -> String {
    match (time.split_once('.'), time.ends_with('Z')) {
        (Some((whole, _)), true) => format!("{whole}Z"),
        _ => time.to_owned(),
    }
}

/// When the first and the last of the results were begun, and on what.
fn times(instances: &[InstanceRun]) -> Vec<(String, String)> {
    let costs = || instances.iter().filter_map(|instance| instance.cost.as_ref());
    let starts: BTreeSet<&str> = costs().map(|cost| cost.started.as_str()).filter(|at| !at.is_empty()).collect();
    let distinct = |of: fn(&Cost) -> String| costs().map(of).filter(|text| !text.is_empty()).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    if let (Some(first), Some(last)) = (starts.first(), starts.last()) {
        found.push((
            "results begun".to_owned(),
            if first == last { (*first).to_owned() } else { format!("{first} to {last}") },
        ));
    }
    let lists = [
        (
            "made by",
            distinct(|cost| if cost.mediant.is_empty() { String::new() } else { format!("Mediant {}", cost.mediant) }),
        ),
        ("device", distinct(|cost| cost.device.clone())),
        ("processor", distinct(|cost| cost.machine.clone())),
    ];
    for (name, values) in lists {
        if !values.is_empty() {
            found.push((name.to_owned(), values.into_iter().collect::<Vec<_>>().join("; ")));
        }
    }
    found
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

/// The axes of `sae[k=4,seed=0]`, the key of `checkpoints[step=100]`.
fn axes(label: &str) -> Vec<(String, String)> {
    let inside = label.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    pairs(inside.unwrap_or_default())
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

/// Sorts 4 before 16, and numbers before words.
fn natural((_, label): &(String, String)) -> (u64, String) {
    // The bits of positive floats are in the order of the floats.
    let number = label.parse::<f64>().ok().filter(|number| *number >= 0.0);
    (number.map_or(u64::MAX, f64::to_bits), label.clone())
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

#[cfg(test)]
mod tests {
    use super::{axes, natural};

    #[test]
    fn labels_are_taken_apart() {
        let pair = |axis: &str, label: &str| (axis.to_owned(), label.to_owned());
        assert_eq!(axes("sae[sae={a: 1, b: 2},seed=0]"), [pair("sae", "{a: 1, b: 2}"), pair("seed", "0")]);
        assert_eq!(axes("model"), []);
        let mut labels = ["16", "topk", "4", "0.5"].map(|label| pair("k", label));
        labels.sort_by_key(natural);
        assert_eq!(labels.map(|(_, label)| label), ["0.5", "4", "16", "topk"]);
    }
}
