//! Documents of a corpus, one after the other.

use crate::Split;
use crate::document::{Document, Sentence};
use crate::draw::Draw;
use crate::kinds::Kind;

/// A document has one to this many sentences.
const LONGEST_DOCUMENT: usize = 6;

/// A corpus: `sentences` sentences in documents of one to six, the same for the same seed.
///
/// Iterating is streaming: each document is drawn from its own random stream, in constant memory.
#[derive(Clone, Debug)]
pub struct Corpus {
    seed: u64,
    left: u64,
    next: u64,
}

impl Corpus {
    /// The corpus of a seed.
    #[must_use]
    pub const fn new(seed: u64, sentences: u64) -> Self {
        Self { seed, left: sentences, next: 0 }
    }

    /// Number of sentences still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }
}

impl Iterator for Corpus {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        if self.left == 0 {
            return None;
        }
        let mut draw = Draw::new(self.seed, "document", self.next);
        // Most are single sentences: what an answer depends on is then among few tokens.
        let sentences = if draw.chance(60) { 1 } else { 2 + draw.below(LONGEST_DOCUMENT - 1) as u64 }.min(self.left);
        self.next += 1;
        self.left -= sentences;
        let mut document = Document::default();
        for _ in 0..sentences {
            Kind::draw(&mut draw).write(Split::Train, &mut draw, &mut Sentence::begin(&mut document));
        }
        Some(document)
    }
}
