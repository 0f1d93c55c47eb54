//! The two properties of a model that decide what its activations mean.

use serde::{Deserialize, Serialize};

/// State of the normalisation layers (LayerNorm, RMSNorm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norms {
    /// Computed from the activations at every position.
    #[default]
    Live,
    /// Divide by a constant in place of the computed scale.
    Frozen,
    /// Removed.
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
