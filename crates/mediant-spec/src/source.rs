//! Where a value stands: sources and byte ranges in them.

use std::num::NonZeroU32;
use std::ops::Range;

/// One text that was read: the pipeline file, or one `--set`.
///
/// Stored as index + 1, so that `Option<Span>` is as small as `Span` (a file of 10,000 stages holds 10^5 of them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(NonZeroU32);

/// A byte range in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text the range is in.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// All texts a pipeline was read from.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: String,
}

impl<T> Spanned<T> {
    /// `value` at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl Span {
    /// The range as an index into the text of its source.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Sources {
    /// Adds a text under the name that messages show.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.0.push(Source { name: name.into(), text: text.into() });
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        SourceId(NonZeroU32::new(count).unwrap_or(NonZeroU32::MAX))
    }

    /// The name given to [`Sources::add`]; empty for an id of another `Sources`.
    pub fn name(&self, id: SourceId) -> &str {
        self.get(id).map_or("", |source| &source.name)
    }

    /// The whole text; empty for an id of another `Sources`.
    pub fn text(&self, id: SourceId) -> &str {
        self.get(id).map_or("", |source| &source.text)
    }

    /// The text a span covers.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.source).get(span.range()).unwrap_or("")
    }

    /// Line and column of a span's start, from 1; the column counts characters.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let before = self.text(span.source).get(..span.start as usize).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
    }

    /// The place of `value[range]`, where `value` is the text of the scalar at `span`: exact when the scalar is written without
    /// escapes, else that of the first equal text in it, else the whole scalar.
    pub fn within(&self, span: Span, value: &str, range: Range<usize>) -> Span {
        let written = self.slice(span);
        let start = match written.find(value) {
            Some(shift) => shift + range.start,
            None => match written.find(&value[range.clone()]) {
                Some(start) => start,
                None => return span,
            },
        };
        let at = |offset: usize| u32::try_from(offset).map_or(span.end, |offset| span.start + offset);
        Span { source: span.source, start: at(start), end: at(start + range.len()) }
    }

    fn get(&self, id: SourceId) -> Option<&Source> {
        self.0.get(id.0.get() as usize - 1)
    }
}
