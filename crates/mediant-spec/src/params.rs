//! The parameters of a pipeline: they may refer to each other, not in a loop, and each has to be used.

use std::collections::HashSet;

use indexmap::{IndexMap, IndexSet};

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node};
use crate::source::{Sources, Span};
use crate::template::{Scope, Substitution, is_name, references, templated};

/// Longest chain of parameters that refer to each other.
const MAX_CHAIN: usize = 100;

/// The parameters with their references replaced, in written order.
pub(crate) fn resolve(
    raw: &[Entry],
    name: &Node,
    sources: &Sources,
    errors: &mut Vec<Diagnostic>,
) -> IndexMap<String, Node> {
    for entry in raw.iter().filter(|entry| !is_name(&entry.key)) {
        errors.push(
            Diagnostic::new("name", format!("`{}` cannot name a parameter", entry.key))
                .at(entry.key_span, "")
                .help("letters, digits, `_` and `-`"),
        );
    }
    let mut resolver = Resolver {
        raw: raw.iter().map(|entry| (entry.key.as_str(), entry)).collect(),
        done: IndexMap::with_capacity(raw.len()),
        chain: IndexSet::new(),
        name,
        sources,
        substitution: Substitution::new(sources),
        errors: Vec::new(),
    };
    for entry in raw {
        resolver.resolve(entry);
    }
    errors.append(&mut resolver.errors);
    errors.append(&mut resolver.substitution.into_errors());
    let mut done = resolver.done;
    raw.iter().filter_map(|entry| done.swap_remove_entry(&entry.key)).collect()
}

/// Adds the names of all parameters that a pipeline refers to.
pub(crate) fn used(root: &Node, sources: &Sources, names: &mut HashSet<String>) {
    references(root, sources, &mut |reference| {
        if let Some(name) = reference.ok().and_then(|(path, _)| parameter(path)) {
            names.insert(name.to_owned());
        }
    });
}

/// Errors for the parameters that are not among those used.
pub(crate) fn check_used(raw: &[Entry], used: &HashSet<String>, errors: &mut Vec<Diagnostic>) {
    errors.extend(raw.iter().filter(|entry| !used.contains(&entry.key)).map(|entry| {
        Diagnostic::new("unused-param", format!("nothing uses the parameter `{}`", entry.key))
            .at(entry.key_span, "")
            .help(format!("write `${{params.{}}}` where it belongs, or remove it", entry.key))
    }));
}

fn parameter(path: &str) -> Option<&str> {
    path.strip_prefix("params.")?.split('.').next()
}

struct Resolver<'a> {
    raw: IndexMap<&'a str, &'a Entry>,
    done: IndexMap<String, Node>,
    /// The parameters being resolved, each referring to the next.
    chain: IndexSet<&'a str>,
    name: &'a Node,
    sources: &'a Sources,
    substitution: Substitution<'a>,
    errors: Vec<Diagnostic>,
}

impl<'a> Resolver<'a> {
    fn resolve(&mut self, entry: &'a Entry) {
        if self.done.contains_key(&entry.key) {
            return;
        }
        if !templated(&entry.value) {
            self.done.insert(entry.key.clone(), entry.value.clone());
            return;
        }
        self.chain.insert(&entry.key);
        let mut needs = Vec::new();
        references(&entry.value, self.sources, &mut |reference| {
            let Ok((path, place)) = reference else { return };
            if let Some(&needed) = parameter(path).and_then(|name| self.raw.get(name)) {
                needs.push((needed, place));
            }
        });
        let mut sound = true;
        for (needed, place) in needs {
            sound &= self.need(needed, place);
        }
        let scope = Scope { params: &self.done, name: self.name, matrix: None };
        // After a loop the parameter stands for itself, so that its uses are not reported too.
        let value = if sound { self.substitution.node(&entry.value, scope) } else { entry.value.clone() };
        self.chain.pop();
        self.done.insert(entry.key.clone(), value);
    }

    /// Resolves a parameter that the last of the chain refers to; false if that is impossible.
    fn need(&mut self, needed: &'a Entry, place: Span) -> bool {
        if let Some(start) = self.chain.get_index_of(needed.key.as_str()) {
            let mut names: Vec<&str> = self.chain.iter().skip(start).copied().collect();
            names.push(&needed.key);
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            self.errors.push(
                Diagnostic::new(
                    "param-loop",
                    format!("parameters refer to each other in a loop: {}", names.join(" → ")),
                )
                .at(place, "")
                .also(needed.key_span, "declared here"),
            );
            return false;
        }
        if self.chain.len() >= MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} parameters refer to each other in a chain");
            self.errors.push(Diagnostic::new("param-loop", message).at(place, ""));
            return false;
        }
        self.resolve(needed);
        true
    }
}
