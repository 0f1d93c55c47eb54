//! YAML text into [`Node`]s: the events of the parser under serde-saphyr, with limits.
//!
//! The dialect is YAML 1.2 with its core schema. Keys are text and distinct; `<<` merges mappings; an alias is a copy.
//! Tags, directives and several documents in one file are errors.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput};

use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::scalar;
use crate::source::{SourceId, Sources, Span};

/// Largest file, in bytes.
pub const MAX_BYTES: u64 = 32 << 20;
/// Deepest nesting of sequences and mappings.
pub const MAX_DEPTH: usize = 100;
/// Most memory that the values of one file may take once aliases are copied or references replaced, in bytes.
pub const MAX_WEIGHT: usize = 128 << 20;

/// Reads the text of a source from byte `start` on; empty text is `null`.
pub(crate) fn read(sources: &Sources, source: SourceId, start: u32) -> Result<Node, Vec<Diagnostic>> {
    let text = &sources.text(source)[start as usize..];
    let options = granit_parser::options! { disallow_directives: true };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        source,
        start,
        anchors: HashMap::new(),
        weight: 0,
        errors: Vec::new(),
    };
    match reader.document() {
        Ok(node) if reader.errors.is_empty() => Ok(node),
        Ok(_) => Err(reader.errors),
        Err(fatal) => {
            reader.errors.push(fatal);
            Err(reader.errors)
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    source: SourceId,
    /// Offset of `text` in its source.
    start: u32,
    anchors: HashMap<usize, Node>,
    weight: usize,
    /// Errors after which reading goes on.
    errors: Vec<Diagnostic>,
}

type Result<T, E = Diagnostic> = std::result::Result<T, E>;

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Diagnostic::new(
                        "yaml",
                        "a pipeline is one YAML document, and a second one starts here",
                    )
                    .at(span, "")
                    .help("put each pipeline into a file of its own"));
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(root.unwrap_or_else(|| Node::new(Value::Null, span))),
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or(0..0);
                Ok((event, self.span(range.start, range.end)))
            }
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok((Event::StreamEnd, self.span(self.text.len(), self.text.len()))),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::new("yaml", format!("nested more than {MAX_DEPTH} levels deep")).at(span, ""));
        }
        let (node, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, span)?, anchor, tag),
            Event::SequenceStart(_, anchor, tag) => (self.sequence(span, depth)?, anchor, tag),
            Event::MappingStart(_, anchor, tag) => (self.mapping(span, depth)?, anchor, tag),
            Event::Alias(anchor) => return self.alias(anchor, span),
            _ => return Err(Diagnostic::new("yaml", "expected a value").at(span, "")),
        };
        if let Some(tag) = tag {
            self.errors.push(
                Diagnostic::new("yaml", format!("the tag `{}` has no meaning in a pipeline", tag.original()))
                    .at(node.span, "this value has a tag")
                    .help("quote a value to make it text; other types follow from how a value is written"),
            );
        }
        if anchor != 0 {
            self.charge(node.weight(), span)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&mut self, text: Cow<'a, str>, style: ScalarStyle, span: Span) -> Result<Node> {
        self.charge(size_of::<Node>() + text.len(), span)?;
        let value = if style == ScalarStyle::Plain {
            scalar::resolve(&text).unwrap_or_else(|| {
                self.errors.push(
                    Diagnostic::new("number-range", "this number is too large")
                        .at(span, "")
                        .help("integers go from -9223372036854775808 to 18446744073709551615; quote it if it is text"),
                );
                Value::Null
            })
        } else {
            Value::Str(text.into_owned())
        };
        Ok(Node::new(value, span))
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Node> {
        let (mut items, mut end) = (Vec::new(), start.end);
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                // A block ends where its last item does; the parser reports the start of what follows.
                end = if span.start < span.end { span.end } else { end };
                break;
            }
            let item = self.node(event, span, depth + 1)?;
            end = item.via.unwrap_or(item.span).end;
            items.push(item);
        }
        items.shrink_to_fit();
        self.charge(size_of::<Node>(), start)?;
        Ok(Node::new(Value::Seq(items), Span { end, ..start }))
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Node> {
        let (mut entries, mut merges, mut end) = (Vec::new(), Vec::new(), start.end);
        let mut index = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let (key, style) = match event {
                Event::MappingEnd => {
                    end = if span.start < span.end { span.end } else { end };
                    break;
                }
                Event::Scalar(key, style, ..) if !span.range().is_empty() => (key, style),
                _ => {
                    return Err(Diagnostic::new("yaml", "a key has to be text").at(span, "this is no text"));
                }
            };
            self.charge(size_of::<Entry>() - size_of::<Node>() + key.len(), span)?;
            let (event, value_span) = self.next()?;
            let mut value = self.node(event, value_span, depth + 1)?;
            if value.span.range().is_empty() && value.via.is_none() {
                value.span = span; // nothing is written there: messages point at the key
            }
            end = value.via.unwrap_or(value.span).end;
            if key == "<<" && style == ScalarStyle::Plain {
                merges.push(value);
            } else if let Some(earlier) = position(&entries, &mut index, &key) {
                self.errors.push(duplicate_key(&key, span, entries[earlier].key_span));
            } else {
                index_new(&mut index, &key, entries.len());
                entries.push(Entry { key: key.into_owned(), key_span: span, value });
            }
        }
        for merge in merges {
            self.merge(&mut entries, merge);
        }
        entries.shrink_to_fit();
        self.charge(size_of::<Node>(), start)?;
        Ok(Node::new(Value::Map(entries), Span { end, ..start }))
    }

    /// `<<: mapping` or `<<: [mapping, …]`: the keys that are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, merge: Node) {
        match merge.value {
            Value::Map(merged) => {
                let known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
                entries.extend(merged.into_iter().filter(|entry| !known.contains(&entry.key)));
            }
            Value::Seq(list) if list.iter().all(|item| item.entries().is_some()) => {
                for item in list {
                    self.merge(entries, item);
                }
            }
            other => self.errors.push(
                Diagnostic::new("yaml", format!("`<<` merges mappings, and this is {}", other.describe()))
                    .at(merge.span, "")
                    .via(merge.via),
            ),
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node> {
        let Some(weight) = self.anchors.get(&anchor).map(Node::weight) else {
            return Err(Diagnostic::new("yaml", "this alias stands inside the value it repeats").at(span, ""));
        };
        self.charge(weight, span)?;
        let mut node = self.anchors[&anchor].clone();
        node.set_via(span);
        Ok(node)
    }

    fn charge(&mut self, weight: usize, span: Span) -> Result<()> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        let message =
            format!("the values of this file take more than {} MiB once aliases are copied", MAX_WEIGHT >> 20);
        Err(Diagnostic::new("yaml", message).at(span, "the limit is passed here"))
    }

    fn span(&self, start: usize, end: usize) -> Span {
        // No overflow: a source is at most MAX_BYTES long.
        let at = |offset: usize| self.start + u32::try_from(offset).unwrap_or(u32::MAX - self.start);
        Span { source: self.source, start: at(start), end: at(end) }
    }

    fn syntax_error(&self, error: &ScanError) -> Diagnostic {
        use ErrorKind as K;
        let mut at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let tab = self.text[at..].find('\t').map(|shift| at + shift);
        let (message, help) = match (error.kind(), tab) {
            (K::TabNotAllowed | K::TabInBlockIndentation | K::TabInIndentation | K::TabInPlainScalar, Some(tab)) => {
                at = tab;
                ("a tab cannot indent YAML".to_owned(), "indent with spaces")
            }
            (K::MappingValueNotAllowed, _) => (
                "a `: ` cannot stand here".to_owned(),
                "quote the text if the colon belongs to it, or begin a new line",
            ),
            (K::ExpectedFlowMappingSeparator | K::ExpectedFlowSequenceSeparator, _) => {
                (error.info(), "inside `{ }` and `[ ]`, quote a value that holds one of `[]{},`: \"sae[name=topk16]\"")
            }
            (K::UnknownAnchor, _) => ("this alias has no anchor before it".to_owned(), "an anchor is written `&name`"),
            (K::DirectiveDisallowed, _) => ("a pipeline has no YAML directives".to_owned(), "remove the line"),
            _ => (error.info(), ""),
        };
        let width = self.text[at..].chars().next().map_or(0, char::len_utf8);
        let diagnostic = Diagnostic::new("yaml", message).at(self.span(at, at + width), "");
        if help.is_empty() { diagnostic } else { diagnostic.help(help) }
    }
}

/// Above this many keys a hash map finds duplicates; below it looking through them is faster.
const FEW: usize = 16;

fn position(entries: &[Entry], index: &mut HashMap<String, usize>, key: &str) -> Option<usize> {
    if entries.len() < FEW {
        return entries.iter().position(|entry| entry.key == key);
    }
    if index.is_empty() {
        index.extend(entries.iter().enumerate().map(|(position, entry)| (entry.key.clone(), position)));
    }
    index.get(key).copied()
}

fn index_new(index: &mut HashMap<String, usize>, key: &str, position: usize) {
    if position >= FEW {
        index.insert(key.to_owned(), position);
    }
}

fn duplicate_key(key: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::new("duplicate-key", format!("the key `{key}` is given twice"))
        .at(second, "again here")
        .also(first, "first here")
}
