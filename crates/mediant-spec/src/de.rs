//! A node into a typed value: serde over [`Node`], with errors that keep their places.

mod access;
mod deserializer;
mod error;

use serde::de::DeserializeOwned;

use self::deserializer::NodeDeserializer;
use self::error::Kind;
use crate::diagnostic::Diagnostic;
use crate::node::{Node, Value};

/// After this many errors in one value the rest is left unsaid.
const MAX_ERRORS: usize = 20;

/// Deserialises a node. Every key of a struct has to be one of its fields, whether or not it denies unknown ones; text is not
/// made of numbers or the other way round; a float may be written as an integer; enums are tagged externally.
///
/// # Errors
/// All unknown keys, all values of the wrong kind, and for each struct the first field that is missing; each where it stands
/// and, if it was substituted, where it was used.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Vec<Diagnostic>> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    // serde gives up at the first wrong value. So the value is left out and all is tried again, to find the next one.
    let mut skip: Vec<&Node> = Vec::new();
    loop {
        let (result, unknown) = NodeDeserializer::run::<T>(node, &skip);
        for diagnostic in unknown {
            if !errors.contains(&diagnostic) {
                errors.push(diagnostic);
            }
        }
        let error = match result {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(error) => error,
        };
        let place = error.place(node);
        let left_out = |child: &Node| skip.iter().any(|skipped| std::ptr::eq(*skipped, child));
        let follows_from_skipping = match &error.kind {
            Kind::MissingField(name) => place.node.get(name).is_some(),
            _ => match &place.node.value {
                Value::Seq(items) => items.iter().any(left_out),
                Value::Map(entries) => entries.iter().any(|entry| left_out(&entry.value)),
                _ => false,
            },
        };
        if !follows_from_skipping {
            errors.push(error.into_diagnostic(node));
        }
        if errors.len() >= MAX_ERRORS || std::ptr::eq(place.node, node) {
            return Err(errors);
        }
        skip.push(place.node);
    }
}
