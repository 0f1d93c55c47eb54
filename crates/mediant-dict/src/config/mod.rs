//! The options of a training as a user writes them.
//!
//! Defaults are those of SAELens 6.54 (`LanguageModelSAERunnerConfig`, `TrainingSAEConfig`), except where said otherwise.

mod family;
mod resolve;
mod sae;
mod training;

pub use resolve::ConfigProblem;
pub use sae::{Architecture, SaeConfig, SparsityMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use training::{EncoderInit, LearningRate, Training, Transcoder};

use crate::InputNorm;

/// The options of `train_sae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The hook to train on; needed only if the activations hold several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Makes it a transcoder: the hook whose activations it makes of those of `hook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_out: Option<String>,
    /// The architecture and its own options.
    pub sae: SaeConfig,
    /// Number of latents.
    pub d_sae: usize,
    /// Steps to train; give either this or `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Activation vectors to train on, rounded up to whole batches. More than there are means several epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Activation vectors in a batch.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// Learning rate of Adam.
    #[serde(default = "defaults::lr")]
    pub lr: f64,
    /// How the learning rate goes between warm-up and decay.
    #[serde(default)]
    pub lr_schedule: LrSchedule,
    /// Steps of linear warm-up of the learning rate, to `lr` at the last of them.
    #[serde(default)]
    pub lr_warm_up_steps: u64,
    /// Steps of linear decay to zero at the end of the training.
    #[serde(default)]
    pub lr_decay_steps: u64,
    /// Where the cosine ends; only with `lr_schedule: cosine`, by default a tenth of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_end: Option<f64>,
    /// Adam's decay of the first moment.
    #[serde(default = "defaults::adam_beta1")]
    pub adam_beta1: f64,
    /// Adam's decay of the second moment.
    #[serde(default = "defaults::adam_beta2")]
    pub adam_beta2: f64,
    /// Gradients of all parameters together are scaled down to this 2-norm; `null` for no clipping.
    #[serde(default = "defaults::max_grad_norm")]
    pub max_grad_norm: Option<f64>,
    /// A latent is dead that has not fired for more than so many steps.
    #[serde(default = "defaults::dead_feature_window")]
    pub dead_feature_window: u64,
    /// Positions of the block that batches are mixed in: sequences come in random order, fill a block, and the block is
    /// shuffled. (SAELens mixes 2,560 positions by default, dictionary_learning about four million.)
    #[serde(default = "defaults::block")]
    pub block: u64,
    /// Batches from which `sae.normalize_activations` estimates the norm, at most one epoch; by default 1000, and 100 with
    /// `root_mean_square_norm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_estimate_batches: Option<u64>,
    /// What numbers are rounded to before they are multiplied, by default f32; the others are for a GPU.
    #[serde(default, skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
    /// The training curve has a point every so many steps.
    #[serde(default = "defaults::log_every")]
    pub log_every: u64,
    /// Seed of the initial weights and of the data order.
    #[serde(default)]
    pub seed: u64,
}

/// How the learning rate goes between warm-up and decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Stays at `lr`.
    #[default]
    Constant,
    /// Half a cosine from `lr` to `lr_end` (SAELens' `cosineannealing`).
    Cosine,
}

/// What the inputs of dense products are rounded to. Sums, losses, gradients, moments and the parameters themselves are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// Not rounded here; a GPU's own products round f32 to TF32.
    #[default]
    F32,
    /// bfloat16: the range of f32 with 8 significant bits.
    Bf16,
    /// IEEE half precision: 11 significant bits; activations above 65,504 overflow, which ends the training.
    F16,
}

impl ComputeDtype {
    /// Whether nothing is rounded.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// As a user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

/// Normalisation of the activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As they are.
    #[default]
    None,
    /// Times √d_in / E‖x‖ (Anthropic, April 2024 update); what a transcoder is to make by a factor of its own, √d_out / E‖y‖.
    ExpectedAverageOnlyIn,
    /// Over √E‖x‖² (dictionary_learning's `get_norm_factor`); what a transcoder is to make by a factor of its own, √E‖y‖².
    RootMeanSquareNorm,
    /// Every vector by itself, `(x − mean(x)) / (std(x) + 1e-5)`, in training and at inference (SAELens; top-AFA; OpenAI's GPT-2
    /// autoencoders).
    LayerNorm,
    /// Every vector by itself, `x √d_in / ‖x‖`, in training and at inference (SAELens).
    ConstantNormRescale,
}

impl Normalize {
    /// Batches from which a factor for all vectors is estimated if nothing else is said: SAELens' and dictionary_learning's
    /// defaults.
    fn estimate_batches(self) -> Option<u64> {
        match self {
            Self::ExpectedAverageOnlyIn => Some(1000),
            Self::RootMeanSquareNorm => Some(100),
            Self::None | Self::LayerNorm | Self::ConstantNormRescale => None,
        }
    }

    /// What happens to every vector by itself.
    pub fn input_norm(self) -> InputNorm {
        match self {
            Self::LayerNorm => InputNorm::LayerNorm,
            Self::ConstantNormRescale => InputNorm::ConstantNormRescale,
            Self::None | Self::ExpectedAverageOnlyIn | Self::RootMeanSquareNorm => InputNorm::None,
        }
    }
}

/// The initial `b_dec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BDecInit {
    /// Zero.
    #[default]
    Zeros,
    /// The mean of the first batch.
    Mean,
    /// The geometric median of the first batch, by Weiszfeld's algorithm (dictionary_learning's top-k trainers).
    GeometricMedian,
}

mod defaults {
    pub(super) fn batch() -> usize {
        4096
    }
    pub(super) fn lr() -> f64 {
        3e-4
    }
    pub(super) fn adam_beta1() -> f64 {
        0.9
    }
    pub(super) fn adam_beta2() -> f64 {
        0.999
    }
    pub(super) fn max_grad_norm() -> Option<f64> {
        Some(1.0)
    }
    pub(super) fn dead_feature_window() -> u64 {
        1000
    }
    pub(super) fn block() -> u64 {
        1 << 17
    }
    pub(super) fn log_every() -> u64 {
        10
    }
}
