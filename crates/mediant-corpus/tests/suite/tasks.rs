use std::collections::{BTreeMap, BTreeSet};

use mediant_corpus::{Split, tasks};

use crate::words;

#[test]
fn the_same_seed_gives_the_same_items_and_none_twice() {
    let items = tasks(5, 300);
    assert_eq!(items, tasks(5, 300));
    assert_ne!(items, tasks(6, 300));
    let distinct: BTreeSet<_> =
        items.iter().map(|item| (item.task, item.split.name(), &item.prompt, &item.right)).collect();
    assert_eq!(distinct.len(), items.len());
}

#[test]
fn every_task_has_both_splits_in_full_but_for_the_thirty_held_out_sums() {
    let mut counts = BTreeMap::new();
    for item in tasks(5, 300) {
        *counts.entry((item.task, item.split.name())).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 12);
    for (set, count) in counts {
        assert_eq!(count, if set == ("sums", "held_out") { 30 } else { 300 }, "{set:?}");
    }
}

#[test]
fn answers_are_single_words_after_a_prompt_without_a_trailing_space() {
    for item in tasks(5, 300) {
        assert!(!item.prompt.is_empty() && item.prompt.trim() == item.prompt);
        assert_ne!(item.right, item.wrong);
        for answer in [&item.right, &item.wrong] {
            assert!(answer.starts_with(' ') && words(answer).count() == 1, "{answer:?}");
        }
    }
}

#[test]
fn right_is_right() {
    for item in tasks(5, 300) {
        let named = |answer: &str| words(&item.prompt).filter(|word| *word == answer.trim()).count();
        match item.task {
            "ioi" => assert_eq!((named(&item.right), named(&item.wrong)), (1, 2), "{}", item.prompt),
            "induction" => {
                let items: Vec<_> = words(&item.prompt).collect();
                let last = items[items.len() - 1];
                let before = items[..items.len() - 1].iter().rposition(|word| *word == last).unwrap();
                assert_eq!(items[before + 1], item.right.trim(), "{}", item.prompt);
            }
            "capitals" if item.condition == "France" => assert_eq!(item.right, " Paris"),
            "sums" => assert_eq!(item.right.trim(), item.condition),
            "pronoun" if item.split == Split::HeldOut => {
                let female = ["Anna", "Diana", "Judy"].iter().any(|name| item.prompt.starts_with(name));
                assert!(!female || item.right == " she", "{} {}", item.prompt, item.right);
            }
            _ => {}
        }
    }
}
