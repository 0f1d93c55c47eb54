//! What is wrong, where, and what to do about it.

use crate::source::{Sources, Span};

/// One error: a sentence, the places it is about, and help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A short stable name, shown as `error[unknown-field]`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The places; the first primary one gives the line and column shown.
    pub labels: Vec<Label>,
    /// What to do, a line each.
    pub help: Vec<String>,
}

/// A place in a source and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// Text beside the underline; may be empty.
    pub text: String,
    /// Whether the error is here (underlined with carets) or this place only explains it.
    pub primary: bool,
}

/// At least one [`Diagnostic`], in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

/// A pipeline that could not be read: the errors and the texts they point into.
///
/// `Display` gives the rendered errors without colour.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .diagnostics.render(.sources, false))]
pub struct Failure {
    /// What was read.
    pub sources: Sources,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

impl Diagnostic {
    /// An error that has no place yet.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), help: Vec::new() }
    }

    /// Adds the place of the error.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: true });
        self
    }

    /// Adds a place that explains it.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    /// Adds the place where a substituted value was put to use, if it was ([`crate::Node::via`]).
    #[must_use]
    pub fn via(self, via: Option<Span>) -> Self {
        match via {
            Some(span) => self.also(span, "used here"),
            None => self,
        }
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Where the error is: the first primary place.
    pub fn span(&self) -> Option<Span> {
        self.labels.iter().find(|label| label.primary).map(|label| label.span)
    }
}

impl Diagnostics {
    /// The errors sorted by place, equal ones once, or `None` if there are none.
    pub fn new(mut list: Vec<Diagnostic>) -> Option<Self> {
        list.sort_by_key(|diagnostic| diagnostic.span());
        list.dedup();
        (!list.is_empty()).then_some(Self(list))
    }

    /// `Ok(value)` if the list is empty.
    pub fn check<T>(list: Vec<Diagnostic>, value: T) -> Result<T, Self> {
        Self::new(list).map_or(Ok(value), Err)
    }

    /// The errors.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The errors as a list.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }

    /// The errors as text for a terminal: the message, `file:line:column`, the line, a caret, help. Ends with a newline.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        crate::render::render(&self.0, sources, color)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}
