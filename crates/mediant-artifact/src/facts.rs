//! What is known of an artifact at plan time, before any data exists.
//!
//! A stage infers the facts of its outputs from its config and the facts of its inputs; a mistake such as "layer 7 of a
//! 4-layer model" is found there. What only a run can tell is `None`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DType, Digest, Kind, NormFacts, Processing};

/// The facts of one artifact, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Facts {
    /// Of a model.
    Model(ModelFacts),
    /// Of a tokenizer.
    Tokenizer(TokenizerFacts),
    /// Of token sequences.
    Tokens(TokensFacts),
    /// Of prompts.
    Prompts(PromptsFacts),
    /// Labels have none.
    Labels,
    /// Of activations.
    Activations(ActivationsFacts),
    /// Of a dictionary.
    Dictionary(DictionaryFacts),
    /// Of directions.
    Directions(DirectionsFacts),
    /// Of effects, where it is known what was measured.
    Effects(Option<MeasuredFacts>),
    /// Of scores, where it is known what search they are of.
    Scores(Option<SearchFacts>),
    /// Metrics have none.
    Metrics,
    /// Files have none.
    Files,
    /// Of a table.
    Table(TableFacts),
}

impl Facts {
    /// The kind of artifact these facts are about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Model(_) => Kind::Model,
            Self::Tokenizer(_) => Kind::Tokenizer,
            Self::Tokens(_) => Kind::Tokens,
            Self::Prompts(_) => Kind::Prompts,
            Self::Labels => Kind::Labels,
            Self::Activations(_) => Kind::Activations,
            Self::Dictionary(_) => Kind::Dictionary,
            Self::Directions(_) => Kind::Directions,
            Self::Effects(_) => Kind::Effects,
            Self::Scores(_) => Kind::Scores,
            Self::Metrics => Kind::Metrics,
            Self::Files => Kind::Files,
            Self::Table(_) => Kind::Table,
        }
    }

    /// The facts of a model, if they are that.
    pub fn model(&self) -> Option<&ModelFacts> {
        match self {
            Self::Model(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of a tokenizer, if they are that.
    pub fn tokenizer(&self) -> Option<&TokenizerFacts> {
        match self {
            Self::Tokenizer(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of token sequences, if they are that.
    pub fn tokens(&self) -> Option<&TokensFacts> {
        match self {
            Self::Tokens(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of prompts, if they are that.
    pub fn prompts(&self) -> Option<&PromptsFacts> {
        match self {
            Self::Prompts(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of activations, if they are that.
    pub fn activations(&self) -> Option<&ActivationsFacts> {
        match self {
            Self::Activations(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of a dictionary, if they are that.
    pub fn dictionary(&self) -> Option<&DictionaryFacts> {
        match self {
            Self::Dictionary(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of directions, if they are that.
    pub fn directions(&self) -> Option<&DirectionsFacts> {
        match self {
            Self::Directions(facts) => Some(facts),
            _ => None,
        }
    }

    /// What effects are of, if they are that and it is known.
    pub fn effects(&self) -> Option<&MeasuredFacts> {
        match self {
            Self::Effects(facts) => facts.as_ref(),
            _ => None,
        }
    }

    /// The search that scores are of, if they are that and it is known.
    pub fn scores(&self) -> Option<&SearchFacts> {
        match self {
            Self::Scores(facts) => facts.as_ref(),
            _ => None,
        }
    }

    /// The facts of a table, if they are that.
    pub fn table(&self) -> Option<&TableFacts> {
        match self {
            Self::Table(facts) => Some(facts),
            _ => None,
        }
    }
}

/// A hook point and the shape of what it yields at one position: `[d_model]`, `[n_heads, d_head]`, ...
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookFact {
    /// The name as in TransformerLens, `blocks.2.hook_resid_post`.
    pub name: String,
    /// Shape per position.
    pub shape: Vec<usize>,
}

impl HookFact {
    /// Numbers per position: the product of the shape.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The facts of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// The `model_type` of the Hugging Face config: `gpt2`, `llama`, ...
    pub architecture: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; fewer than `n_heads` under grouped-query attention.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// The tokenizer that comes with the model.
    pub tokenizer: ModelTokenizer,
    /// Number of parameters.
    pub parameters: u64,
    /// Every hook point the model has, in the order of the forward pass.
    #[serde(with = "shared_slice")]
    pub hooks: Arc<[HookFact]>,
    /// State of the normalisation layers.
    pub norms: NormFacts,
    /// What was done to the weights after loading.
    pub processing: Processing,
}

/// Whether a model comes with a tokenizer, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelTokenizer {
    /// It has none.
    Absent,
    /// One that is still to be trained.
    Unknown,
    /// Digest of its `tokenizer.json`.
    Known(Digest),
}

impl ModelTokenizer {
    /// Digest of its `tokenizer.json`, where there is one and it is known.
    pub fn digest(self) -> Option<Digest> {
        match self {
            Self::Known(digest) => Some(digest),
            Self::Absent | Self::Unknown => None,
        }
    }
}

impl ModelFacts {
    /// The hook point of this name.
    pub fn hook(&self, name: &str) -> Option<&HookFact> {
        self.hooks.iter().find(|hook| hook.name == name)
    }
}

/// The facts of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFacts {
    /// One more than the largest token id.
    pub vocab_size: usize,
    /// Digest of `tokenizer.json`; unknown until it is trained.
    pub digest: Option<Digest>,
}

/// The facts of token sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensFacts {
    /// Digest of the `tokenizer.json` that made the ids, where one did and it is known.
    pub tokenizer: Option<Digest>,
    /// Every id is below this.
    pub vocab_size: Option<usize>,
    /// No sequence is longer than this, in tokens.
    pub context: usize,
    /// Whether each sequence starts with the BOS token.
    pub prepend_bos: bool,
    /// Number of sequences.
    pub sequences: Option<u64>,
    /// Number of tokens.
    pub tokens: Option<u64>,
}

/// The facts of prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptsFacts {
    /// Names of the counterfactuals that every prompt has, in order.
    pub counterfactuals: Vec<String>,
    /// Names of the spans that versions of the prompts may have, where they are known.
    pub spans: Option<Vec<String>>,
    /// Digest of the `tokenizer.json` that made the ids, where it is known.
    pub tokenizer: Option<Digest>,
    /// Every id is below this.
    pub vocab_size: Option<usize>,
    /// Tokens of the longest version.
    pub longest: Option<usize>,
    /// Number of prompts.
    pub prompts: Option<u64>,
    /// Whether each version starts with the BOS token.
    pub prepend_bos: bool,
    /// Whether there are wrong answers to every prompt, where that is known.
    pub wrong: Option<bool>,
    /// Names of the causal variables that versions of the prompts may have, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<Vec<String>>,
}

/// The facts of activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationsFacts {
    /// The cached hook points.
    pub hooks: Vec<HookFact>,
    /// Format of the stored numbers.
    pub dtype: DType,
    /// Number of (example, position) rows.
    pub rows: Option<u64>,
    /// The model they come from, where it is known.
    pub model: Option<Box<ModelFacts>>,
}

impl ActivationsFacts {
    /// The cached hook point of this name.
    pub fn hook(&self, name: &str) -> Option<&HookFact> {
        self.hooks.iter().find(|hook| hook.name == name)
    }
}

/// The facts of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DictionaryFacts {
    /// Activation rule and family: `relu`, `topk`, ...
    pub architecture: String,
    /// The hook point it reads.
    pub hook: String,
    /// Width of its input.
    pub d_in: usize,
    /// Number of latents.
    pub d_sae: usize,
    /// The hook point it writes, where that is another: a transcoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_out: Option<HookFact>,
    /// Whether a transcoder has a matrix by which its input skips the latents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skips: bool,
    /// Whether it is a `topk` that chooses by pre-activations as they are, not times decoder norms.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_topk: bool,
    /// How every vector is normalised by itself before it is encoded, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_norm: Option<String>,
}

/// The facts of directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectionsFacts {
    /// Whether the first r vectors of a subspace are its subspace of rank r, where that is known.
    pub nested: Option<bool>,
    /// The subspaces, in order, where they are known.
    pub subspaces: Option<Vec<SubspaceFact>>,
    /// The search that found them, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchFacts>,
}

/// A subspace of the activations at a hook point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubspaceFact {
    /// The hook point and its shape.
    pub hook: HookFact,
    /// The positions, as pipelines write them, in JSON.
    pub positions: String,
    /// Number of its vectors, where it is known.
    pub rank: Option<usize>,
}

/// A search for mediators.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFacts {
    /// What was searched for: `heads`, `edges`, `directions`, ...
    pub mediator: String,
    /// How: `eap_ig`, `das`, ...
    pub method: String,
    /// Whether the labels were shuffled; none where the search has no labels.
    pub shuffled: Option<bool>,
}

/// What was measured of the mediators that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredFacts {
    /// The search, where it is known.
    pub search: Option<SearchFacts>,
    /// What is measured of the answer.
    pub metric: String,
    /// Of sets, what becomes of what is outside their family.
    pub outside: Option<String>,
    /// Whether random items were drawn beside them.
    pub random: bool,
}

/// The facts of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// Names of its columns, in order, where they are known.
    pub columns: Option<Vec<String>>,
}

/// `Arc<[T]>` as a JSON list, without serde's `rc` feature.
mod shared_slice {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(slice: &Arc<[T]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(slice.iter())
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<[T]>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into())
    }
}
