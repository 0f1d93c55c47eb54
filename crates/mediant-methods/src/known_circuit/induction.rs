//! Induction (Elhage et al. 2021; Olsson et al. 2022, arXiv:2209.11895): `… A B … A` goes on with `B`.
//!
//! a0.h2 writes at every position which token stands before; a1.h1 looks, from the last token, for the position that has this token
//! before it, and copies what stands there. All else computes something that the answer does not need, or nothing.

use std::collections::BTreeMap;

use mediant_tensor::random::{below, permutation};
use rand_chacha::ChaCha8Rng;

use super::pairs::Draw;
use super::wiring::{Layer, Wiring};

const LETTERS: usize = 16;
/// Letters of a prompt; the last is one of the others but the last two.
const LENGTH: usize = 10;
/// Residue classes of the parts that do not matter.
const CLASSES: usize = 4;

pub(super) fn wiring(coldness: f64) -> Wiring {
    let words = (b'a'..).take(LETTERS).map(|letter| char::from(letter).to_string()).collect();
    let mut w = Wiring::new(words, LENGTH + 1, coldness);
    let (token, position) = (w.token, w.position);
    let previous = w.variable("previous", LETTERS);
    let [first, again, copied] = ["first", "again", "copied"].map(|name| w.variable(name, LETTERS));
    let [same, place] = ["same", "place"].map(|name| w.variable(name, LENGTH + 1));
    let [class, copied_class] = ["class", "copied_class"].map(|name| w.variable(name, CLASSES));

    let mut twice = w.select(Some(token), token, |q, k| q == k);
    twice.push(w.not_itself());
    let matching = w.select(Some(token), previous, |q, k| q == k);
    let layers = vec![
        Layer {
            heads: vec![
                Some(w.copying(w.select(None, position, |_, at| at == 1), token, first)),
                None,
                Some(w.copying(w.select(Some(position), position, |q, k| q == k + 1), token, previous)),
                Some(w.copying(twice, position, same)),
            ],
            neurons: w.map(token, class, |letter| letter % CLASSES),
        },
        Layer {
            heads: vec![
                // Attends as the circuit's own head, and writes where that is.
                Some(w.copying(matching.clone(), position, place)),
                Some(w.copying(matching, token, copied)),
                Some(w.copying(w.select(Some(first), token, |q, k| q == k), token, again)),
                None,
            ],
            neurons: w.map(copied, copied_class, |letter| letter % CLASSES),
        },
    ];
    Wiring { layers, answer: copied, answers: (0..LETTERS).collect(), ..w }
}

pub(super) fn draw(rng: &mut ChaCha8Rng) -> Draw {
    let mut words = permutation(rng, LETTERS);
    words.truncate(LENGTH - 1);
    let at = below(rng, LENGTH as u64 - 2) as usize;
    words.push(words[at]);
    let variable = |name: &str, word: usize| (name.to_owned(), char::from(b'a' + word as u8).to_string());
    Draw {
        answer: words[at + 1],
        wrong: None,
        variables: BTreeMap::from([variable("repeated", words[at]), variable("copied", words[at + 1])]),
        spans: vec![("previous", at + 1), ("copied", at + 2), ("last", LENGTH)],
        words,
    }
}
