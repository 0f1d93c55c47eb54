//! Errors on the way through serde, which knows no places: they are added as the error passes the node it is about.

use std::fmt;

use serde::de;

use crate::diagnostic::Diagnostic;
use crate::node::Node;
use crate::source::Span;
use crate::suggest::suggest;

#[derive(Debug)]
pub(super) struct Error<'n> {
    pub(super) kind: Kind,
    place: Option<Place<'n>>,
}

#[derive(Debug)]
pub(super) enum Kind {
    MissingField(&'static str),
    UnknownVariant { found: String, variants: &'static [&'static str] },
    Other { code: &'static str, message: String, help: Option<String> },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'n> {
    /// The value, or the value under the key, that the error is about.
    pub(super) node: &'n Node,
    span: Span,
}

impl<'n> Error<'n> {
    pub(super) fn new(code: &'static str, message: String, help: Option<String>) -> Self {
        Self { kind: Kind::Other { code, message, help }, place: None }
    }

    /// Says what the error is about, unless that is known.
    pub(super) fn at(mut self, node: &'n Node) -> Self {
        self.place.get_or_insert(Place { node, span: node.span });
        self
    }

    /// Says that the error is about the key above a value, unless something is known.
    pub(super) fn at_key(mut self, key: Span, value: &'n Node) -> Self {
        self.place.get_or_insert(Place { node: value, span: key });
        self
    }

    pub(super) fn place(&self, root: &'n Node) -> Place<'n> {
        self.place.unwrap_or(Place { node: root, span: root.span })
    }

    pub(super) fn into_diagnostic(self, root: &'n Node) -> Diagnostic {
        let place = self.place(root);
        let diagnostic = match self.kind {
            Kind::MissingField(name) => {
                Diagnostic::new("missing-key", format!("the key `{name}` is missing")).at(place.span, "in this mapping")
            }
            Kind::UnknownVariant { found, variants } => {
                Diagnostic::new("unknown-value", format!("`{found}` is not known here"))
                    .at(place.span, "")
                    .help(suggest(&found, variants.iter().copied(), "values"))
            }
            Kind::Other { code, message, help } => {
                let diagnostic = Diagnostic::new(code, message).at(place.span, "");
                match help {
                    Some(help) => diagnostic.help(help),
                    None => diagnostic,
                }
            }
        };
        diagnostic.via(place.node.via)
    }
}

impl de::Error for Error<'_> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new("value", message.to_string(), None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { kind: Kind::MissingField(field), place: None }
    }

    fn unknown_variant(variant: &str, variants: &'static [&'static str]) -> Self {
        Self { kind: Kind::UnknownVariant { found: variant.to_owned(), variants }, place: None }
    }
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::MissingField(name) => write!(f, "the key `{name}` is missing"),
            Kind::UnknownVariant { found, .. } => write!(f, "`{found}` is not known here"),
            Kind::Other { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error<'_> {}
