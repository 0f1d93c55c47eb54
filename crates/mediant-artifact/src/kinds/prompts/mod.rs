//! The `prompts` kind: tables `prompts`, `versions`, `spans` and `variables`.
//!
//! A version is a row of `versions`, by example and name: `clean` first, then the counterfactuals in their order. Spans and
//! variables have tables of their own, so that a query can select and join them by name.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::tokens::LONGEST;
use crate::Digest;

pub use read::read_prompts;
pub use write::write_prompts;

const PROMPTS: &str = "prompts";
const VERSIONS: &str = "versions";
const SPANS: &str = "spans";
const VARIABLES: &str = "variables";

/// What the clean version is called in the tables.
const CLEAN: &str = "clean";

/// What is known of prompts besides the prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptsMeta {
    /// Number of prompts.
    pub prompts: u64,
    /// Names of the counterfactuals, in order, the same for every prompt.
    pub counterfactuals: Vec<String>,
    /// Digest of the `tokenizer.json` that made the ids.
    pub tokenizer: Digest,
    /// Every id is below this.
    pub vocab_size: usize,
    /// Whether each version starts with the BOS token.
    pub prepend_bos: bool,
    /// Tokens of the longest version.
    pub longest: usize,
    /// Names of the spans that every version of every prompt has, sorted.
    pub spans: Vec<String>,
    /// Whether every version has wrong answers, so that right ones can be compared with them.
    pub wrong: bool,
}

/// A prompt and what it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The task it belongs to.
    pub task: String,
    /// The template it was made from.
    pub template: String,
    /// What makes prompts alike, such as template and name pair: the bootstrap draws groups, not prompts.
    pub group: String,
    /// The prompt itself.
    pub clean: Version,
    /// Its counterfactuals, in the order of [`PromptsMeta::counterfactuals`].
    pub counterfactuals: Vec<Version>,
}

impl Prompt {
    /// The clean version, then the counterfactuals.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        [&self.clean].into_iter().chain(&self.counterfactuals)
    }
}

/// One text with its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The text, without BOS.
    pub text: String,
    /// Its tokens, with BOS where one is prepended.
    pub ids: Vec<i32>,
    /// The right next tokens: a set of at least one.
    pub right: Vec<i32>,
    /// The wrong next tokens; none where no mistake is known.
    pub wrong: Vec<i32>,
    /// Named parts as token positions, the end not included; BOS counts.
    pub spans: BTreeMap<String, (u32, u32)>,
    /// Values of the causal variables.
    pub variables: BTreeMap<String, String>,
}

impl Version {
    fn check(&self, vocab_size: usize) -> Result<(), String> {
        let all = [("token", 1, &self.ids), ("right answer", 1, &self.right), ("wrong answer", 0, &self.wrong)];
        for (what, least, ids) in all {
            if !(least..=LONGEST).contains(&ids.len()) {
                return Err(format!("it has {} {what}s", ids.len()));
            }
            let known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocab_size);
            if let Some(id) = ids.iter().find(|id| !known(id)) {
                return Err(format!("the {what} {id} is outside the vocabulary of {vocab_size}"));
            }
        }
        for answers in [&self.right, &self.wrong] {
            if let Some(id) = repeated(answers) {
                return Err(format!("the answer {id} occurs twice"));
            }
        }
        let length = self.ids.len();
        match self.spans.iter().find(|(_, (start, end))| start >= end || *end as usize > length) {
            Some((name, (start, end))) => {
                Err(format!("span `{name}` goes from {start} to {end}, which is no part of {length} tokens"))
            }
            None => Ok(()),
        }
    }
}

/// The names of a prompt's versions, in order.
fn version_names(counterfactuals: &[String]) -> Vec<&str> {
    [CLEAN].into_iter().chain(counterfactuals.iter().map(String::as_str)).collect()
}

/// What can be said of these prompts, or why they are none: the one check of what is written and of what is read.
fn describe(
    counterfactuals: &[String],
    tokenizer: Digest,
    vocab_size: usize,
    prepend_bos: bool,
    prompts: &[Prompt],
) -> Result<PromptsMeta, String> {
    let names = version_names(counterfactuals);
    if let Some(name) = repeated(&names).or(names.iter().find(|name| name.is_empty())) {
        return Err(format!("`{name}` cannot name a counterfactual: it is taken or empty"));
    }
    if u32::try_from(prompts.len()).is_err() {
        return Err(format!("{} prompts are more than can be counted", prompts.len()));
    }
    let (mut longest, mut wrong) = (0, true);
    let mut spans: Option<BTreeSet<&str>> = None;
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.counterfactuals.len() != counterfactuals.len() {
            let (found, expected) = (prompt.counterfactuals.len(), counterfactuals.len());
            return Err(format!("prompt {i} has {found} counterfactuals, not {expected}"));
        }
        for (name, version) in names.iter().zip(prompt.versions()) {
            version.check(vocab_size).map_err(|why| format!("prompt {i}, {name}: {why}"))?;
            longest = longest.max(version.ids.len());
            wrong &= !version.wrong.is_empty();
            match &mut spans {
                Some(spans) => spans.retain(|span| version.spans.contains_key(*span)),
                None => spans = Some(version.spans.keys().map(String::as_str).collect()),
            }
        }
    }
    Ok(PromptsMeta {
        prompts: prompts.len() as u64,
        counterfactuals: counterfactuals.to_vec(),
        tokenizer,
        vocab_size,
        prepend_bos,
        longest,
        spans: spans.into_iter().flatten().map(str::to_owned).collect(),
        wrong,
    })
}

/// The first item that was there before.
fn repeated<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}
