//! The kinds of artifact that stages exchange.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What an artifact holds. Ports declare which kinds they accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A language model.
    Model,
    /// A tokenizer.
    Tokenizer,
    /// Token ids in sequences.
    Tokens,
    /// Prompts with counterfactuals and answers.
    Prompts,
    /// Values of named variables over documents or spans of them.
    Labels,
    /// Activation vectors at hook points.
    Activations,
    /// A sparse dictionary: a sparse autoencoder or a transcoder.
    Dictionary,
    /// Directions and subspaces of activations.
    Directions,
    /// What an intervention does to a metric, for each example and mediator.
    Effects,
    /// Effects over all examples, for each mediator.
    Scores,
    /// Named numbers.
    Metrics,
    /// Files in the format of another tool.
    Files,
    /// Any other table.
    Table,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Model,
        Self::Tokenizer,
        Self::Tokens,
        Self::Prompts,
        Self::Labels,
        Self::Activations,
        Self::Dictionary,
        Self::Directions,
        Self::Effects,
        Self::Scores,
        Self::Metrics,
        Self::Files,
        Self::Table,
    ];

    /// The name in pipelines, manifests and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tokenizer => "tokenizer",
            Self::Tokens => "tokens",
            Self::Prompts => "prompts",
            Self::Labels => "labels",
            Self::Activations => "activations",
            Self::Dictionary => "dictionary",
            Self::Directions => "directions",
            Self::Effects => "effects",
            Self::Scores => "scores",
            Self::Metrics => "metrics",
            Self::Files => "files",
            Self::Table => "table",
        }
    }

    /// One line that says what an artifact of this kind holds.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Model => {
                "a language model: configuration, tensors, tokenizer files, norms and weight processing; one row is a tensor"
            }
            Self::Tokenizer => "a tokenizer: the files that define it; one row is a file",
            Self::Tokens => "token ids with mask and offsets into the text; one row is a sequence",
            Self::Prompts => {
                "clean prompts and their counterfactuals, with answers, named spans and causal variables; one row is a prompt"
            }
            Self::Labels => "values of named variables for documents or spans of them; one row is a value",
            Self::Activations => "vectors at hook points with example, position and token; one row is a vector",
            Self::Dictionary => {
                "a sparse autoencoder or transcoder: configuration, tensors, training curve; one row is a tensor or a step"
            }
            Self::Directions => "orthonormal bases of subspaces of activations; one row is a vector",
            Self::Effects => {
                "a metric of the clean, the counterfactual and the patched run; one row is an example and a mediator"
            }
            Self::Scores => "how much each mediator matters, as a ratio with its interval; one row is a mediator",
            Self::Metrics => "numbers with the name of their variant, unit, count and interval; one row is a number",
            Self::Files => "files in the format of another tool, as they are; one row is a file",
            Self::Table => "anything else tabular, with a schema of its own; rows as declared",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::Kind(text.chars().take(80).collect()))
    }
}
