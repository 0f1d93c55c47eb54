use std::collections::BTreeMap;

use mediant_corpus::{Corpus, KINDS};
use proptest::prelude::*;

use crate::{Sentence, training};

/// A change of these lines is a change of every corpus: the stage's version goes up with it, and models trained on it are old.
#[test]
fn the_text_of_seed_0_is_fixed() {
    let texts: Vec<_> = Corpus::new(0, 3).map(|document| document.text).collect();
    let expected = [
        "4 plus 0 is 4.",
        "George met Max at the museum, and George sent a bottle to Max.",
        "Nancy called Heidi after Nancy saw Heidi.",
    ];
    assert_eq!(texts, expected);
    let bytes = Corpus::new(0, 20_000).flat_map(|document| document.text.into_bytes());
    let sum = bytes.fold(0_u64, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    assert_eq!(sum, 0x8400_f49c_cda1_b674);
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_documents(seed: u64, sentences in 0_u64..200) {
        let corpus = Corpus::new(seed, sentences);
        prop_assert_eq!(corpus.clone().collect::<Vec<_>>(), corpus.collect::<Vec<_>>());
    }

    #[test]
    fn there_are_as_many_sentences_as_asked(seed: u64, sentences in 0_u64..200) {
        let documents: Vec<_> = Corpus::new(seed, sentences).collect();
        let found: usize = documents.iter().map(|document| Sentence::of(document).count()).sum();
        prop_assert_eq!(found as u64, sentences);
    }

    #[test]
    fn a_longer_corpus_begins_with_the_shorter(seed: u64, sentences in 10_u64..100) {
        let short: Vec<_> = Corpus::new(seed, sentences).collect();
        let long: Vec<_> = Corpus::new(seed, 200).collect();
        prop_assert_eq!(&short[..short.len() - 1], &long[..short.len() - 1]);
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(Corpus::new(0, 50).collect::<Vec<_>>(), Corpus::new(1, 50).collect::<Vec<_>>());
}

#[test]
fn kinds_come_in_their_shares_and_patterns_hold_their_share_of_words() {
    let (mut sentences, mut words) = (BTreeMap::new(), BTreeMap::new());
    for document in training() {
        for sentence in Sentence::of(&document) {
            *sentences.entry(sentence.kind).or_insert(0_u32) += 1;
            *words.entry(sentence.kind).or_insert(0) += sentence.values("word_class").len();
        }
    }
    let rows = KINDS.lines().filter(|line| line.starts_with("| `"));
    let told: Vec<_> = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).collect();
    assert_eq!(told.len(), sentences.len());
    for row in told {
        let (kind, percent) = (row[1].trim_matches('`'), row[3].trim_end_matches(" %").parse::<f64>().unwrap());
        // 60,000 draws: three standard deviations are under half a percent.
        let found = f64::from(sentences[kind]) / 600.0;
        assert!((found - percent).abs() < 0.5, "{kind}: {found} percent");
    }
    let share = words["induction"] as f64 / words.values().sum::<usize>() as f64;
    assert!((0.2..0.3).contains(&share), "patterns hold {share} of the words");
}
