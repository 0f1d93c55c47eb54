//! What `inputs` gives to ports: `sae`, `tokens.train`, `sae[name=topk16]`, `ln_free.checkpoints[step=100]`,
//! `{ from: eval, over: [seed] }`, lists and named members of these.

use std::fmt::Write as _;
use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::pipeline::{Given, InputDecl, OutputRef, Reference, Select};
use crate::read::fields::{expected_mapping, fields, required, value};
use crate::source::{Sources, Span, Spanned};
use crate::template::is_name;

pub(crate) fn read_inputs(node: Node, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Vec<InputDecl> {
    let Value::Map(entries) = node.value else {
        errors.push(expected_mapping(&node, "`inputs`"));
        return Vec::new();
    };
    let mut inputs = Vec::with_capacity(entries.len());
    for Entry { key, key_span, value } in entries {
        if let Some(given) = given(value, sources, errors) {
            inputs.push(InputDecl { port: Spanned::new(key, key_span), given });
        }
    }
    inputs
}

fn given(node: Node, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<Given> {
    let span = node.span;
    match node.value {
        Value::Seq(items) if items.is_empty() => {
            errors.push(Diagnostic::new("reference", "this list is empty").at(span, ""));
            None
        }
        Value::Seq(items) => {
            let members: Vec<_> = items.into_iter().map(|item| collected(item, sources, errors)).collect();
            members.into_iter().collect::<Option<_>>().map(Given::List)
        }
        Value::Map(entries) if entries.is_empty() => {
            errors.push(Diagnostic::new("reference", "this mapping names no members").at(span, ""));
            None
        }
        Value::Map(entries) if !entries.iter().any(|entry| is_from(&entry.key)) => {
            let mut member = |Entry { key, key_span, value }| {
                if !is_name(&key) {
                    let error = Diagnostic::new("name", format!("`{key}` cannot name a member")).at(key_span, "");
                    errors.push(error.help("letters, digits, `_` and `-`"));
                }
                Some((Spanned::new(key, key_span), collected(value, sources, errors)?))
            };
            let members: Vec<_> = entries.into_iter().map(&mut member).collect();
            members.into_iter().collect::<Option<_>>().map(Given::Named)
        }
        _ => collected(node, sources, errors).map(Given::One),
    }
}

fn is_from(key: &str) -> bool {
    matches!(key, "from" | "over")
}

/// A reference, or `{ from: reference, over: [axis, …] }`.
fn collected(node: Node, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<Reference> {
    let span = node.span;
    if node.entries().is_none() {
        return reference(&node, sources, errors);
    }
    let [from, over] = fields(node, "a collected input", ["from", "over"], errors)?;
    let from = required(from, "from", span, errors)?;
    let mut reference = reference(&from.value, sources, errors)?;
    if let Some(over) = over {
        let names: Vec<String> = value(&over.value, errors)?;
        let Value::Seq(items) = &over.value.value else {
            return None;
        };
        reference.over = Some(names.into_iter().zip(items).map(|(name, item)| Spanned::new(name, item.span)).collect());
    }
    Some(reference)
}

fn reference(node: &Node, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<Reference> {
    let Some(text) = node.as_str() else {
        let message = format!("an input names a stage, and this is {}", node.value.describe());
        errors.push(Diagnostic::new("reference", message).at(node.span, "").via(node.via).help(FORMS));
        return None;
    };
    let parsed = Parser { text, span: node.span, sources }.reference();
    parsed.map_err(|error| errors.push(error.via(node.via).help(FORMS))).ok()
}

const FORMS: &str = "for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`";

struct Parser<'a> {
    text: &'a str,
    span: Span,
    sources: &'a Sources,
}

impl Parser<'_> {
    fn reference(&self) -> Result<Reference, Diagnostic> {
        let stage = self.name(0)?;
        let mut at = stage.end;
        let mut select = Vec::new();
        if self.text[at..].starts_with('[') {
            let end = self.closing(at)?;
            select = self.selects(at + 1..end)?;
            at = end + 1;
        }
        let mut output = None;
        if self.text[at..].starts_with('.') {
            let name = self.name(at + 1)?;
            at = name.end;
            let mut key = None;
            if self.text[at..].starts_with('[') {
                let end = self.closing(at)?;
                if self.text[at + 1..end].trim().is_empty() {
                    return Err(self.error(at..end + 1, "a key is missing"));
                }
                key = Some(self.spanned(at + 1..end));
                at = end + 1;
            }
            output = Some(Box::new(OutputRef { name: self.spanned(name), key }));
        }
        if at < self.text.len() {
            return Err(self.error(at..self.text.len(), "this does not belong to a reference"));
        }
        Ok(Reference { span: self.span, stage: self.spanned(stage), select, output, over: None })
    }

    fn name(&self, start: usize) -> Result<Range<usize>, Diagnostic> {
        let length = self.text[start..].find(['.', '[']).unwrap_or(self.text.len() - start);
        let range = start..start + length;
        if is_name(&self.text[range.clone()]) {
            return Ok(range);
        }
        let range = if range.is_empty() { 0..self.text.len() } else { range };
        Err(self.error(range, "an input is a stage or `stage.output`"))
    }

    /// The `]` that closes the `[` at `open`; one inside quotes does not count.
    fn closing(&self, open: usize) -> Result<usize, Diagnostic> {
        let (mut quoted, mut escaped) = (false, false);
        for (index, byte) in self.text.bytes().enumerate().skip(open + 1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b']' if !quoted => return Ok(index),
                _ => {}
            }
        }
        Err(self.error(open..open + 1, "this `[` is not closed"))
    }

    fn selects(&self, range: Range<usize>) -> Result<Vec<Select>, Diagnostic> {
        let mut selects: Vec<Select> = Vec::new();
        for part in self.split(range) {
            let Some(equals) = self.text[part.clone()].find('=') else {
                return Err(self.error(part, "a selection is `axis=label`"));
            };
            let axis = self.spanned(part.start..part.start + equals);
            let label = self.spanned(part.start + equals + 1..part.end);
            let label = Spanned::new(unquoted(&label.value), label.span);
            if selects.iter().any(|earlier| earlier.axis.value == axis.value) {
                return Err(self.error(part, "this axis is selected twice"));
            }
            selects.push(Select { axis, label });
        }
        Ok(selects)
    }

    /// The parts between commas outside quotes.
    fn split(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), range.start, false, false);
        for index in range.clone() {
            match self.text.as_bytes()[index] {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    parts.push(start..index);
                    start = index + 1;
                }
                _ => {}
            }
        }
        parts.push(start..range.end);
        parts
    }

    /// The text in a range without the spaces around it, and where it stands.
    fn spanned(&self, range: Range<usize>) -> Spanned<String> {
        let text = &self.text[range.clone()];
        let start = range.start + text.len() - text.trim_start().len();
        let text = text.trim();
        Spanned::new(text.to_owned(), self.sources.within(self.span, self.text, start..start + text.len()))
    }

    fn error(&self, range: Range<usize>, message: &str) -> Diagnostic {
        Diagnostic::new("reference", message).at(self.sources.within(self.span, self.text, range), "")
    }
}

/// A stage's name and its axes as in `sae[name=topk16,seed=0]`. Labels that would not read back are quoted.
pub(crate) fn write_label(stage: &str, axes: &[(String, String)]) -> String {
    let mut out = stage.to_owned();
    for (index, (axis, label)) in axes.iter().enumerate() {
        out.push(if index == 0 { '[' } else { ',' });
        let plain = !label.is_empty()
            && !label.contains(|c: char| c.is_whitespace() || c.is_control() || ",[]\"\\".contains(c));
        // Writing to a String cannot fail.
        let _ = if plain { write!(out, "{axis}={label}") } else { write!(out, "{axis}=\"{}\"", escaped(label)) };
    }
    if !axes.is_empty() {
        out.push(']');
    }
    out
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"")
}

fn unquoted(label: &str) -> String {
    match label.strip_prefix('"').and_then(|label| label.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => label.to_owned(),
    }
}
