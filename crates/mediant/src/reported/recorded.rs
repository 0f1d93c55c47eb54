//! Instances as their action records have them: of a lock file or a run.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Artifact, Digest};
use mediant_report::{Edge, Graph, InstanceRun, Node, ResultFile, Run, State};
use mediant_store::{ActionRecord, Store};
use serde_json::Value;

use super::cost::{cost, times};
use super::{id, pairs, states};
use crate::exit::Failure;

/// Instances as their action records have them.
pub(super) struct Recorded {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    pub(super) instances: Vec<InstanceRun>,
    /// Outside files by stage and option.
    pub(super) sources: Vec<(String, String)>,
}

impl Recorded {
    /// Reads the records of these recipes; `refuse` says why a record is not the one that is meant.
    pub(super) fn read(
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
    pub(super) fn run(
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

/// Why the results of a record cannot be read.
fn gone(record: &ActionRecord, store: &Store) -> Option<String> {
    let missing = record.outputs.iter().find(|(_, output)| !store.object_path(output.object).is_dir());
    missing.map(|(name, _)| format!("its output `{name}` is gone from this store"))
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

/// The axes of `sae[k=4,seed=0]`, the key of `checkpoints[step=100]`.
fn axes(label: &str) -> Vec<(String, String)> {
    let inside = label.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    pairs(inside.unwrap_or_default())
}

/// Sorts 4 before 16, and numbers before words.
fn natural((_, label): &(String, String)) -> (u64, String) {
    // The bits of positive floats are in the order of the floats.
    let number = label.parse::<f64>().ok().filter(|number| *number >= 0.0);
    (number.map_or(u64::MAX, f64::to_bits), label.clone())
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
