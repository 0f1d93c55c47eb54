use std::collections::BTreeMap;

use mediant_corpus::Corpus;
use proptest::prelude::*;

use crate::{Sentence, training};

/// A change of these lines is a change of every corpus: the stage's version goes up with it.
#[test]
fn the_text_of_seed_0_is_fixed() {
    let texts: Vec<_> = Corpus::new(0, 8).map(|document| document.text).collect();
    let expected = [
        "The capital of Spain is called Madrid.",
        "Today George and Max worked at the museum, and George decided to give a bottle to Max.",
        "Nina called Emily after Emily saw Nina.",
        "lamp Vie pilot Su ar thre pri ro nd oe r mp Davi J m 3 o lamp Vie pilot Su ar thre pri ro nd oe r mp Davi J m 3 o lamp \
         Vie pilot Su ar thre pri ro nd. Betty was at the station, and the student said hello to Betty. Everyone offered Kyle a \
         gift after dinner. The woman helped David while she wanted the book. gardens helped Keith bell was students sat Morocco \
         gardens helped Keith bell was students sat Morocco gardens.",
    ];
    assert_eq!(texts, expected);
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
    for (kind, percent) in [
        ("ioi", 18),
        ("agreement", 13),
        ("pronoun", 13),
        ("capitals", 11),
        ("induction", 15),
        ("sums", 4),
        ("plain", 26),
    ] {
        // 60,000 draws: three standard deviations are under half a percent.
        let found = f64::from(sentences[kind]) / 600.0;
        assert!((found - f64::from(percent)).abs() < 0.5, "{kind}: {found} percent");
    }
    let share = words["induction"] as f64 / words.values().sum::<usize>() as f64;
    assert!((0.25..0.45).contains(&share), "patterns hold {share} of the words");
}
