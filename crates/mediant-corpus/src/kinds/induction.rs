//! Repeated random patterns: "lamp Tokyo seven ran lamp Tokyo seven." What came after this word the last time comes now.
//!
//! The behaviour of Olsson et al. 2022, arXiv:2209.11895, on words with no meaning together.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, PATTERN_WORDS, numeral};

/// A pattern has 2 to 24 items.
const LONGEST: usize = 24;

/// A sentence is at most this many items long, so that words of two tokens fit into a context of 128.
const LONGEST_SENTENCE: usize = 44;

/// ASCII; then letters whose UTF-8 has each continuation byte; then one character for each byte that the UTF-8 of an assigned character
/// outside the private planes begins with, and two of those planes.
const CHARACTERS: &str = "\
    abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ\
    \u{A3}\u{101}\u{161}\u{192}\u{1CE}\u{21B}\u{259}\u{294}\u{2D0}\u{301}\u{375}\u{3B1}\u{3C3}\u{416}\u{440}\
    \u{490}\u{4D9}\u{531}\u{562}\u{585}\u{5D0}\u{628}\u{645}\u{686}\u{6CC}\u{710}\u{758}\u{78A}\u{7CA}\u{905}\
    \u{1E9E}\u{20AC}\u{3042}\u{4E2D}\u{56FD}\u{6587}\u{7684}\u{8A9E}\u{9580}\u{AC00}\u{B098}\u{C0AC}\u{D55C}\
    \u{FF21}\u{1F600}\u{F0000}\u{100000}";

/// Each of [`CHARACTERS`].
static SIGNS: LazyLock<Vec<&str>> = LazyLock::new(|| CHARACTERS.split("").filter(|sign| !sign.is_empty()).collect());

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let period = 2 + draw.below(LONGEST - 1);
    let items = items(split, period, draw);
    // The pattern stands there once and, beginning with two of its items, up to three times more: most items are copies.
    let longest = (4 * period).min(LONGEST_SENTENCE);
    let length = period + 2 + draw.below(longest - period - 1);
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

/// Different items. In training half of the patterns hold pieces of words or single characters, so that copying is learned for
/// tokens of every sort.
fn items(split: Split, period: usize, draw: &mut Draw) -> Vec<(&'static str, Class)> {
    let words = PATTERN_WORDS.of(split);
    let sort = if split == Split::Train { draw.below(20) } else { 0 };
    let mut items: Vec<(&'static str, Class)> = Vec::with_capacity(period);
    while items.len() < period {
        let (word, class) = draw.pick(words);
        let item = match sort {
            0..10 => (word, class),
            10..16 => (fragment(word, draw), Class::Fragment),
            _ => (draw.pick(&SIGNS), Class::Fragment),
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

/// A piece of a word, its beginning half of the time. All words are ASCII.
fn fragment(word: &'static str, draw: &mut Draw) -> &'static str {
    let start = if draw.chance(50) { 0 } else { draw.below(word.len()) };
    let length = 1 + draw.below(word.len() - start);
    &word[start..start + length]
}
