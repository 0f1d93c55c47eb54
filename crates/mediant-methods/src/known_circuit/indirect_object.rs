//! Indirect objects (Wang et al. 2022, arXiv:2211.00593): the second name of two, when the first is repeated, in three steps as found
//! in GPT-2.
//!
//! A duplicate-token head (a0.h1) writes at the third name which name stood before; an inhibition head (a1.h2) brings it to the end;
//! there a name mover (a2.h0) looks for names, but not for this one, and copies. All else computes something that the answer does
//! not need, or nothing.

use std::collections::BTreeMap;

use mediant_tensor::random::{below, permutation};
use rand_chacha::ChaCha8Rng;

use super::pairs::Draw;
use super::wiring::{Head, Layer, Score, Wiring};

const NAMES: [&str; 12] =
    ["Alice", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ivy", "Jack", "Kate", "Leo"];
const PLACES: [&str; 4] = ["store", "park", "school", "beach"];
const OBJECTS: [&str; 4] = ["drink", "book", "ring", "letter"];
const OTHERS: [&str; 8] = ["when", "and", "went", "to", "the", ",", "gave", "a"];

/// A word of the sentence: one of [`OTHERS`], or what is drawn.
const SENTENCE: [&str; 14] =
    ["when", "NAME", "and", "NAME", "went", "to", "the", "PLACE", ",", "NAME", "gave", "a", "OBJECT", "to"];
/// Positions with BOS before the sentence.
const FIRST: usize = 2;
const SECOND: usize = 4;
const PLACE: usize = 8;
const THIRD: usize = 10;
const OBJECT: usize = 13;
const END: usize = 14;
/// Residue classes of the parts that do not matter.
const CLASSES: usize = 4;

fn vocabulary() -> Vec<String> {
    [&NAMES[..], &PLACES, &OBJECTS, &OTHERS].concat().into_iter().map(str::to_owned).collect()
}

pub(super) fn wiring(coldness: f64) -> Wiring {
    let mut w = Wiring::new(vocabulary(), SENTENCE.len() + 1, coldness);
    let (token, position) = (w.token, w.position);
    let words = w.words.len();
    let previous = w.variable("previous", words);
    let [duplicate, inhibited, named] = ["duplicate", "inhibited", "named"].map(|name| w.variable(name, NAMES.len()));
    let [first, shadow] = ["first", "shadow"].map(|name| w.variable(name, NAMES.len()));
    let [place, object] = ["place", "object"].map(|name| w.variable(name, PLACES.len()));
    let again = w.variable("again", SENTENCE.len() + 1);
    let [class, duplicate_class, named_class] =
        ["class", "duplicate_class", "named_class"].map(|name| w.variable(name, CLASSES));

    let part = |from: usize, count: usize| -> Vec<Option<usize>> {
        (0..words).map(|word| word.checked_sub(from).filter(|i| *i < count)).collect()
    };
    let (names, places) = (part(0, NAMES.len()), part(NAMES.len(), PLACES.len()));
    let objects = part(NAMES.len() + PLACES.len(), OBJECTS.len());
    let from_to = |from: usize, to: usize| w.select(Some(position), position, move |q, k| (q, k) == (from, to));
    let mut twice = w.select(Some(token), token, |q, k| q == k && q < NAMES.len());
    twice.push(w.not_itself());
    let mut other_name = w.select(None, token, |_, word| word < NAMES.len());
    let against = |q, k| if q == k { -coldness } else { 0.0 };
    let nats = (0..NAMES.len()).map(|q| (0..words).map(|k| against(q, k)).collect()).collect();
    other_name.push(Score { query: Some(inhibited), key: token, nats });
    let read_names = |scores, write| Head { scores, value: token, write, table: names.clone() };

    let layers = vec![
        Layer {
            heads: vec![
                Some(w.copying(w.select(Some(position), position, |q, k| q == k + 1), token, previous)),
                Some(read_names(twice, duplicate)),
                Some(Head { scores: from_to(END, PLACE), value: token, write: place, table: places }),
                None,
            ],
            neurons: w.map(token, class, |word| word % CLASSES),
        },
        Layer {
            heads: vec![
                None,
                Some(Head {
                    // What follows the word `a`.
                    scores: w.select(None, previous, |_, word| word == words - 1),
                    value: token,
                    write: object,
                    table: objects,
                }),
                Some(w.copying(from_to(END, THIRD), duplicate, inhibited)),
                Some(read_names(from_to(END, FIRST), first)),
            ],
            neurons: w.map(duplicate, duplicate_class, |name| name % CLASSES),
        },
        Layer {
            heads: vec![
                Some(read_names(other_name.clone(), named)),
                // Attends as the circuit's own head, and nothing reads what it writes.
                Some(read_names(other_name, shadow)),
                Some(w.copying(w.select(Some(first), token, |q, k| q == k), position, again)),
                None,
            ],
            neurons: w.map(named, named_class, |name| name % CLASSES),
        },
    ];
    Wiring { layers, answer: named, answers: (0..NAMES.len()).collect(), ..w }
}

pub(super) fn draw(rng: &mut ChaCha8Rng) -> Draw {
    let names = permutation(rng, NAMES.len());
    let place = NAMES.len() + below(rng, PLACES.len() as u64) as usize;
    let object = NAMES.len() + PLACES.len() + below(rng, OBJECTS.len() as u64) as usize;
    let subject_first = below(rng, 2) == 0;
    let (io, s) = (names[0], names[1]);
    let pair = if subject_first { [s, io] } else { [io, s] };
    let all = vocabulary();
    let mut drawn = [pair[0], pair[1], s].into_iter();
    let word = |place_holder: &&str| match *place_holder {
        "NAME" => drawn.next().unwrap_or(s),
        "PLACE" => place,
        "OBJECT" => object,
        other => all.iter().position(|word| word == other).unwrap_or_default(),
    };
    let words: Vec<usize> = SENTENCE.iter().map(word).collect();
    let order = if subject_first { "BAB" } else { "ABB" };
    let variables = [("io", &all[io]), ("s", &all[s]), ("place", &all[place]), ("object", &all[object])];
    let mut variables: BTreeMap<String, String> =
        variables.into_iter().map(|(name, word)| (name.to_owned(), word.clone())).collect();
    variables.insert("order".to_owned(), order.to_owned());
    let (at_s, at_io) = if subject_first { (FIRST, SECOND) } else { (SECOND, FIRST) };
    let spans = vec![("io", at_io), ("s1", at_s), ("s2", THIRD), ("place", PLACE), ("object", OBJECT), ("last", END)];
    Draw { words, answer: io, wrong: Some(s), variables, spans }
}

/// No name of one is in the other.
pub(super) fn apart(a: &Draw, b: &Draw) -> bool {
    a.words.iter().filter(|word| **word < NAMES.len()).all(|word| !b.words.contains(word))
}
