use std::collections::BTreeSet;

use mediant_corpus::{PromptMaker, PromptOptions, PromptTask, PromptText, Split, TooFew, VersionText, Vocabulary};
use proptest::prelude::*;

/// A tokenizer that has every word but these, and every number.
struct Without(&'static [&'static str]);

impl Vocabulary for Without {
    fn one_token(&self, _: &str, word: &str) -> bool {
        !self.0.contains(&word.trim())
    }

    fn one_answer(&self, _: &str, answer: &str) -> bool {
        !self.0.contains(&answer.trim())
    }
}

fn options(task: PromptTask, seed: u64, split: Option<Split>) -> PromptOptions<'static> {
    PromptOptions { task, seed, split, counterfactuals: task.counterfactuals() }
}

fn drawn(options: PromptOptions<'_>, n: usize) -> Vec<PromptText> {
    let mut maker = PromptMaker::new(options, &Without(&[])).unwrap();
    (0..n).filter_map(|_| maker.draw()).collect()
}

fn part<'a>(version: &'a VersionText, name: &str) -> &'a str {
    let mark = version.marks.iter().find(|mark| mark.name == name).unwrap();
    &version.text[mark.start..mark.end]
}

fn variable<'a>(version: &'a VersionText, name: &str) -> &'a str {
    &version.variables.iter().find(|(variable, _)| *variable == name).unwrap().1
}

fn texts(version: &VersionText) -> Vec<&str> {
    version.text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect()
}

