//! The two properties of a model that decide what its activations mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// State of the normalisation layers (LayerNorm, RMSNorm).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norms {
    /// They divide by a scale computed from the activations at every position.
    #[default]
    Live,
    /// Some or all of them divide by a constant in its place: the constant of each of those, by its name (`blocks.2.ln1.qk`,
    /// `blocks.2.ln1.v`, `blocks.2.ln2`, `ln_final`). The others are live.
    Frozen(BTreeMap<String, f32>),
    /// There are none: their constants, gains and biases are part of the weights.
    Absent,
}

/// What is known of the state of the normalisation layers before their constants are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormFacts {
    /// All of them are live.
    #[default]
    Live,
    /// These are frozen, by name, and others are live.
    PartlyFrozen(Vec<String>),
    /// All of them are frozen.
    Frozen,
    /// There are none.
    Absent,
}

/// What was done to the weights after loading; TransformerLens' names of the four steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processing {
    /// Gains and biases of the norms folded into the next linear layers.
    pub fold_ln: bool,
    /// Weights that write to the residual stream centred.
    pub center_writing_weights: bool,
    /// Unembedding centred over the vocabulary.
    pub center_unembed: bool,
    /// Value biases folded into the output bias of attention.
    pub fold_value_biases: bool,
}
