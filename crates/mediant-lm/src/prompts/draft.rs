//! A prompt before it is tokenized.

use std::collections::BTreeMap;

/// A prompt and its counterfactuals as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The task it belongs to.
    pub task: String,
    /// The template it was made from.
    pub template: String,
    /// What makes prompts alike.
    pub group: String,
    /// The prompt itself.
    pub clean: DraftVersion,
    /// Its counterfactuals.
    pub counterfactuals: Vec<DraftVersion>,
}

/// One text with its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftVersion {
    /// The text.
    pub text: String,
    /// Its marked parts. A counterfactual without any has its spans where the clean text has them.
    pub marks: Vec<DraftMark>,
    /// The right next tokens.
    pub right: Vec<Answer>,
    /// The wrong ones; none where no mistake is known.
    pub wrong: Vec<Answer>,
    /// Values of the causal variables.
    pub variables: BTreeMap<String, String>,
}

/// A named part of a text, `start..end` in bytes; one that is empty stands for the token that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftMark {
    /// Its name.
    pub name: String,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Whether it has to be one token by itself.
    pub one_token: bool,
}

/// What a text may go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A continuation of one token, with its leading space where one belongs.
    Text(String),
    /// A token id of this tokenizer; its word stands in the text.
    Id(u32),
}