fn any_options() -> impl Strategy<Value = PromptOptions<'static>> {
    let splits = prop_oneof![Just(None), Just(Some(Split::Train)), Just(Some(Split::HeldOut))];
    (proptest::sample::select(PromptTask::ALL.to_vec()), any::<u64>(), splits)
        .prop_map(|(task, seed, split)| options(task, seed, split))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn versions_differ_in_marked_words_alone(options in any_options()) {
        for prompt in drawn(options, 20) {
            let clean = &prompt.clean;
            prop_assert_eq!(prompt.counterfactuals.len(), options.counterfactuals.len());
            for version in [clean].into_iter().chain(&prompt.counterfactuals) {
                prop_assert!(!version.text.is_empty() && version.text.trim() == version.text);
                prop_assert!(!version.right.is_empty() && !version.wrong.is_empty());
                prop_assert!(version.right.iter().all(|answer| !version.wrong.contains(answer)));
                let names = |version: &VersionText| version.marks.iter().map(|mark| mark.name).collect::<BTreeSet<_>>();
                prop_assert_eq!(names(version), names(clean));
                prop_assert!(options.task.marks().iter().all(|name| names(version).contains(name)));
                prop_assert!(version.variables.iter().all(|(name, _)| options.task.variables().contains(name)));
                // The texts between the marks are the same.
                let between = |version: &VersionText| {
                    let mut marks = version.marks.clone();
                    marks.sort_by_key(|mark| (mark.start, mark.end));
                    let mut at = 0;
                    let mut rest = Vec::new();
                    for mark in marks {
                        rest.push((version.text[at..mark.start].to_owned(), mark.name));
                        at = mark.end;
                    }
                    (rest, version.text[at..].to_owned())
                };
                prop_assert_eq!(between(version), between(clean));
            }
            for version in &prompt.counterfactuals {
                prop_assert_ne!(&version.text, &clean.text);
            }
        }
    }

    #[test]
    fn counterfactuals_asked_for_change_nothing_else(options in any_options()) {
        let few = &options.counterfactuals[options.counterfactuals.len() - 1..];
        let all = drawn(options, 10);
        for (all, few) in all.iter().zip(drawn(PromptOptions { counterfactuals: few, ..options }, 10)) {
            prop_assert_eq!(&all.clean, &few.clean);
            prop_assert_eq!(all.counterfactuals.last(), few.counterfactuals.last());
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_prompts() {
    for task in PromptTask::ALL {
        assert_eq!(drawn(options(task, 3, None), 50), drawn(options(task, 3, None), 50));
        assert_ne!(drawn(options(task, 3, None), 50), drawn(options(task, 4, None), 50));
    }
}

#[test]
fn who_receives_is_who_is_named_once() {
    for prompt in drawn(options(PromptTask::Ioi, 0, None), 200) {
        let count =
            |version: &VersionText, answer: &str| texts(version).iter().filter(|w| **w == answer.trim()).count();
        let PromptText { clean, counterfactuals, .. } = &prompt;
        let [s2_io, s1_io, both, random, abc] = counterfactuals.as_slice() else { panic!("five") };
        for version in [clean, s2_io, s1_io, both, random] {
            let [right, wrong] = [&version.right[0], &version.wrong[0]];
            assert_eq!((count(version, right), count(version, wrong)), (1, 2), "{version:?}");
            assert_eq!(
                [variable(version, "indirect_object"), variable(version, "subject")],
                [right.trim(), wrong.trim()]
            );
        }
        assert_eq!(part(clean, "io"), clean.right[0].trim());
        assert_eq!([part(clean, "s1"), part(clean, "s2")], [clean.wrong[0].trim(); 2]);
        // As MIB has them: position and token of the answer.
        fn order(version: &VersionText) -> &str {
            variable(version, "order")
        }
        let flips = |version: &VersionText| (order(version) != order(clean), version.right != clean.right);
        assert_eq!([flips(s2_io), flips(s1_io), flips(both)], [(true, true), (true, false), (false, true)]);
        assert_eq!([order(random), order(abc)], [order(clean), "ABC"]);
        // None of the new names is an old one, and of three each is another.
        let new: BTreeSet<&str> = ["io", "s1", "s2"].map(|name| part(abc, name)).into();
        assert_eq!(new.len(), 3);
        for version in [random, abc] {
            assert!(version.right.iter().chain(&version.wrong).all(|name| count(clean, name) == 0));
        }
        assert_eq!((abc.right.len(), abc.wrong[0].trim()), (2, part(abc, "s2")));
    }
}

#[test]
fn answers_follow_from_what_is_asked() {
    for prompt in drawn(options(PromptTask::GreaterThan, 0, None), 100) {
        let start: usize = part(&prompt.clean, "start").parse().unwrap();
        assert_eq!((prompt.clean.right.len(), prompt.clean.wrong.len()), (99 - start, start + 1));
        assert_eq!(prompt.clean.right[0], format!("{:02}", start + 1));
        assert_eq!((part(&prompt.counterfactuals[0], "start"), prompt.counterfactuals[0].right.len()), ("01", 98));
    }
    for prompt in drawn(options(PromptTask::Induction, 0, None), 100) {
        let words = texts(&prompt.clean);
        let last = words[words.len() - 1];
        let before = words[..words.len() - 1].iter().position(|word| *word == last).unwrap();
        assert!(before > 0 && words[before + 1] == prompt.clean.right[0].trim(), "{:?}", prompt.clean);
    }
    for task in [PromptTask::Agreement, PromptTask::Pronoun, PromptTask::Capitals, PromptTask::Induction] {
        for prompt in drawn(options(task, 0, None), 100) {
            let [counterfactual] = prompt.counterfactuals.as_slice() else { panic!("one") };
            assert_eq!((&counterfactual.right, &counterfactual.wrong), (&prompt.clean.wrong, &prompt.clean.right));
        }
    }
}

#[test]
fn held_out_prompts_use_no_word_of_the_others() {
    let names = |split| -> BTreeSet<String> {
        let prompts = drawn(options(PromptTask::Ioi, 1, Some(split)), 300);
        prompts
            .iter()
            .flat_map(|prompt| [part(&prompt.clean, "io").to_owned(), part(&prompt.clean, "s1").to_owned()])
            .collect()
    };
    let (train, held_out) = (names(Split::Train), names(Split::HeldOut));
    assert!(held_out.contains("Mary") && train.is_disjoint(&held_out), "{held_out:?}");
}

#[test]
fn only_words_of_one_token_are_used_and_too_few_are_counted() {
    let prompts = |task: PromptTask, vocabulary: &dyn Vocabulary| {
        let options = PromptOptions { counterfactuals: &task.counterfactuals()[..1], ..options(task, 0, None) };
        PromptMaker::new(options, vocabulary).map(|mut maker| (0..50).filter_map(|_| maker.draw()).collect::<Vec<_>>())
    };
    let found = prompts(PromptTask::Capitals, &Without(&["France", "Rome"])).unwrap();
    let used = |word: &str| {
        found.iter().any(|prompt| texts(&prompt.clean).contains(&word) || prompt.clean.wrong[0].trim() == word)
    };
    assert!(!["France", "Italy", "Paris", "Rome"].into_iter().any(used));

    struct Only(&'static [&'static str]);
    impl Vocabulary for Only {
        fn one_token(&self, _: &str, word: &str) -> bool {
            self.0.contains(&word.trim())
        }
        fn one_answer(&self, before: &str, answer: &str) -> bool {
            self.one_token(before, answer)
        }
    }
    // Two names are enough where no new ones are needed.
    assert!(prompts(PromptTask::Ioi, &Only(&["Lily", "Tim"])).unwrap().len() == 50);
    assert!(prompts(PromptTask::Pronoun, &Only(&["Lily", "Tim"])).is_ok());
    let abc = PromptOptions { counterfactuals: &["abc"], ..options(PromptTask::Ioi, 0, None) };
    let error = PromptMaker::new(abc, &Only(&["Lily", "Tim"])).err().unwrap();
    assert_eq!(error, TooFew { what: "first names", fit: 2, of: 120, needed: 5 });
    assert_eq!(error.to_string(), "2 of 120 first names are one token in this tokenizer, and 5 are needed");
    let error = prompts(PromptTask::GreaterThan, &Without(&["07", "99"])).unwrap_err();
    assert_eq!((error.what, error.fit, error.of), ("two-digit numbers", 98, 100));
}
