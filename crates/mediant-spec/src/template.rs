//! `${params.x}`, `${matrix.x}` and `${pipeline.name}` in values. There is no arithmetic and no code.

use std::borrow::Cow;
use std::ops::Range;

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::source::{Sources, Span};
use crate::suggest::suggest;
use crate::yaml::{MAX_DEPTH, MAX_WEIGHT};

/// What references can name.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The parameters, resolved.
    pub(crate) params: &'a IndexMap<String, Node>,
    /// `${pipeline.name}`.
    pub(crate) name: &'a Node,
    /// The variables at a point of the axes; `None` outside `with`.
    pub(crate) matrix: Option<&'a [(&'a str, &'a Node)]>,
}

enum Part<'a> {
    Text(&'a str),
    /// The path between `${` and `}`, and the range of the whole.
    Reference(&'a str, Range<usize>),
}

/// Whether anything in a node is to be replaced.
pub(crate) fn templated(node: &Node) -> bool {
    match &node.value {
        Value::Str(text) => text.contains("${"),
        Value::Seq(items) => items.iter().any(templated),
        Value::Map(entries) => entries.iter().any(|entry| entry.key.contains("${") || templated(&entry.value)),
        _ => false,
    }
}

/// Takes the path and the place of a reference, or what is wrong with it.
type Visit<'v> = dyn FnMut(Result<(&str, Span), Diagnostic>) + 'v;

/// Visits every reference in a node.
pub(crate) fn references(node: &Node, sources: &Sources, visit: &mut Visit<'_>) {
    match &node.value {
        Value::Str(text) if text.contains("${") => match checked_parts(node, text, sources) {
            Ok(parts) => {
                for part in parts {
                    if let Part::Reference(path, range) = part {
                        visit(Ok((path, sources.within(node.span, text, range))));
                    }
                }
            }
            Err(error) => visit(Err(error)),
        },
        Value::Seq(items) => items.iter().for_each(|item| references(item, sources, visit)),
        Value::Map(entries) => entries.iter().for_each(|entry| references(&entry.value, sources, visit)),
        _ => {}
    }
}

/// Replaces references and counts what that takes, so that parameters that repeat each other cannot exhaust memory.
pub(crate) struct Substitution<'a> {
    sources: &'a Sources,
    errors: Vec<Diagnostic>,
    weight: usize,
}

impl<'a> Substitution<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        Self { sources, errors: Vec::new(), weight: 0 }
    }

    pub(crate) fn into_errors(self) -> Vec<Diagnostic> {
        self.errors
    }

    /// The node with every reference replaced. What is wrong is kept as an error, and the value in question is then `null`.
    pub(crate) fn node(&mut self, node: &Node, scope: Scope<'_>) -> Node {
        let replaced = self.replace(node, scope);
        if replaced.depth() > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep once `${{…}}` is replaced");
            return self.fail(node, Diagnostic::new("substitution", message).at(node.span, ""));
        }
        replaced
    }

    fn fail(&mut self, node: &Node, error: Diagnostic) -> Node {
        self.errors.push(error);
        Node::new(Value::Null, node.span)
    }

    fn replace(&mut self, node: &Node, scope: Scope<'_>) -> Node {
        if self.weight > MAX_WEIGHT {
            return Node::new(Value::Null, node.span); // reported when the limit was passed
        }
        if let Err(error) = self.charge(size_of::<Node>(), node.span) {
            return self.fail(node, error);
        }
        let value = match &node.value {
            Value::Str(text) if text.contains("${") => match self.text(node, text, scope) {
                Ok(node) => return node,
                Err(error) => return self.fail(node, error),
            },
            Value::Seq(items) => Value::Seq(items.iter().map(|item| self.replace(item, scope)).collect()),
            Value::Map(entries) => Value::Map(entries.iter().map(|entry| self.entry(entry, scope)).collect()),
            scalar => scalar.clone(),
        };
        Node { value, span: node.span, via: node.via }
    }

    fn entry(&mut self, entry: &Entry, scope: Scope<'_>) -> Entry {
        if entry.key.contains("${") {
            self.errors.push(Diagnostic::new("substitution", "`${…}` cannot be part of a key").at(entry.key_span, ""));
        }
        Entry { key: entry.key.clone(), key_span: entry.key_span, value: self.replace(&entry.value, scope) }
    }

    /// Text with references: the value itself if the text is one reference and nothing else, otherwise text.
    fn text(&mut self, node: &Node, text: &str, scope: Scope<'_>) -> Result<Node, Diagnostic> {
        let parts = checked_parts(node, text, self.sources)?;
        if let [Part::Reference(path, range)] = parts.as_slice() {
            let place = self.sources.within(node.span, text, range.clone());
            let found = scope.lookup(path, place)?;
            self.charge(found.weight(), place)?;
            let mut found = found.clone();
            found.set_via(node.via.unwrap_or(node.span));
            return Ok(found);
        }
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(text) => out += text,
                Part::Reference(path, range) => {
                    let place = self.sources.within(node.span, text, range);
                    let found = scope.lookup(path, place)?;
                    let written = as_written(found, self.sources).ok_or_else(|| {
                        Diagnostic::new(
                            "substitution",
                            format!("`{path}` is {}, which cannot stand inside text", found.value.describe()),
                        )
                        .at(place, "")
                        .also(found.span, "its value")
                        .help("a value that is replaced as a whole keeps its type: write nothing else around it")
                    })?;
                    self.charge(written.len(), place)?;
                    out += &written;
                }
            }
        }
        Ok(Node { value: Value::Str(out), span: node.span, via: node.via })
    }

    fn charge(&mut self, weight: usize, span: Span) -> Result<(), Diagnostic> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        let message = format!("values take more than {} MiB once `${{…}}` is replaced", MAX_WEIGHT >> 20);
        Err(Diagnostic::new("substitution", message).at(span, "the limit is passed here"))
    }
}

