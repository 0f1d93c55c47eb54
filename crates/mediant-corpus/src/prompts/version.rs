//! One text of a prompt, written by the grammar.

use crate::document::{Document, Sentence};
use crate::draw::Draw;
use crate::template::{Fill, Template, common};

/// One text with its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionText {
    /// The text before the answer, without the space that belongs to the answer.
    pub text: String,
    /// Its marked parts.
    pub marks: Vec<Mark>,
    /// The right continuations, each with its leading space where one belongs.
    pub right: Vec<String>,
    /// The wrong ones.
    pub wrong: Vec<String>,
    /// Values of the latent variables.
    pub variables: Vec<(&'static str, String)>,
}

/// A named part of a text, `start..end` in bytes; one that is empty stands for the token that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its name.
    pub name: &'static str,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl VersionText {
    /// Adds a variable.
    pub(super) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }
}

/// The variable of a label that marks a word.
const MARK: &str = "mark";

/// Marks a word.
pub(super) fn mark(name: &'static str) -> (&'static str, &'static str) {
    (MARK, name)
}

/// A template and the words that all versions of a prompt share.
pub(super) struct Question {
    pub(super) template: &'static Template,
    /// The shared words are drawn from this stream, for each version anew.
    shared: Draw,
}

impl Question {
    pub(super) fn new(template: &'static Template, shared: Draw) -> Self {
        Self { template, shared }
    }

    /// The sentence up to its question. `fill` says what goes into a slot, for its own ones; none where nothing is asked.
    pub(super) fn version(&self, mut fill: impl FnMut(&str, &mut Draw) -> Option<Fill>) -> Option<VersionText> {
        let mut draw = self.shared.clone();
        written(|sentence| {
            self.template.write(sentence, |slot| fill(slot, &mut draw).unwrap_or_else(|| common(slot, &mut draw)));
        })
    }
}

/// The text of a sentence up to its question, with the words that [`mark`] labels; none where nothing is asked.
pub(super) fn written(write: impl FnOnce(&mut Sentence)) -> Option<VersionText> {
    let mut document = Document::default();
    let mut sentence = Sentence::begin(&mut document);
    write(&mut sentence);
    let cloze = sentence.cloze?;
    let text = document.text[..cloze.at].trim_end().to_owned();
    let labels = document.labels.iter().filter(|label| label.variable == MARK && label.end as usize <= text.len());
    let marks =
        labels.map(|label| Mark { name: label.value, start: label.start as usize, end: label.end as usize }).collect();
    let answer = |word| vec![format!(" {word}")];
    // The first word of a text has no prompt.
    let version =
        VersionText { text, marks, right: answer(cloze.right), wrong: answer(cloze.wrong), variables: Vec::new() };
    (!version.text.is_empty()).then_some(version)
}
