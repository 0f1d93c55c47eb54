//! Two runs or two lock files compared: what was added, removed and changed, and how far the metrics moved.

mod render;
mod tree;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use tree::FieldChange;

/// A run or a lock file, as far as a comparison needs it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What it is called in the comparison.
    pub title: String,
    /// Digests or pins of outside inputs, by the path or address in the pipeline file.
    pub sources: BTreeMap<String, String>,
    /// Stage instances by label, `sae[name=topk16,seed=0]`.
    pub instances: BTreeMap<String, Instance>,
}

/// One stage instance of a [`Snapshot`].
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Its recipe key.
    pub key: String,
    /// What the key was made from, where it is known; a lock file holds the key alone.
    pub recipe: Option<Recipe>,
    /// Logical digests of its outputs, where it has run.
    pub outputs: BTreeMap<String, String>,
    /// Its headline metrics.
    pub metrics: Vec<Metric>,
}

/// What decides the result of an instance.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The stage it uses.
    pub uses: String,
    /// The version of that stage.
    pub version: u32,
    /// Its options.
    pub config: Value,
    /// What is connected to each port, in words: `sae[seed=0]`, `tokens.train`.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// Digests of the outside files it reads, by the option that names them.
    pub sources: BTreeMap<String, String>,
}

/// A metric of an [`Instance`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Its name with its variant, `ev_mc`, and whatever tells it from others of that name.
    pub name: String,
    /// Its unit, empty for a plain number.
    pub unit: String,
    /// Its value.
    pub value: f64,
}

/// The difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// Title of the first.
    pub old: String,
    /// Title of the second.
    pub new: String,
    /// Outside inputs that differ.
    pub sources: Vec<FieldChange>,
    /// Instances that only the second has.
    pub added: Vec<String>,
    /// Instances that only the first has.
    pub removed: Vec<String>,
    /// Instances that both have and that differ.
    pub changed: Vec<InstanceDiff>,
    /// How many instances are the same in both.
    pub same: usize,
}

/// What differs in one instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstanceDiff {
    /// Its label.
    pub instance: String,
    /// Recipe keys, if they differ.
    pub key: Option<(String, String)>,
    /// What differs between the recipes, where both are known: `uses`, `version`, `with.…`, `inputs.PORT`, `sources.…`.
    pub recipe: Vec<FieldChange>,
    /// Outputs of which at least one side is known.
    pub outputs: Vec<OutputChange>,
    /// Metrics that differ, or that one side lacks.
    pub metrics: Vec<MetricChange>,
    /// The recipe is the same and an output is not: the stage did not reproduce its result.
    pub irreproducible: bool,
}

/// An output on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputChange {
    /// Its name.
    pub name: String,
    /// Its digest in the first snapshot.
    pub old: Option<String>,
    /// Its digest in the second snapshot.
    pub new: Option<String>,
}

impl OutputChange {
    /// Whether both sides are known and the same.
    pub fn equal(&self) -> bool {
        self.old.is_some() && self.old == self.new
    }
}

/// A metric on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Its value in the first snapshot.
    pub old: Option<f64>,
    /// Its value in the second snapshot.
    pub new: Option<f64>,
    /// New less old.
    pub difference: Option<f64>,
    /// The difference as a fraction of the old value's size; none where that is zero.
    pub relative: Option<f64>,
}

impl Diff {
    /// Compares two snapshots.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let only = |from: &Snapshot, other: &Snapshot| {
            let labels = from.instances.keys();
            labels.filter(|label| !other.instances.contains_key(*label)).cloned().collect()
        };
        let both = old.instances.iter().filter_map(|(label, a)| Some((label, a, new.instances.get(label)?)));
        let (mut changed, mut same) = (Vec::new(), 0);
        for (label, a, b) in both {
            let difference = InstanceDiff::between(label, a, b);
            if difference.is_empty() {
                same += 1;
            } else {
                changed.push(difference);
            }
        }
        Self {
            old: old.title.clone(),
            new: new.title.clone(),
            sources: tree::maps(&old.sources, &new.sources),
            added: only(new, old),
            removed: only(old, new),
            changed,
            same,
        }
    }

    /// Whether the snapshots are the same in everything that is compared.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl InstanceDiff {
    fn between(label: &str, old: &Instance, new: &Instance) -> Self {
        let key = (old.key != new.key).then(|| (old.key.clone(), new.key.clone()));
        let recipe = match (&old.recipe, &new.recipe) {
            (Some(a), Some(b)) => a.differences(b),
            _ => Vec::new(),
        };
        let names: std::collections::BTreeSet<&String> = old.outputs.keys().chain(new.outputs.keys()).collect();
        let outputs: Vec<OutputChange> = names
            .into_iter()
            .map(|name| OutputChange {
                name: name.clone(),
                old: old.outputs.get(name).cloned(),
                new: new.outputs.get(name).cloned(),
            })
            .collect();
        let differs = |o: &OutputChange| o.old.is_some() && o.new.is_some() && !o.equal();
        Self {
            instance: label.to_string(),
            irreproducible: key.is_none() && outputs.iter().any(differs),
            key,
            recipe,
            outputs,
            metrics: metrics(&old.metrics, &new.metrics),
        }
    }

    fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.recipe.is_empty()
            && self.metrics.is_empty()
            && self.outputs.iter().all(OutputChange::equal)
    }
}

impl Recipe {
    fn differences(&self, new: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        tree::values("uses", &self.uses.as_str().into(), &new.uses.as_str().into(), &mut changes);
        tree::values("version", &self.version.into(), &new.version.into(), &mut changes);
        tree::values("with", &self.config, &new.config, &mut changes);
        let below = |port: &str, found: Vec<FieldChange>| {
            found
                .into_iter()
                .map(|change| FieldChange { path: format!("{port}.{}", change.path), ..change })
                .collect::<Vec<_>>()
        };
        changes.extend(below("inputs", tree::maps(&self.inputs, &new.inputs)));
        changes.extend(below("sources", tree::maps(&self.sources, &new.sources)));
        changes
    }
}

/// Metrics by name: those of the first snapshot in their order, then those that only the second has. Equal ones are left out;
/// NaN equals NaN.
fn metrics(old: &[Metric], new: &[Metric]) -> Vec<MetricChange> {
    let find = |metrics: &[Metric], name: &str| metrics.iter().find(|m| m.name == name).map(|m| m.value);
    let only_new = new.iter().filter(|m| find(old, &m.name).is_none());
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    old.iter()
        .chain(only_new)
        .map(|metric| {
            let (a, b) = (find(old, &metric.name), find(new, &metric.name));
            let difference = a.zip(b).map(|(a, b)| b - a);
            let relative = difference.zip(a).filter(|(_, a)| *a != 0.0).map(|(d, a)| d / a.abs());
            MetricChange { name: metric.name.clone(), unit: metric.unit.clone(), old: a, new: b, difference, relative }
        })
        .filter(|m| !m.old.zip(m.new).is_some_and(|(a, b)| same(a, b)))
        .collect()
}
