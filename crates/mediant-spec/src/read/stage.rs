//! One stage as written.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::fields::{expected_mapping, fields, required, value};
use super::quantity;
use crate::diagnostic::Diagnostic;
use crate::matrix;
use crate::node::{Entry, Node, Value};
use crate::pipeline::{ResourcesDecl, StageDecl};
use crate::reference::read_inputs;
use crate::source::{Sources, Span, Spanned};
use crate::template::{Scope, Substitution, references, templated};

pub(super) struct StageReader<'a> {
    sources: &'a Sources,
    scope: Scope<'a>,
    substitution: Substitution<'a>,
}

impl<'a> StageReader<'a> {
    pub(super) fn new(sources: &'a Sources, params: &'a IndexMap<String, Node>, name: &'a Node) -> Self {
        Self { sources, scope: Scope { params, name, matrix: None }, substitution: Substitution::new(sources) }
    }

    pub(super) fn into_errors(self) -> Vec<Diagnostic> {
        self.substitution.into_errors()
    }

    /// The stage under a key; `None` after an error without which there is no stage.
    pub(super) fn stage(&mut self, entry: Entry, errors: &mut Vec<Diagnostic>) -> Option<StageDecl> {
        let Entry { key: name, key_span: name_span, value: node } = entry;
        check_id(&name, name_span, errors);
        let keys = ["uses", "with", "inputs", "matrix", "resources", "retries", "timeout"];
        let [uses, with, inputs, matrix, resources, retries, timeout] = fields(node, "a stage", keys, errors)?;
        let [uses, inputs, matrix, resources, retries, timeout] =
            [uses, inputs, matrix, resources, retries, timeout].map(|entry| entry.map(|entry| self.replaced(entry)));

        let uses = required(uses, "uses", name_span, errors)
            .and_then(|uses| Some(Spanned::new(value::<String>(&uses.value, errors)?, uses.value.span)));
        let with = with.map_or_else(|| Node::new(Value::Map(Vec::new()), name_span), |entry| entry.value);
        let templated = templated(&with);
        let reads = if templated { self.check_references(&with, errors) } else { Vec::new() };
        if !templated && with.entries().is_none() {
            errors.push(expected_mapping(&with, "`with`"));
        }
        let inputs = inputs.map_or_else(Vec::new, |entry| read_inputs(entry.value, self.sources, errors));
        let matrix = matrix.and_then(|entry| matrix::read(&entry.value, self.sources, errors));
        let resources = resources.map_or_else(ResourcesDecl::default, |entry| read_resources(entry.value, errors));
        let retries = retries.and_then(|entry| value(&entry.value, errors));
        let timeout = timeout.and_then(|entry| {
            let seconds =
                measured(&entry.value, quantity::seconds, "a length of time such as `90s`, `30m` or `1h30m`", errors)?;
            Some(Duration::from_secs(seconds))
        });
        Some(StageDecl {
            name,
            name_span,
            uses: uses?,
            with: Arc::new(with),
            reads,
            templated,
            inputs,
            matrix,
            resources,
            retries,
            timeout,
        })
    }

    fn replaced(&mut self, mut entry: Entry) -> Entry {
        if templated(&entry.value) {
            entry.value = self.substitution.node(&entry.value, self.scope);
        }
        entry
    }

    /// The matrix variables `with` reads; what else it refers to has to exist.
    fn check_references(&self, with: &Node, errors: &mut Vec<Diagnostic>) -> Vec<Spanned<String>> {
        let mut reads = Vec::new();
        references(with, self.sources, &mut |reference| {
            let result = reference.and_then(|(path, place)| match path.split('.').collect::<Vec<_>>().as_slice() {
                ["matrix", variable, ..] => {
                    reads.push(Spanned::new((*variable).to_owned(), place));
                    Ok(())
                }
                _ => self.scope.lookup(path, place).map(drop),
            });
            errors.extend(result.err());
        });
        reads
    }
}

fn read_resources(node: Node, errors: &mut Vec<Diagnostic>) -> ResourcesDecl {
    let Some([cpus, memory, gpus]) = fields(node, "`resources`", ["cpus", "memory", "gpus"], errors) else {
        return ResourcesDecl::default();
    };
    ResourcesDecl {
        cpus: cpus.and_then(|entry| value(&entry.value, errors)).map(NonZeroU32::get),
        memory: memory.and_then(|entry| {
            measured(&entry.value, quantity::bytes, "an amount of memory such as `512MiB` or `4GiB`", errors)
        }),
        gpus: gpus.and_then(|entry| value(&entry.value, errors)),
    }
}

fn measured(node: &Node, parse: fn(&str) -> Option<u64>, what: &str, errors: &mut Vec<Diagnostic>) -> Option<u64> {
    let amount = node.as_str().and_then(parse);
    if amount.is_none() {
        let message = format!("expected {what}, found {}", node.value.shown());
        errors.push(Diagnostic::new("value", message).at(node.span, "").via(node.via));
    }
    amount
}

fn check_id(name: &str, span: Span, errors: &mut Vec<Diagnostic>) {
    let letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if !(letter && rest && name.len() <= 64) {
        errors.push(
            Diagnostic::new("name", format!("`{name}` cannot be the id of a stage"))
                .at(span, "")
                .help("a lower-case letter, then lower-case letters, digits, `_` and `-`; at most 64"),
        );
    }
}
