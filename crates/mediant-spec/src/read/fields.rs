//! Mappings with known keys.

use serde::de::DeserializeOwned;

use crate::de::from_node;
use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::source::Span;
use crate::suggest::suggest;

/// The entries of a mapping under `keys`, in that order; other keys are errors. `None` if it is no mapping.
pub(crate) fn fields<const N: usize>(
    node: Node,
    what: &str,
    keys: [&str; N],
    errors: &mut Vec<Diagnostic>,
) -> Option<[Option<Entry>; N]> {
    let Value::Map(entries) = node.value else {
        errors.push(expected_mapping(&node, what));
        return None;
    };
    let mut found = [const { None }; N];
    for entry in entries {
        match keys.iter().position(|key| *key == entry.key) {
            Some(index) => found[index] = Some(entry),
            None => errors.push(
                Diagnostic::new("unknown-key", format!("{what} has no `{}`", entry.key))
                    .at(entry.key_span, "unknown key")
                    .help(suggest(&entry.key, keys, "keys")),
            ),
        }
    }
    Some(found)
}

/// The entry, or an error that it is missing from the mapping at `parent`.
pub(crate) fn required(entry: Option<Entry>, key: &str, parent: Span, errors: &mut Vec<Diagnostic>) -> Option<Entry> {
    if entry.is_none() {
        errors
            .push(Diagnostic::new("missing-key", format!("the key `{key}` is missing")).at(parent, "in this mapping"));
    }
    entry
}

/// A typed value, or errors.
pub(crate) fn value<T: DeserializeOwned>(node: &Node, errors: &mut Vec<Diagnostic>) -> Option<T> {
    from_node(node).map_err(|found| errors.extend(found)).ok()
}

pub(crate) fn expected_mapping(node: &Node, what: &str) -> Diagnostic {
    Diagnostic::new("type", format!("{what} is a mapping, and this is {}", node.value.describe()))
        .at(node.span, "")
        .via(node.via)
}
