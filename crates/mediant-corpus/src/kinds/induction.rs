//! Repeated random patterns: "lamp Tokyo ran lamp Tokyo ran." What came after this word the last time comes now.
//!
//! The behaviour of Olsson et al. 2022, arXiv:2209.11895, on words with no meaning together.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, PATTERN_WORDS, numeral};

/// A pattern has 2 to this many items.
const LONGEST: usize = 32;

/// A sentence is at most this many items long, so that words of two tokens fit into a context of 128.
const LONGEST_SENTENCE: usize = 64;

/// A period that leaves this remainder by [`RESERVED_OF`] is held out.
const RESERVED: usize = 5;
const RESERVED_OF: usize = 6;

/// Characters, first and last of each range: printable ASCII, letters more often, then letters of many scripts. Most bytes that UTF-8
/// has up to plane 1 occur in them, and each character is so rare that byte-level BPE leaves it in pieces, which makes its bytes tokens to copy.
const RANGES: [(char, char); 38] = [
    ('!', '/'),
    ('0', '9'),
    (':', '@'),
    ('A', 'Z'),
    ('A', 'Z'),
    ('A', 'Z'),
    ('[', '`'),
    ('a', 'z'),
    ('a', 'z'),
    ('a', 'z'),
    ('{', '~'),
    ('\u{A1}', '\u{AC}'),
    ('\u{C0}', '\u{FF}'),
    ('\u{100}', '\u{24F}'),
    ('\u{250}', '\u{2AF}'),
    ('\u{2B0}', '\u{2FF}'),
    ('\u{391}', '\u{3A1}'),
    ('\u{3A3}', '\u{3CE}'),
    ('\u{400}', '\u{4FF}'),
    ('\u{531}', '\u{556}'),
    ('\u{561}', '\u{586}'),
    ('\u{5D0}', '\u{5EA}'),
    ('\u{621}', '\u{63A}'),
    ('\u{671}', '\u{6D3}'),
    ('\u{712}', '\u{72F}'),
    ('\u{780}', '\u{7A5}'),
    ('\u{7CA}', '\u{7EA}'),
    ('\u{905}', '\u{939}'),
    ('\u{10D0}', '\u{10F0}'),
    ('\u{1E00}', '\u{1EFF}'),
    ('\u{2801}', '\u{28FF}'),
    ('\u{3041}', '\u{3096}'),
    ('\u{4E00}', '\u{7FFF}'),
    ('\u{8000}', '\u{9FA5}'),
    ('\u{AC00}', '\u{D7A3}'),
    ('\u{FF21}', '\u{FF5A}'),
    ('\u{10400}', '\u{1044F}'),
    ('\u{1F600}', '\u{1F64F}'),
];

/// The characters of each of [`RANGES`].
static SIGNS: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    static TEXTS: LazyLock<Vec<String>> =
        LazyLock::new(|| RANGES.iter().map(|&(first, last)| (first..=last).collect()).collect());
    TEXTS.iter().map(|text| text.split("").filter(|sign| !sign.is_empty()).collect()).collect()
});

fn sign(draw: &mut Draw) -> &'static str {
    let range = draw.below(RANGES.len());
    draw.pick(&SIGNS[range])
}

/// An item and what stands between it and the one before.
#[derive(Clone, Copy)]
struct Item {
    before: &'static str,
    text: &'static str,
    class: Class,
}

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let period = period(split, draw);
    // Half of the training patterns are of words; the others mix words, pieces of words and single characters, with a space, a sign
    // or nothing between them, so that copying is learned for nearly every token of a byte-level vocabulary.
    let plain = split == Split::HeldOut || draw.chance(50);
    let items = items(period, plain, draw);
    // The pattern stands there once and, beginning with two of its items, up to three times more: most items are copies.
    let longest = (4 * period).min(LONGEST_SENTENCE);
    let length = period + 2 + draw.below(longest - period - 1);
    for at in 0..length {
        let item = items[at % period];
        if at > 0 {
            out.punctuation(item.before);
        }
        // Only patterns of words make questions that can be read.
        if plain && at + 1 == length {
            out.ask(item.text, items[(at + 1 + draw.below(period - 1)) % period].text);
        }
        let labels =
            [("word_class", item.class.name()), ("position", numeral(at % period)), ("repeat", numeral(at / period))];
        out.word(item.text, &labels);
    }
    out.punctuation(".");
    out.template = "induction.words";
    out.condition = numeral(period);
    out.about("template", out.template);
    out.about("period", numeral(period));
}

/// Whether patterns of this length are held out.
pub(crate) const fn is_reserved(period: usize) -> bool {
    period % RESERVED_OF == RESERVED
}

/// The shorter of two draws: short patterns are the ones that copying is first learned from.
fn period(split: Split, draw: &mut Draw) -> usize {
    loop {
        let period = 2 + draw.below(LONGEST - 1).min(draw.below(LONGEST - 1));
        if is_reserved(period) == (split == Split::HeldOut) {
            return period;
        }
    }
}

/// Different items.
fn items(period: usize, plain: bool, draw: &mut Draw) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(period);
    while items.len() < period {
        let (word, class) = draw.pick(&PATTERN_WORDS);
        let mut item = Item { before: " ", text: word, class };
        if !plain {
            match draw.below(10) {
                0..3 => {}
                3..7 => item = Item { text: fragment(word, draw), class: Class::Fragment, ..item },
                _ => item = Item { text: sign(draw), class: Class::Fragment, ..item },
            }
            match draw.below(10) {
                0..6 => {}
                6..8 => item.before = "",
                _ => item.before = sign(draw),
            }
        }
        if !items.iter().any(|known| known.text == item.text) {
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
