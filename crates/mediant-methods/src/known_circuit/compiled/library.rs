//! The programs.

use std::collections::BTreeMap;

use mediant_tensor::random::{below, permutation};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compile::compile;
use super::program::{Op, Select, Source, equal};
use crate::known_circuit::pairs::Draw;
use crate::known_circuit::wiring::Wiring;

/// A program that is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// tracr's `hist`: how often the last letter occurs.
    Hist,
    /// The digit that followed the last digit where it stood before, plus the first digit, modulo 8.
    LookupSum,
}

/// Letters of `hist`, and how many make a prompt.
const LETTERS: usize = 4;
const HIST_LENGTH: usize = 8;
/// Digits of `lookup_sum`, and how many make a prompt.
const DIGITS: usize = 8;
const SUM_LENGTH: usize = 8;
/// Residue classes of expressions that do not matter.
const CLASSES: usize = 2;

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hist => "hist",
            Self::LookupSum => "lookup_sum",
        }
    }

    pub(crate) fn wiring(self, coldness: f64) -> Wiring {
        match self {
            Self::Hist => hist(coldness),
            Self::LookupSum => lookup_sum(coldness),
        }
    }

    pub(crate) fn draw(self, rng: &mut ChaCha8Rng) -> Draw {
        match self {
            Self::Hist => {
                let words: Vec<usize> = (0..HIST_LENGTH).map(|_| below(rng, LETTERS as u64) as usize).collect();
                let last = words[HIST_LENGTH - 1];
                let count = words.iter().filter(|word| **word == last).count();
                // Digits follow the letters, from 0.
                drawn(words, LETTERS + count, [("count", count.to_string())])
            }
            Self::LookupSum => {
                // The last digit is one of the others but the last two: something else follows it.
                let mut words = permutation(rng, DIGITS);
                words.truncate(SUM_LENGTH - 1);
                let at = below(rng, SUM_LENGTH as u64 - 2) as usize;
                words.push(words[at]);
                let (first, target) = (words[0], words[at + 1]);
                drawn(words, (first + target) % DIGITS, [("first", first.to_string()), ("target", target.to_string())])
            }
        }
    }

    /// Whether two prompts may be a pair.
    pub(crate) fn apart(self, a: &Draw, b: &Draw) -> bool {
        match self {
            Self::Hist => a.words.last() != b.words.last(),
            Self::LookupSum => a.words.iter().zip(&b.words).all(|(a, b)| a != b),
        }
    }
}

fn drawn<const N: usize>(words: Vec<usize>, answer: usize, variables: [(&str, String); N]) -> Draw {
    let variables: BTreeMap<String, String> =
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Draw { spans: vec![("last", words.len())], words, answer, wrong: None, variables }
}

fn one_before(query: Op, key: Op) -> Select {
    Select { query, key, wanted: |q, k| q == k + 1 }
}

fn hist(coldness: f64) -> Wiring {
    let mut p = Source::default();
    let (tokens, indices) = (p.tokens(), p.indices());
    // What the answer does not need.
    let previous = p.aggregate("previous", one_before(indices, indices), tokens);
    let class = p.map("class", tokens, CLASSES, |letter| letter % CLASSES);
    p.selector_width("same_previous", equal(previous, previous));
    p.sequence_map("class_and_previous", (class, previous), CLASSES, |class, letter| (class + letter) % CLASSES);
    p.selector_width("count", equal(tokens, tokens));
    let letters = (b'a'..).take(LETTERS).map(|letter| char::from(letter).to_string());
    let words = letters.chain((0..=HIST_LENGTH).map(|count| count.to_string())).collect();
    let answers = (0..=HIST_LENGTH).map(|count| LETTERS + count).collect();
    compile(&p, words, HIST_LENGTH + 1, answers, coldness)
}

fn lookup_sum(coldness: f64) -> Wiring {
    let mut p = Source::default();
    let (tokens, indices) = (p.tokens(), p.indices());
    let class = p.map("class", tokens, CLASSES, |digit| digit % CLASSES);
    let first = p.aggregate("first", Select { query: indices, key: indices, wanted: |_, k| k == 1 }, tokens);
    let second = p.aggregate("second", Select { query: indices, key: indices, wanted: |_, k| k == 2 }, tokens);
    let previous = p.aggregate("previous", one_before(indices, indices), tokens);
    // What the answer does not need.
    p.aggregate("place", equal(tokens, previous), indices);
    p.aggregate("beside_second", equal(second, tokens), previous);
    let target = p.aggregate("target", equal(tokens, previous), tokens);
    p.sequence_map("second_class", (second, class), CLASSES, |digit, class| (digit + class) % CLASSES);
    p.sequence_map("sum", (target, first), DIGITS, |a, b| (a + b) % DIGITS);
    let words = (0..DIGITS).map(|digit| digit.to_string()).collect();
    compile(&p, words, SUM_LENGTH + 1, (0..DIGITS).collect(), coldness)
}
