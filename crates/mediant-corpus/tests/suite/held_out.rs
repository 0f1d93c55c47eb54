//! What is held out is found from the task sets, not from the lists: a leak shows however it comes about.

use std::collections::{BTreeMap, BTreeSet};

use mediant_corpus::{Split, TaskItem, tasks};

use crate::{Sentence, training, words};

fn held_out(task: &str) -> Vec<TaskItem> {
    let wanted = |item: &TaskItem| item.task == task && item.split == Split::HeldOut;
    let items: Vec<_> = tasks(3, 2000).into_iter().filter(wanted).collect();
    assert!(!items.is_empty());
    items
}

/// Right answers and mistakes, without their spaces.
fn answers(items: &[TaskItem]) -> BTreeSet<&str> {
    items.iter().flat_map(|item| [item.right.trim(), item.wrong.trim()]).collect()
}

/// No training sentence of this kind may have a value of `reserved` among what `find` gives.
fn assert_absent(kind: &str, reserved: &BTreeSet<&str>, find: impl Fn(&Sentence) -> Vec<String>) {
    let mut seen = 0;
    for document in training() {
        for sentence in Sentence::of(&document).filter(|sentence| sentence.kind == kind) {
            seen += 1;
            for word in find(&sentence) {
                assert!(!reserved.contains(word.as_str()), "{word} is held out of {kind}: {}", document.text);
            }
        }
    }
    assert!(seen > 1000, "too few {kind} sentences to judge");
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn templates() {
    let items = tasks(3, 2000);
    let templates = |split| {
        items
            .iter()
            .filter(move |item| item.split == split && item.task != "induction")
            .map(|item| item.template)
            .collect::<BTreeSet<_>>()
    };
    let reserved = templates(Split::HeldOut);
    assert!(reserved.len() > 100 && reserved.is_disjoint(&templates(Split::Train)));
    for document in training() {
        assert!(document.labels.iter().all(|label| label.variable != "template" || !reserved.contains(label.value)));
    }
}

#[test]
fn names_of_indirect_objects() {
    let items = held_out("ioi");
    let names = answers(&items);
    assert!(names.len() == 12 && names.contains("Mary") && names.contains("John"), "{names:?}");
    assert_absent("ioi", &names, |sentence| owned(&sentence.words("word_class", "name")));
}

#[test]
fn names_of_pronouns() {
    let items = held_out("pronoun");
    let names: BTreeSet<_> = items.iter().map(|item| words(&item.prompt).next().unwrap()).collect();
    assert_eq!(names.len(), 12, "{names:?}");
    assert_absent("pronoun", &names, |sentence| owned(&sentence.words("word_class", "name")));
    // Nor do they meet he or she elsewhere; "Anna likes her hat" may be said.
    for document in training() {
        for sentence in Sentence::of(&document).filter(|sentence| sentence.kind != "induction") {
            let named = sentence.words("word_class", "name").iter().any(|name| names.contains(name));
            let pronouns = ["he", "she", "He", "She"];
            let told = sentence.words("word_class", "pronoun").iter().any(|word| pronouns.contains(word));
            assert!(!(named && told), "{}", document.text);
        }
    }
}

#[test]
fn subjects_of_agreement() {
    let items = held_out("agreement");
    let (mut nouns, mut trained) = (BTreeSet::new(), BTreeSet::new());
    for document in training() {
        for sentence in Sentence::of(&document) {
            nouns.extend(owned(&sentence.words("role", "subject")));
            if sentence.kind == "agreement" {
                let both = ["subject", "attractor"].map(|role| owned(&sentence.words("role", role)));
                trained.extend(both.concat());
            }
        }
    }
    let reserved: BTreeSet<_> = nouns.iter().filter(|noun| !trained.contains(*noun)).map(String::as_str).collect();
    assert!(["key", "keys", "chair", "chairs", "book", "books"].iter().all(|noun| reserved.contains(noun)));
    for item in &items {
        assert!(words(&item.prompt).any(|word| reserved.contains(word)), "{}", item.prompt);
    }
    assert_eq!(trained.len(), 118);
}

#[test]
fn periods_of_patterns() {
    let items = held_out("induction");
    let reserved: BTreeSet<_> = items.iter().map(|item| item.condition).collect();
    assert_eq!(reserved, BTreeSet::from(["5", "11", "17", "23", "29"]));
    assert_absent("induction", &reserved, |sentence| owned(&sentence.values("period")));
}

#[test]
fn sums() {
    let pair = |text: &str| {
        let mut numbers: Vec<u32> = words(text).filter_map(|word| word.parse().ok()).collect();
        numbers.truncate(2);
        numbers.sort_unstable();
        numbers
    };
    let reserved: BTreeSet<_> = held_out("sums").iter().map(|item| pair(&item.prompt)).collect();
    assert_eq!(reserved.len(), 15);
    for document in training() {
        for sentence in Sentence::of(&document).filter(|sentence| sentence.kind == "sums") {
            assert!(!reserved.contains(&pair(&sentence.values("operand").join(" "))), "{}", document.text);
        }
    }
}

/// Every word of the held-out items is common enough in training to have an embedding.
#[test]
fn words_are_known() {
    let mut counts = BTreeMap::new();
    for document in training() {
        for word in words(&document.text) {
            *counts.entry(word.to_owned()).or_insert(0_u32) += 1;
        }
    }
    for item in tasks(3, 2000) {
        for word in [&item.prompt, &item.right, &item.wrong].into_iter().flat_map(|text| words(text)) {
            let fragments = item.task == "induction" && item.split == Split::Train;
            assert!(fragments || counts.get(word).is_some_and(|count| *count >= 20), "{word} in {}", item.prompt);
        }
    }
}
