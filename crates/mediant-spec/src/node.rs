//! YAML as a tree in which every key and value keeps its place.

use crate::source::Span;

/// A value, where it is written, and where it was put to use.
///
/// Two nodes are equal when their values are, wherever they stand: the order of a mapping's keys does not matter, an integer
/// differs from a float, and NaN equals NaN.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is written there.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
    /// Where the `${…}` or the alias stands that brought the value to its present place; the outermost one if several did.
    pub via: Option<Span>,
}

/// The values of YAML's core schema. Keys of mappings are text as written.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`; `yes`, `no`, `on` and `off` are text.
    Bool(bool),
    /// An integer that fits `i64`.
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    /// A number with a point or an exponent, `.inf`, `-.inf` or `.nan`.
    Float(f64),
    /// Text.
    Str(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping in written order, its keys distinct.
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A value at a place, not substituted.
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span, via: None }
    }

    /// The text of a text node.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether this is neither a sequence nor a mapping.
    pub fn is_scalar(&self) -> bool {
        !matches!(self.value, Value::Seq(_) | Value::Map(_))
    }

    /// Marks the node and everything in it as brought here by what stands at `via`.
    pub(crate) fn set_via(&mut self, via: Span) {
        self.via = Some(via);
        match &mut self.value {
            Value::Seq(items) => items.iter_mut().for_each(|item| item.set_via(via)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.set_via(via)),
            _ => {}
        }
    }

    /// Levels of sequences and mappings.
    pub(crate) fn depth(&self) -> usize {
        match &self.value {
            Value::Seq(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Memory the tree takes, roughly, in bytes: what limits on aliases and substitution count.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Node>()
            + match &self.value {
                Value::Str(text) => text.len(),
                Value::Seq(items) => items.iter().map(Node::weight).sum(),
                Value::Map(entries) => entries.iter().map(Entry::weight).sum(),
                _ => 0,
            }
    }
}

impl Entry {
    pub(crate) fn weight(&self) -> usize {
        size_of::<Entry>() - size_of::<Node>() + self.key.len() + self.value.weight()
    }
}

impl Value {
    /// What messages call it: "text", "an integer", "a mapping".
    pub fn describe(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::UInt(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Str(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value itself where it is short: "the number 3", "the text `fast`", "a list".
    pub fn shown(&self) -> String {
        match self {
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(number) => format!("the number {number}"),
            Value::UInt(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number:?}"),
            Value::Str(text) if text.chars().count() <= 40 => format!("the text `{text}`"),
            other => other.describe().to_owned(),
        }
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::UInt(a), Value::UInt(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Seq(a), Value::Seq(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && sorted(a).iter().zip(sorted(b)).all(|(x, y)| x.key == y.key && x.value == y.value)
            }
            _ => false,
        }
    }
}

fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// The node at a path such as `sae.k` or `hooks[1]`, or its nearest existing ancestor: where a message about it points.
pub fn node_at<'a>(root: &'a Node, path: &str) -> &'a Node {
    let mut node = root;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match &node.value {
            Value::Seq(items) => step.trim_end_matches(']').parse().ok().and_then(|index: usize| items.get(index)),
            _ => node.get(step),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}