impl<'a> Scope<'a> {
    /// The value a path such as `params.model.layer` names.
    pub(crate) fn lookup(self, path: &str, place: Span) -> Result<&'a Node, Diagnostic> {
        let unknown =
            |message: String, help: String| Diagnostic::new("unknown-reference", message).at(place, "").help(help);
        let (root, rest) = path.split_once('.').unwrap_or((path, ""));
        let (name, keys) = rest.split_once('.').unwrap_or((rest, ""));
        let found = match (root, self.matrix) {
            ("params", _) => self.params.get(name),
            ("pipeline", _) => (name == "name").then_some(self.name),
            ("matrix", Some(variables)) => {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, node)| *node)
            }
            ("matrix", None) => {
                let help = "the matrix can be read in `with` only".to_owned();
                return Err(unknown(format!("`{path}` has no value here"), help));
            }
            _ => {
                let help = if rest.is_empty() && self.params.contains_key(root) {
                    format!("did you mean `${{params.{root}}}`?")
                } else {
                    "there are `${params.…}`, `${matrix.…}` and `${pipeline.name}`; write `$${` for a literal `${`"
                        .to_owned()
                };
                return Err(unknown(format!("nothing is called `{path}`"), help));
            }
        };
        let Some(mut node) = found else {
            let help = match root {
                "params" => suggest(name, self.params.keys().map(String::as_str), "parameters"),
                "matrix" => {
                    suggest(name, self.matrix.into_iter().flatten().map(|(name, _)| *name), "matrix variables here")
                }
                _ => "there is `${pipeline.name}`".to_owned(),
            };
            return Err(unknown(format!("`{root}` has no `{name}`"), help));
        };
        let mut parent = root.len() + 1 + name.len();
        for key in keys.split('.').filter(|key| !key.is_empty()) {
            let Some(child) = node.get(key) else {
                let known = node.entries().unwrap_or_default().iter().map(|entry| entry.key.as_str());
                return Err(unknown(format!("`{}` has no `{key}`", &path[..parent]), suggest(key, known, "keys")));
            };
            node = child;
            parent += 1 + key.len();
        }
        Ok(node)
    }
}

/// A scalar in the form in which it is written (`1e-3` stays `1e-3`); `None` for nothing, lists and mappings.
pub(crate) fn as_written<'a>(node: &'a Node, sources: &'a Sources) -> Option<Cow<'a, str>> {
    match &node.value {
        Value::Str(text) => Some(Cow::Borrowed(text)),
        Value::Null | Value::Seq(_) | Value::Map(_) => None,
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
            Some(Cow::Borrowed(sources.slice(node.span)))
        }
    }
}

fn checked_parts<'t>(node: &Node, text: &'t str, sources: &Sources) -> Result<Vec<Part<'t>>, Diagnostic> {
    parts(text).map_err(|(range, message, help)| {
        Diagnostic::new("substitution", message).at(sources.within(node.span, text, range), "").help(help)
    })
}

type Malformed = (Range<usize>, &'static str, &'static str);

fn parts(text: &str) -> Result<Vec<Part<'_>>, Malformed> {
    let mut parts = Vec::new();
    let mut rest = 0;
    while let Some(shift) = text[rest..].find("${") {
        let start = rest + shift;
        if text[..start].ends_with('$') && start > rest {
            parts.push(Part::Text(&text[rest..start - 1]));
            parts.push(Part::Text("${"));
            rest = start + 2;
            continue;
        }
        let Some(length) = text[start..].find('}') else {
            return Err((start..start + 2, "this `${` is not closed", "write `$${` for a literal `${`"));
        };
        let range = start..start + length + 1;
        let path = text[start + 2..start + length].trim();
        if path.is_empty() || path.split('.').any(|step| !is_name(step)) {
            return Err((
                range,
                "a reference is a path of names",
                "for example `${params.layer}`; there is no arithmetic",
            ));
        }
        if start > rest {
            parts.push(Part::Text(&text[rest..start]));
        }
        rest = range.end;
        parts.push(Part::Reference(path, range));
    }
    if rest < text.len() {
        parts.push(Part::Text(&text[rest..]));
    }
    Ok(parts)
}

/// Letters, digits, `_` and `-`: what can be named in a reference.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
