//! SynthSAEBench: vectors made of known features, on which it can be counted what an autoencoder found.
//!
//! The generator of SAELens 6.54 (`sae_lens.synthetic`, the semantics of its second version: children scaled by their
//! parents). Unit vectors, more than there are dimensions, fire sparsely: with Zipfian probabilities, correlated through a
//! Gaussian copula of low rank, in trees whose children fire only where their parent does. Sampling draws no dense
//! matrix: features below a parent that does not fire are never looked at.

pub mod artifact;
mod config;
mod evaluate;
mod features;
mod firing;
mod forest;
mod matching;
mod normal;
mod source;

pub use config::{
    Correlation, FiringProbability, Hierarchy, MeanMagnitudes, Orthogonalization, StdMagnitudes, SynthConfig,
};
pub use evaluate::{Counts, SynthEvaluation, evaluate};
pub use firing::{Firing, Set};
pub use matching::Matching;
pub use source::{EXAMPLE_ROWS, Generated, example_offsets};

use mediant_tensor::kernels::sparse::Codes;

use crate::Result;

/// The hook point that generated vectors stand at, as it were.
pub const HOOK: &str = "synthetic";

/// The architecture by which a `dictionary` artifact says that it is the truth, not something trained.
pub const ARCHITECTURE: &str = "synthetic";

/// The generator: features, and how they fire.
#[derive(Clone, Debug)]
pub struct Synthetic {
    config: SynthConfig,
    firing: Firing,
    /// `[num_features, hidden_dim]`.
    features: Vec<f32>,
    /// `[hidden_dim]`.
    bias: Vec<f32>,
}

impl Synthetic {
    /// Draws the features. `progress` hears how many steps of the orthogonalisation of how many are done.
    ///
    /// # Errors
    /// Whatever `progress` gives.
    pub fn draw<E>(config: SynthConfig, progress: impl FnMut(u64, u64) -> Result<(), E>) -> Result<Self, E> {
        let (features, bias) = features::draw(&config, progress)?;
        Ok(Self::new(config, features, bias))
    }

    fn new(config: SynthConfig, features: Vec<f32>, bias: Vec<f32>) -> Self {
        Self { firing: Firing::new(&config), config, features, bias }
    }

    /// The options.
    pub fn config(&self) -> &SynthConfig {
        &self.config
    }

    /// How features fire.
    pub fn firing(&self) -> &Firing {
        &self.firing
    }

    /// The features, unit vectors: `[num_features, hidden_dim]`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// What is added to every vector, `[hidden_dim]`.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Vectors `[rows, hidden_dim]` in which features fire as given.
    pub fn vectors(&self, firing: &Codes) -> Vec<f32> {
        firing.decode(&self.features, &self.bias)
    }
}
