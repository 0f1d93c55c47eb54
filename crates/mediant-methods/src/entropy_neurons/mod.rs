//! Entropy neurons: neurons of the last MLP that write where the unembedding hardly reads, and so can change a prediction only through the
//! scale of the last norm (Stolfo et al. 2024, "Confidence Regulation Neurons in Language Models", arXiv:2406.16254; Gurnee et al. 2024,
//! arXiv:2401.12181).

mod activity;
mod effects;
mod last_layer;

pub use activity::Activity;
pub use effects::{Change, Effects, Measure, ablate_neurons};
pub use last_layer::{Candidate, LastLayer, Spectrum};

/// A neuron and a vector that it writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The neuron of the last MLP.
    pub neuron: usize,
    /// `[d_model]`, added to the residual stream times the neuron's activation.
    pub vector: Vec<f32>,
}
