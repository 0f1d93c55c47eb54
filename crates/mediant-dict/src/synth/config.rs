//! The options of the generator. Names and meanings are those of SAELens 6.54 (`SyntheticModelConfig`); defaults are those of
//! SynthSAEBench-16k.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ConfigProblem;

/// The options of `synth_sae_bench`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SynthConfig {
    /// Training vectors.
    pub rows: u64,
    /// Whether training vectors are written as activations; else there is no such output, and a training draws them on the way.
    #[serde(default = "defaults::cache")]
    pub cache: bool,
    /// Features.
    #[serde(default = "defaults::num_features")]
    pub num_features: usize,
    /// Dimensions of a vector.
    #[serde(default = "defaults::hidden_dim")]
    pub hidden_dim: usize,
    /// How often features fire.
    #[serde(default)]
    pub firing_probability: FiringProbability,
    /// How strongly they fire in the mean, from the first feature to the last.
    #[serde(default)]
    pub mean_firing_magnitudes: MeanMagnitudes,
    /// How much that varies, a standard deviation drawn for each feature.
    #[serde(default)]
    pub std_firing_magnitudes: StdMagnitudes,
    /// Trees of features; `null` for none.
    #[serde(default = "defaults::hierarchy")]
    pub hierarchy: Option<Hierarchy>,
    /// Correlations of features; `null` for none.
    #[serde(default = "defaults::correlation")]
    pub correlation: Option<Correlation>,
    /// How features are pushed apart; `null` leaves them random.
    #[serde(default = "defaults::orthogonalization")]
    pub orthogonalization: Option<Orthogonalization>,
    /// Norm of the vector, of random direction, that is added to all.
    #[serde(default = "defaults::bias")]
    pub bias: f64,
    /// Of everything random: the features, and the vectors.
    #[serde(default)]
    pub seed: u64,
}

/// Feature number r, from 1, fires with probability a + b / r^`exponent`, a and b such that the first has `max_prob` and the
/// last `min_prob`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FiringProbability {
    /// The exponent.
    pub exponent: f64,
    /// Of the first feature.
    pub max_prob: f64,
    /// Of the last.
    pub min_prob: f64,
}

/// Means from `start` to `end`, in equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MeanMagnitudes {
    /// Of the first feature.
    pub start: f64,
    /// Of the last.
    pub end: f64,
}

/// Standard deviations |N(`mean`, `std`²)|.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StdMagnitudes {
    /// Mean of the normal distribution.
    pub mean: f64,
    /// Its standard deviation.
    pub std: f64,
}

/// Trees of features. Features are numbered breadth first, so that those near the roots fire most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hierarchy {
    /// Trees.
    pub total_root_nodes: usize,
    /// Children of a node.
    pub branching_factor: usize,
    /// Levels below the roots.
    pub max_depth: usize,
    /// Of so large a part of the parents at most one child fires at a time.
    pub mutually_exclusive_portion: f64,
    /// Raise the probabilities of children for what their parents and siblings take away.
    pub compensate_probabilities: bool,
    /// A child's magnitude is multiplied by that of its parent, divided by the parent's mean.
    pub scale_children_by_parent: bool,
}

/// Features fire when a normal variable is above their threshold. The variables have the covariance F Fᵀ + D, where F is
/// `[num_features, rank]`, drawn from N(0, `correlation_scale`²), and D diagonal so that variances are 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// Columns of F.
    pub rank: usize,
    /// Their scale.
    pub correlation_scale: f64,
}

/// Steps of Adam on Σ_{i≠j} (g_i·g_j)² + n Σ_i (‖g_i‖² − 1)², after which features are unit vectors again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Orthogonalization {
    /// Steps.
    pub num_steps: u64,
    /// Learning rate.
    pub lr: f64,
}

mod defaults {
    use super::{Correlation, Hierarchy, Orthogonalization};

    pub(super) fn cache() -> bool {
        true
    }
    pub(super) fn num_features() -> usize {
        16_384
    }
    pub(super) fn hidden_dim() -> usize {
        768
    }
    pub(super) fn hierarchy() -> Option<Hierarchy> {
        Some(Hierarchy::default())
    }
    pub(super) fn correlation() -> Option<Correlation> {
        Some(Correlation::default())
    }
    pub(super) fn orthogonalization() -> Option<Orthogonalization> {
        Some(Orthogonalization::default())
    }
    pub(super) fn bias() -> f64 {
        0.5
    }
}

