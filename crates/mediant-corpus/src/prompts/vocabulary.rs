//! Which words are one token.

use std::fmt;

/// What has to be known of a tokenizer.
pub trait Vocabulary {
    /// Whether `word` is one token where it follows `before` in a text; a leading space belongs to the word.
    fn one_token(&self, before: &str, word: &str) -> bool;

    /// Whether one token says `answer` after the tokens of `before`, even where the two would be tokenized otherwise together.
    fn one_answer(&self, before: &str, answer: &str) -> bool;
}

/// Too few words of a sort are one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// The sort, plural.
    pub what: &'static str,
    /// How many are one token.
    pub fit: usize,
    /// How many there are.
    pub of: usize,
    /// How many are needed.
    pub needed: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, fit, of, needed } = self;
        write!(f, "{fit} of {of} {what} are one token in this tokenizer, and {needed} are needed")
    }
}

impl std::error::Error for TooFew {}

/// Whether a word is one token inside a sentence.
pub(super) fn fits(vocabulary: &dyn Vocabulary, word: &str) -> bool {
    vocabulary.one_token("I saw the", &format!(" {word}"))
}

/// Those of a list that fit, if they are enough.
pub(super) fn enough<T>(
    what: &'static str,
    needed: usize,
    mut words: Vec<T>,
    fits: impl Fn(&T) -> bool,
) -> Result<Vec<T>, TooFew> {
    let of = words.len();
    words.retain(fits);
    if words.len() < needed { Err(TooFew { what, fit: words.len(), of, needed }) } else { Ok(words) }
}
