//! The kinds of part that models are put together from.

/// A kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm with weight and bias.
    Layer,
    /// RMSNorm with weight.
    Rms,
}

/// How positions enter the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PositionKind {
    /// A learned vector per position is added to the embedding.
    Learned,
    /// Queries and keys are rotated (Su et al. 2021); the two halves of what is rotated are the pairs' first and second
    /// parts (not interleaved).
    Rotary {
        /// Base of the wavelengths.
        theta: f64,
        /// How many of a head's numbers, from the first, are rotated.
        dims: usize,
    },
}

/// An MLP's activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU in its tanh form.
    GeluNew,
    /// GELU by the error function.
    Gelu,
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The output of attention.
    pub out: bool,
    /// Both projections of the MLP.
    pub mlp: bool,
    /// The unembedding: with processed weights only.
    pub unembed: bool,
}