impl Default for FiringProbability {
    fn default() -> Self {
        Self { exponent: 0.5, max_prob: 0.4, min_prob: 5e-4 }
    }
}

impl Default for MeanMagnitudes {
    fn default() -> Self {
        Self { start: 5.0, end: 4.0 }
    }
}

impl Default for StdMagnitudes {
    fn default() -> Self {
        Self { mean: 0.5, std: 0.5 }
    }
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self {
            total_root_nodes: 128,
            branching_factor: 4,
            max_depth: 3,
            mutually_exclusive_portion: 1.0,
            compensate_probabilities: true,
            scale_children_by_parent: true,
        }
    }
}

impl Default for Correlation {
    fn default() -> Self {
        Self { rank: 25, correlation_scale: 0.1 }
    }
}

impl Default for Orthogonalization {
    fn default() -> Self {
        Self { num_steps: 100, lr: 3e-4 }
    }
}

impl SynthConfig {
    /// Checks the options.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn check(&self) -> Result<(), Vec<ConfigProblem>> {
        let mut wrong = Vec::new();
        let mut require = |right: bool, path: &'static str, message: &str| {
            if !right {
                wrong.push(ConfigProblem { path, message: message.to_owned(), help: None });
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        // Counters of rows stay far inside u64, and their f64 images exact.
        require(self.rows >= 1 && self.rows < 1 << 53, "rows", "must be between 1 and 2^53");
        require((2..1 << 24).contains(&self.num_features), "num_features", "must be between 2 and 2^24");
        require((2..1 << 20).contains(&self.hidden_dim), "hidden_dim", "must be between 2 and 2^20");
        let FiringProbability { exponent, max_prob, min_prob } = self.firing_probability;
        require(positive(exponent), "firing_probability.exponent", "must be a positive number");
        require(max_prob > 0.0 && max_prob <= 1.0, "firing_probability.max_prob", "must be above 0 and at most 1");
        require(
            min_prob > 0.0 && min_prob < max_prob,
            "firing_probability.min_prob",
            "must be above 0 and below `max_prob`",
        );
        let MeanMagnitudes { start, end } = self.mean_firing_magnitudes;
        require(positive(start), "mean_firing_magnitudes.start", "must be a positive number");
        require(positive(end), "mean_firing_magnitudes.end", "must be a positive number");
        let StdMagnitudes { mean, std } = self.std_firing_magnitudes;
        require(mean.is_finite(), "std_firing_magnitudes.mean", "must be a number");
        require(not_negative(std), "std_firing_magnitudes.std", "must be 0 or a positive number");
        if let Some(hierarchy) = &self.hierarchy {
            let Hierarchy {
                total_root_nodes, branching_factor, max_depth, mutually_exclusive_portion: portion, ..
            } = *hierarchy;
            let (roots, features) = (total_root_nodes, self.num_features);
            require(
                roots >= 1,
                "hierarchy.total_root_nodes",
                "must be at least 1; without trees write `hierarchy: null`",
            );
            // The number of trees has a default, which the user may not know of.
            require(
                roots <= features,
                "hierarchy.total_root_nodes",
                &format!("{features} features have no {roots} roots"),
            );
            require(branching_factor >= 2, "hierarchy.branching_factor", "must be at least 2");
            require(max_depth >= 1, "hierarchy.max_depth", "must be at least 1; without trees write `hierarchy: null`");
            require((0.0..=1.0).contains(&portion), "hierarchy.mutually_exclusive_portion", "must be between 0 and 1");
        }
        if let Some(Correlation { rank, correlation_scale }) = self.correlation {
            require((1..1 << 12).contains(&rank), "correlation.rank", "must be between 1 and 4095");
            require(positive(correlation_scale), "correlation.correlation_scale", "must be a positive number");
        }
        if let Some(Orthogonalization { num_steps, lr }) = self.orthogonalization {
            require(num_steps >= 1, "orthogonalization.num_steps", "must be at least 1");
            require(positive(lr), "orthogonalization.lr", "must be a positive number");
        }
        require(not_negative(self.bias), "bias", "must be 0 or a positive number");
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
