#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use mediant_artifact::{Prompt, TokenizerFacts};
use mediant_engine::MemberFacts;
use mediant_lm::text::Tokenizer;
use mediant_lm::{LmConfig, model_facts};
use serde_json::{Value, json};

use super::*;

fn member(facts: Facts) -> Vec<MemberFacts> {
    vec![MemberFacts { labels: Vec::new(), name: None, facts: Arc::new(facts) }]
}

fn tokenizer_port() -> (String, Vec<MemberFacts>) {
    ("tokenizer".to_owned(), member(Facts::Tokenizer(TokenizerFacts { vocab_size: 512, digest: None })))
}

/// A model without a tokenizer.
fn model_port() -> (String, Vec<MemberFacts>) {
    let config =
        json!({ "model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 9, "n_positions": 64 });
    let facts = model_facts(&LmConfig::from_json(&config).unwrap(), ModelTokenizer::Absent);
    ("model".to_owned(), member(Facts::Model(facts)))
}

fn config(with: &Value) -> Config {
    serde_json::from_value(with.clone()).unwrap()
}

fn infer(with: &Value, ports: Vec<(String, Vec<MemberFacts>)>) -> Result<PromptsFacts, Vec<String>> {
    let config = config(with);
    let told = |problems: Problems| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>();
    BuildPrompts.check(&config).map_err(told)?;
    let facts = BuildPrompts.infer(&config, &InputFacts::new(ports), &SourcePaths::default()).map_err(told)?;
    Ok(facts[0].1.prompts().unwrap().clone())
}

#[test]
fn facts_follow_from_the_options() {
    let facts = infer(&json!({ "task": "ioi" }), vec![tokenizer_port()]).unwrap();
    assert_eq!(
        (facts.counterfactuals, facts.prompts, facts.vocab_size),
        (vec!["s2_io_flip".to_owned()], Some(200), Some(512))
    );
    assert_eq!(facts.spans.unwrap(), ["io", "last", "s1", "s1+1", "s2"]);
    let facts = infer(&json!({ "source": "a.json", "layout": "facts", "n": 5 }), vec![tokenizer_port()]).unwrap();
    assert_eq!((facts.counterfactuals.len(), facts.prompts), (0, None));
    assert_eq!(facts.spans.unwrap(), ["last", "subject"]);
    let facts = infer(&json!({ "source": "a.csv", "layout": "eap_ioi" }), vec![tokenizer_port()]).unwrap();
    assert_eq!(facts.counterfactuals, ["corrupted", "corrupted_hard"]);
}

#[test]
fn what_cannot_work_is_found_before_anything_runs() {
    let ioi = json!({ "task": "ioi" });
    for (with, ports, message) in [
        (json!({}), vec![tokenizer_port()], "no prompts are given"),
        (json!({ "task": "ioi", "source": "a.csv" }), vec![tokenizer_port()], "two lists of prompts"),
        (ioi.clone(), vec![], "no tokenizer is given"),
        (ioi.clone(), vec![model_port()], "this model has no tokenizer"),
        (ioi, vec![model_port(), tokenizer_port()], "two tokenizers"),
        (json!({ "task": "ioi", "n": 0 }), vec![tokenizer_port()], "from 1 to 1000000"),
        (json!({ "task": "ioi", "on_mismatch": "drop" }), vec![tokenizer_port()], "for prompts of a `source`"),
        (json!({ "task": "ioi", "layout": "sva" }), vec![tokenizer_port()], "for prompts of a `source`"),
        (json!({ "source": "a.csv", "split": "train" }), vec![tokenizer_port()], "for prompts of a `task`"),
        (json!({ "task": "greater_than", "split": "train" }), vec![tokenizer_port()], "no sentences of this task"),
        (json!({ "source": "a.parquet" }), vec![tokenizer_port()], "`.csv`, `.jsonl` and `.json`"),
        (json!({ "source": "a.csv", "layout": "sva", "columns": {} }), vec![tokenizer_port()], "`layout` says already"),
        (
            json!({ "source": "a.csv", "columns": { "spans": { "last": "x" } } }),
            vec![tokenizer_port()],
            "its last token",
        ),
        (
            json!({ "task": "ioi", "counterfactuals": ["s2_io_flop"] }),
            vec![tokenizer_port()],
            "no counterfactual `s2_io_flop`",
        ),
        (json!({ "task": "ioi", "counterfactuals": ["abc", "abc"] }), vec![tokenizer_port()], "in the list twice"),
    ] {
        let problems = infer(&with, ports).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(message)), "{with}: {problems:?}");
    }
}

