//! Repeated random patterns: "lamp Tokyo seven ran lamp Tokyo seven." What came after this word the last time comes now.
//!
//! The behaviour of Olsson et al. 2022, arXiv:2209.11895, on words with no meaning together.

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, PATTERN_WORDS, numeral};

/// A pattern has 2 to 24 items.
const LONGEST: usize = 24;

const CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let period = 2 + draw.below(LONGEST - 1);
    let items = items(split, period, draw);
    // Between one item and a whole pattern more after the first repetition of a short one.
    let longest = if period <= LONGEST / 3 { 2 * period } else { period };
    let length = period + 2 + draw.below(longest - 1);
    for at in 0..length {
        let (word, class) = items[at % period];
        if at > 0 {
            out.punctuation(" ");
        }
        if at + 1 == length {
            out.ask(word, items[(at + 1 + draw.below(period - 1)) % period].0);
        }
        let labels =
            [("word_class", class.name()), ("position", numeral(at % period)), ("repeat", numeral(at / period))];
        out.word(word, &labels);
    }
    out.punctuation(".");
    out.template = "induction.words";
    out.condition = numeral(period);
    out.about("template", out.template);
    out.about("period", numeral(period));
}

/// Different items. In training three patterns of ten hold pieces of words or single characters, so that copying is learned for
/// tokens of every sort.
fn items(split: Split, period: usize, draw: &mut Draw) -> Vec<(&'static str, Class)> {
    let words = PATTERN_WORDS.of(split);
    let sort = if split == Split::Train { draw.below(10) } else { 0 };
    let mut items: Vec<(&'static str, Class)> = Vec::with_capacity(period);
    while items.len() < period {
        let (word, class) = draw.pick(words);
        let item = match sort {
            0..7 => (word, class),
            7..9 => (fragment(word, draw), Class::Fragment),
            _ => {
                let at = draw.below(CHARACTERS.len());
                (&CHARACTERS[at..=at], Class::Fragment)
            }
        };
        let known = items.iter().any(|(known, _)| *known == item.0);
        // A piece of a word may be a word itself.
        let reserved = split == Split::Train && PATTERN_WORDS.held_out.iter().any(|(word, _)| *word == item.0);
        if !known && !reserved {
            items.push(item);
        }
    }
    items
}

/// One to four letters out of a word. All words are ASCII.
fn fragment(word: &'static str, draw: &mut Draw) -> &'static str {
    let start = draw.below(word.len());
    let length = 1 + draw.below(4.min(word.len() - start));
    &word[start..start + length]
}
