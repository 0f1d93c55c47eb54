//! Differences between two JSON trees, by path.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// Where it stands: `sae.k`, `hooks[1]`.
    pub path: String,
    /// Its value in the first snapshot, if it has one there.
    pub old: Option<Value>,
    /// Its value in the second snapshot, if it has one there.
    pub new: Option<Value>,
}

impl FieldChange {
    pub(super) fn of(path: impl Into<String>, old: Option<Value>, new: Option<Value>) -> Self {
        Self { path: path.into(), old, new }
    }
}

/// Adds the differences between two values. Mappings are compared by key, whatever the order, lists by position; `1` and `1.0`
/// differ, since they give different keys.
pub(super) fn values(path: &str, old: &Value, new: &Value, changes: &mut Vec<FieldChange>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                optional(&child(path, key), a.get(key), b.get(key), changes);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                optional(&format!("{path}[{i}]"), a.get(i), b.get(i), changes);
            }
        }
        (a, b) if a == b => {}
        (a, b) => changes.push(FieldChange::of(path, Some(a.clone()), Some(b.clone()))),
    }
}

/// The differences between two flat maps.
pub(super) fn maps<V: Clone + PartialEq + Into<Value>>(
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
) -> Vec<FieldChange> {
    let tree = |map: &BTreeMap<String, V>| -> Map<String, Value> {
        map.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect()
    };
    let (a, b) = (tree(old), tree(new));
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    differing.map(|key| FieldChange::of(key.as_str(), a.get(key).cloned(), b.get(key).cloned())).collect()
}

fn optional(path: &str, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<FieldChange>) {
    match (old, new) {
        (Some(a), Some(b)) => values(path, a, b, changes),
        (a, b) => changes.push(FieldChange::of(path, a.cloned(), b.cloned())),
    }
}

fn child(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), plain) {
        (true, true) => key.to_string(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", Value::from(key)),
    }
}