/// The tokenizer of the shipped models.
fn tiny() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let read = |name| std::fs::read(folder.join(name)).unwrap();
    Tokenizer::new(&read("tokenizer.json"), Some(&read("tokenizer_config.json"))).unwrap()
}

fn made(with: &Value, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, String> {
    let config = config(with);
    let counterfactuals = config.counterfactuals();
    let assembler = Assembler { tokenizer, bos: tokenizer.bos(), counterfactuals: &counterfactuals };
    built_in::prompts(&config, config.task.unwrap().prompts(), &assembler, |_, _| Ok(()))
        .map_err(|error| error.to_string())
}

#[test]
fn built_in_prompts_are_as_their_facts_say() {
    let tokenizer = tiny();
    for task in ["ioi", "agreement", "pronoun", "capitals", "induction"] {
        let all = config(&json!({ "task": task })).known();
        for split in [json!(null), json!("train"), json!("held_out")] {
            let with = json!({ "task": task, "n": 300, "counterfactuals": all, "split": split, "seed": 7 });
            let prompts = made(&with, &tokenizer).unwrap();
            assert_eq!(prompts, made(&with, &tokenizer).unwrap());
            assert_eq!(prompts.iter().map(|prompt| &prompt.clean.text).collect::<BTreeSet<_>>().len(), 300);
            for prompt in &prompts {
                assert_eq!(prompt.counterfactuals.len(), all.len());
                for version in prompt.versions() {
                    assert_eq!(version.ids.len(), prompt.clean.ids.len());
                    assert_eq!(version.spans, prompt.clean.spans);
                    let (known, always) = (config(&with).spans(), config(&with).task.unwrap().prompts().marks());
                    assert!(version.spans.keys().all(|name| known.contains(name)), "{version:?}");
                    assert!(always.iter().all(|name| version.spans.contains_key(*name)), "{version:?}");
                    assert!(!version.right.is_empty() && !version.wrong.is_empty());
                }
                // The question is one token before the answer: what the span `last` holds.
                assert_eq!(prompt.clean.spans["last"].1 as usize, prompt.clean.ids.len());
            }
        }
    }
}

#[test]
fn too_few_words_and_too_few_prompts_are_counted() {
    let error = made(&json!({ "task": "greater_than" }), &tiny()).unwrap_err();
    assert!(
        error.starts_with("greater_than: ") && error.contains(" of 100 two-digit numbers are one token"),
        "{error}"
    );
    let error = made(&json!({ "task": "capitals", "n": 1_000_000, "split": "held_out" }), &tiny()).unwrap_err();
    assert!(error.contains("different prompts of `capitals` fit this tokenizer, and `n` is 1000000"), "{error}");
}

#[test]
fn rows_that_do_not_fit_stop_or_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    let rows = "clean,corrupted,right,wrong\nThe key,The keys, is, are\nThe key,The new keys, is, are\nThe key,The keys, is new, are\n";
    std::fs::write(&path, rows).unwrap();
    let tokenizer = tiny();
    let made = |with: &Value| {
        let config = config(with);
        let counterfactuals = config.counterfactuals();
        let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &counterfactuals };
        from_file::prompts(&config, &path, &assembler).map_err(|error| error.to_string())
    };
    let error = made(&json!({ "source": "pairs.csv" })).unwrap_err();
    let expected = "2 of 3 prompts do not fit this tokenizer:\n  \
                    pairs.csv:3: the clean text has 2 tokens, `corrupted` 3\n  \
                    pairs.csv:4: the answer \" is new\" is not one token\n`on_mismatch: drop` leaves them out";
    assert_eq!(error, expected);
    let (prompts, left_out) = made(&json!({ "source": "pairs.csv", "on_mismatch": "drop" })).unwrap();
    assert_eq!((prompts.len(), prompts[0].task.as_str(), prompts[0].group.as_str()), (1, "plain", "2"));
    assert!(
        left_out
            .unwrap()
            .starts_with("2 of 3 prompts do not fit this tokenizer and are left out, the first of them pairs.csv:3")
    );
    let (prompts, left_out) = made(&json!({ "source": "pairs.csv", "n": 1 })).unwrap();
    assert_eq!((prompts.len(), left_out), (1, None));
    // Lengths do not matter where there is nothing to compare.
    let (prompts, _) = made(&json!({ "source": "pairs.csv", "n": 2, "counterfactuals": [] })).unwrap();
    assert_eq!((prompts.len(), prompts[0].counterfactuals.len()), (2, 0));
}
