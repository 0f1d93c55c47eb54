//! Trees of options.

use serde_json::Value;

use crate::table::Cell;

/// The values of a tree of options, each with its path.
pub(crate) fn leaves(path: &str, value: &Value, out: &mut Vec<(String, Cell)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, out);
            }
        }
        value => out.push((path.to_string(), Cell::of_json(value))),
    }
}
