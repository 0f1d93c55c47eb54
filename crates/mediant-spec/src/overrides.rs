//! `--set params.layer=3`: changes to a pipeline before it is read. The text of each is a source of its own, so that messages
//! can point into it.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::source::{SourceId, Sources, Span};
use crate::suggest::suggest;
use crate::yaml;

/// Applies one override; its path and its value's text, or `None` after an error.
pub(crate) fn apply(
    root: &mut Node,
    text: &str,
    sources: &mut Sources,
    errors: &mut Vec<Diagnostic>,
) -> Option<(String, String)> {
    let source = sources.add("--set", text);
    let whole = span(source, 0..text.len());
    let Some((path, value_text)) = text.split_once('=') else {
        errors.push(
            Diagnostic::new("override", "an override is `path=value`")
                .at(whole, "")
                .help("for example `params.layer=3`"),
        );
        return None;
    };
    let value = match yaml::read(sources, source, span(source, 0..path.len() + 1).end) {
        Ok(value) => value,
        Err(found) => {
            errors.extend(found);
            return None;
        }
    };
    match set(root, source, path, value) {
        Ok(()) => Some((path.trim().to_owned(), value_text.trim().to_owned())),
        Err(error) => {
            errors.push(error);
            None
        }
    }
}

fn set(root: &mut Node, source: SourceId, path: &str, value: Node) -> Result<(), Diagnostic> {
    let steps = steps(path);
    let Some((last, parents)) = steps.split_last() else {
        let place = span(source, 0..path.len());
        return Err(Diagnostic::new("override", "a path comes before the `=`")
            .at(place, "")
            .help("for example `params.layer=3`"));
    };
    let mut node = root;
    let mut so_far = Vec::new();
    for (step, range) in parents {
        // A stage may have no options yet.
        let create = matches!(so_far.as_slice(), ["stages", _]) && matches!(*step, "with" | "resources");
        node = child(node, step, span(source, range.clone()), &so_far, create)?;
        so_far.push(step);
    }
    let (step, range) = last;
    let create = !matches!(so_far.as_slice(), ["params"] | ["stages"]);
    *child(node, step, span(source, range.clone()), &so_far, create)? = value;
    Ok(())
}

/// The names of a path such as `stages.acts.with.hooks[0]`, with their places in it.
fn steps(path: &str) -> Vec<(&str, Range<usize>)> {
    let mut steps = Vec::new();
    let mut start = 0;
    for part in path.split(['.', '[']) {
        let step = part.trim_end_matches(']').trim();
        if !step.is_empty() {
            let shift = part.len() - part.trim_start().len();
            steps.push((step, start + shift..start + shift + step.len()));
        }
        start += part.len() + 1;
    }
    steps
}

fn child<'n>(
    node: &'n mut Node,
    step: &str,
    place: Span,
    so_far: &[&str],
    create: bool,
) -> Result<&'n mut Node, Diagnostic> {
    let parent = if so_far.is_empty() { "the pipeline".to_owned() } else { format!("`{}`", so_far.join(".")) };
    let error = |message: String, help: String| Err(Diagnostic::new("override", message).at(place, "").help(help));
    match &mut node.value {
        Value::Seq(items) => {
            let count = items.len();
            match step.parse::<usize>().ok().filter(|index| *index < count) {
                Some(index) => Ok(&mut items[index]),
                None => {
                    error(format!("{parent} has no item `{step}`"), format!("it is a list of {count}, counted from 0"))
                }
            }
        }
        Value::Map(entries) => {
            let index = match entries.iter().position(|entry| entry.key == step) {
                Some(index) => index,
                None if create => {
                    let value = Node::new(Value::Map(Vec::new()), place);
                    entries.push(Entry { key: step.to_owned(), key_span: place, value });
                    entries.len() - 1
                }
                None => {
                    let keys = entries.iter().map(|entry| entry.key.as_str());
                    return error(format!("{parent} has no `{step}`"), suggest(step, keys, "keys"));
                }
            };
            Ok(&mut entries[index].value)
        }
        other => {
            let message = format!("{parent} is {}, so there is no `{step}` in it", other.describe());
            error(message, format!("set {parent} as a whole"))
        }
    }
}

fn span(source: SourceId, range: Range<usize>) -> Span {
    let at = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
    Span { source, start: at(range.start), end: at(range.end) }
}
