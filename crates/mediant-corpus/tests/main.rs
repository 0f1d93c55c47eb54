//! What the grammar promises: the same text for the same seed, labels that point at what they name, nothing held out in training.
#![allow(clippy::unwrap_used)]

mod suite {
    mod corpus;
    mod held_out;
    mod labels;
    mod prompts;
    mod tasks;
}

use mediant_corpus::{Corpus, Document, Label};

/// Sentences of a training corpus large enough that every word and template occurs in it.
fn training() -> impl Iterator<Item = Document> {
    Corpus::new(7, 60_000)
}

/// A sentence of a document: its kind, its range and all labels inside it.
struct Sentence<'a> {
    document: &'a Document,
    kind: &'static str,
    labels: Vec<Label>,
}

impl<'a> Sentence<'a> {
    fn of(document: &'a Document) -> impl Iterator<Item = Self> {
        let inside = |outer: Label| move |inner: &&Label| outer.start <= inner.start && inner.end <= outer.end;
        document.labels.iter().filter(|label| label.variable == "kind").map(move |kind| Sentence {
            document,
            kind: kind.value,
            labels: document.labels.iter().filter(inside(*kind)).copied().collect(),
        })
    }

    /// Words whose `variable` has this value.
    fn words(&self, variable: &str, value: &str) -> Vec<&'a str> {
        let wanted = |label: &&Label| label.variable == variable && label.value == value;
        self.labels.iter().filter(wanted).map(|label| text(self.document, label)).collect()
    }

    /// The values of a variable, over words and sentence.
    fn values(&self, variable: &str) -> Vec<&'static str> {
        self.labels.iter().filter(|label| label.variable == variable).map(|label| label.value).collect()
    }
}

fn text<'a>(document: &'a Document, label: &Label) -> &'a str {
    &document.text[label.start as usize..label.end as usize]
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}
