//! A pipeline file into a [`Pipeline`]: its keys, its parameters, its stages.

pub(crate) mod fields;
mod file;
mod quantity;
mod stage;

use std::collections::HashSet;
use std::path::Path;

use indexmap::IndexMap;

use self::fields::{fields, required, value};
use self::stage::StageReader;
use crate::diagnostic::{Diagnostic, Diagnostics, Failure};
use crate::node::{Node, Value};
use crate::pipeline::{Pipeline, StageDecl};
use crate::source::{Sources, Span, Spanned};
use crate::{overrides, params, yaml};

/// The version of the pipeline language, the value of the key `mediant`.
const VERSION: i64 = 1;

pub(crate) fn load(path: &Path, overrides: &[String]) -> Result<Pipeline, Failure> {
    let mut sources = Sources::default();
    match file::read(path, &mut sources) {
        Ok(text) => parse(path, text, overrides),
        Err(error) => Err(Failure { sources, diagnostics: error.into() }),
    }
}

pub(crate) fn parse(path: &Path, text: String, overrides: &[String]) -> Result<Pipeline, Failure> {
    let mut sources = Sources::default();
    let mut errors = Vec::new();
    let pipeline = pipeline(path, text, overrides, &mut sources, &mut errors);
    match (Diagnostics::new(errors), pipeline) {
        (None, Some(pipeline)) => Ok(Pipeline { sources, ..pipeline }),
        (Some(diagnostics), _) => Err(Failure { sources, diagnostics }),
        (None, None) => {
            let error = Diagnostic::new("pipeline", format!("`{}` could not be read as a pipeline", path.display()));
            Err(Failure { sources, diagnostics: error.into() })
        }
    }
}

/// The pipeline without its sources; `None` only after an error.
fn pipeline(
    path: &Path,
    mut text: String,
    overrides: &[String],
    sources: &mut Sources,
    errors: &mut Vec<Diagnostic>,
) -> Option<Pipeline> {
    if let Err(error) = file::check_size(path, text.len() as u64) {
        errors.push(error);
        return None;
    }
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    let source = sources.add(path.display().to_string(), text);
    let mut root = match yaml::read(sources, source, 0) {
        Ok(root) => root,
        Err(found) => {
            errors.extend(found);
            return None;
        }
    };
    if let Some(error) = other_version(&root) {
        errors.push(error); // and nothing else: what its keys mean is not known
        return None;
    }
    let mut used = HashSet::new();
    if !overrides.is_empty() {
        // A parameter stays in use when an override replaces the only place that reads it.
        params::used(&root, sources, &mut used);
    }
    let overrides = overrides.iter().filter_map(|text| overrides::apply(&mut root, text, sources, errors)).collect();
    params::used(&root, sources, &mut used);

    let whole = root.span;
    let keys = ["mediant", "name", "seed", "params", "stages"];
    let [version, name, seed, params, stages] = fields(root, "a pipeline", keys, errors)?;
    required(version, "mediant", whole, errors);
    let name = read_name(name.map(|entry| entry.value), path, whole, errors);
    let seed = seed.and_then(|seed| Some(Spanned::new(value(&seed.value, errors)?, seed.value.span)));
    let raw_params = match params.map(|entry| entry.value) {
        None => Vec::new(),
        Some(Node { value: Value::Map(entries), .. }) => entries,
        Some(other) => {
            errors.push(fields::expected_mapping(&other, "`params`"));
            Vec::new()
        }
    };
    let stages = required(stages, "stages", whole, errors)?;
    let params = params::resolve(&raw_params, &name, sources, errors);
    params::check_used(&raw_params, &used, errors);
    let stages = read_stages(stages.value, sources, &params, &name, errors)?;
    let name_span = name.span;
    let Value::Str(name) = name.value else {
        return None;
    };
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    Some(Pipeline { sources: Sources::default(), dir, name, name_span, seed, params, stages, overrides })
}

/// An error if the pipeline says that it is written in another version of the language.
fn other_version(root: &Node) -> Option<Diagnostic> {
    let version = root.get("mediant")?;
    let message = match version.value {
        Value::Int(VERSION) => return None,
        Value::Int(other) => {
            format!(
                "this pipeline is written in version {other} of the language, and this program reads version {VERSION}"
            )
        }
        _ => format!("`mediant` is the version of the pipeline language, the number {VERSION}"),
    };
    Some(Diagnostic::new("version", message).at(version.span, "").help(format!("write `mediant: {VERSION}`")))
}

/// The pipeline's name as a text node: what is written, or the file's stem.
fn read_name(name: Option<Node>, path: &Path, whole: Span, errors: &mut Vec<Diagnostic>) -> Node {
    let stem = || path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let Some(node) = name else {
        return Node::new(Value::Str(stem()), Span { end: whole.start, ..whole });
    };
    let text: String = value(&node, errors).unwrap_or_else(stem);
    let allowed = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if text.is_empty() || text.len() > 100 || text.starts_with('.') || !text.chars().all(allowed) {
        errors.push(
            Diagnostic::new("name", "this cannot be the name of a pipeline")
                .at(node.span, "")
                .help("up to 100 letters, digits, `_`, `-` and `.`, not beginning with `.`: files are named after it"),
        );
    }
    Node::new(Value::Str(text), node.span)
}

fn read_stages(
    node: Node,
    sources: &Sources,
    params: &IndexMap<String, Node>,
    name: &Node,
    errors: &mut Vec<Diagnostic>,
) -> Option<IndexMap<String, StageDecl>> {
    let span = node.span;
    let Value::Map(entries) = node.value else {
        errors.push(fields::expected_mapping(&node, "`stages`"));
        return None;
    };
    if entries.is_empty() {
        errors.push(Diagnostic::new("missing-key", "a pipeline needs at least one stage").at(span, ""));
    }
    let mut reader = StageReader::new(sources, params, name);
    let mut stages = IndexMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(stage) = reader.stage(entry, errors) {
            stages.insert(stage.name.clone(), stage);
        }
    }
    errors.extend(reader.into_errors());
    Some(stages)
}
