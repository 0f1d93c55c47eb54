use std::collections::BTreeSet;

use mediant_corpus::Document;

use crate::{Sentence, text, training, words};

#[test]
fn every_word_has_a_class_and_every_range_a_text() {
    // Patterns may hold signs, which `words` does not count.
    let patterns = |document: &Document| document.labels.iter().any(|label| label.value == "induction");
    for document in training().filter(|document| !patterns(document)).take(3000) {
        let classed: BTreeSet<_> =
            document.labels.iter().filter(|label| label.variable == "word_class").map(|label| label.start).collect();
        assert_eq!(classed.len(), words(&document.text).count(), "{}", document.text);
        for label in &document.labels {
            assert!(!text(&document, label).is_empty() && !label.value.is_empty());
        }
    }
}

#[test]
fn word_ranges_select_the_words_they_name() {
    for document in training().take(3000) {
        for sentence in Sentence::of(&document) {
            for label in &sentence.labels {
                let words = text(&document, label);
                let whole = words.contains(' ');
                match label.variable {
                    "word_class" if label.value == "fragment" => assert!(!words.contains(' '), "{words}"),
                    "position" | "repeat" if !whole => assert!(!words.is_empty()),
                    "word_class" | "role" | "gender" | "number" if !whole => {
                        assert!(words.chars().all(char::is_alphanumeric), "{words}");
                    }
                    "country" | "capital" | "operand" | "sum" if !whole => {
                        assert_eq!(words, label.value);
                    }
                    "antecedent" if !whole => {
                        assert!(
                            ["he", "she", "He", "She", "his", "her", "him", "himself", "herself"].contains(&words),
                            "{words}"
                        );
                    }
                    "country" | "capital" | "sum" | "indirect_object" | "subject" | "antecedent" => {
                        assert!(words.contains(label.value), "{words}: {}", label.value);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_roles_of_indirect_object_sentences_follow_their_order() {
    for document in training().take(3000) {
        for sentence in Sentence::of(&document).filter(|sentence| sentence.kind == "ioi") {
            let (io, subject) = (sentence.values("indirect_object")[0], sentence.values("subject")[0]);
            match sentence.values("order")[0] {
                "ABC" => assert_eq!(sentence.words("role", "subject"), [subject]),
                order => {
                    assert_eq!(sentence.words("role", "subject"), [subject, subject]);
                    assert_eq!(sentence.words("role", "indirect_object"), [io, io]);
                    let names = sentence.words("word_class", "name");
                    assert_eq!(names[..2], if order == "ABBA" { [io, subject] } else { [subject, io] });
                }
            }
        }
    }
}

#[test]
fn pronouns_agree_with_their_antecedents_and_verbs_with_their_subjects() {
    for document in training().take(3000) {
        for sentence in Sentence::of(&document) {
            if sentence.kind == "pronoun" {
                let gender = *sentence.values("gender").last().unwrap();
                for word in sentence.words("role", "pronoun") {
                    let female = ["she", "She", "her"].contains(&word);
                    assert_eq!(gender, if female { "female" } else { "male" });
                }
            }
            if sentence.kind == "agreement" {
                let singular = sentence.values("subject_number") == ["singular"];
                let verbs: Vec<_> = sentence
                    .words("number", "singular")
                    .into_iter()
                    .filter(|word| ["is", "was", "has", "likes"].contains(word))
                    .collect();
                assert_eq!(verbs.len(), usize::from(singular), "{}", document.text);
            }
        }
    }
}

#[test]
fn patterns_repeat_with_their_period() {
    for document in training().take(3000) {
        for sentence in Sentence::of(&document).filter(|sentence| sentence.kind == "induction") {
            let period: usize = sentence.values("period")[0].parse().unwrap();
            let positions = sentence.labels.iter().filter(|label| label.variable == "position");
            let items: Vec<_> = positions.map(|label| text(&document, label)).collect();
            assert!(items.len() > period);
            assert!((period..items.len()).all(|at| items[at] == items[at - period]));
            assert_eq!(items[..period].iter().collect::<BTreeSet<_>>().len(), period);
        }
    }
}
