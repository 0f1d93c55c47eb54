//! What is trained and how, as the trainer takes it.

use serde::Serialize;

use super::{BDecInit, ComputeDtype, Normalize};
use crate::{DecoderNorm, Objective};

/// What is trained and how: every option with its value, none that does nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// The architecture with its own options.
    pub objective: Objective,
    /// Number of latents.
    pub d_sae: usize,
    /// Steps in all.
    pub steps: u64,
    /// Activation vectors in a batch.
    pub batch: usize,
    /// The learning rate step by step.
    pub lr: LearningRate,
    /// Adam's decays of the moments; its epsilon is 1e-8.
    pub adam_betas: (f64, f64),
    /// Largest 2-norm of all gradients together.
    pub max_grad_norm: Option<f64>,
    /// Steps without firing after which a latent is dead.
    pub dead_feature_window: u64,
    /// Positions mixed together.
    pub block: u64,
    /// Active latents that the sparsity coefficient is steered to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l0_target: Option<f64>,
    /// Of a transcoder, which makes other activations than it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcoder: Option<Transcoder>,
    /// Norm of the decoder's rows at the start.
    pub decoder_init_norm: Option<f64>,
    /// Norm of the encoder's columns at the start.
    #[serde(skip_serializing_if = "EncoderInit::is_transposed")]
    pub encoder_init: EncoderInit,
    /// What happens to the norms of the decoder's rows.
    pub decoder_norm: DecoderNorm,
    /// Whether the encoder's input is the activation minus `b_dec`.
    pub apply_b_dec_to_input: bool,
    /// Normalisation of the activations.
    pub normalize_activations: Normalize,
    /// The initial `b_dec`.
    pub b_dec_init: BDecInit,
    /// Batches from which the norm of the activations is estimated, if it is.
    pub norm_estimate_batches: Option<u64>,
    /// What numbers are rounded to before they are multiplied.
    #[serde(skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
    /// Steps from one point of the curve to the next.
    pub log_every: u64,
    /// Seed of the initial weights and of the data order.
    pub seed: u64,
}

/// What a transcoder has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transcoder {
    /// Whether the input skips the latents through a matrix, too.
    pub skip: bool,
}

/// How long the encoder's columns are at the start; they point where the decoder's rows do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderInit {
    /// As long as those rows (SAELens).
    #[default]
    Transposed,
    /// All of this norm.
    Norm(f64),
    /// As uniform numbers in ±√(6/d_sae) make them, of which the rows are the directions.
    Kaiming,
}

impl EncoderInit {
    /// Whether it is the default.
    pub fn is_transposed(&self) -> bool {
        *self == Self::Transposed
    }
}

/// SAELens' learning rate (`get_lr_scheduler`): linear warm-up, then constant or cosine, then linear decay to 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LearningRate {
    /// The highest rate.
    pub lr: f64,
    /// Where a cosine ends; `None` for a constant rate.
    pub cosine_end: Option<f64>,
    /// Steps of warm-up.
    pub warm_up_steps: u64,
    /// Steps of decay.
    pub decay_steps: u64,
    /// Steps in all.
    pub steps: u64,
}

impl LearningRate {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let decay_start = self.steps - self.decay_steps;
        if step < self.warm_up_steps {
            return self.lr * (step + 1) as f64 / self.warm_up_steps as f64;
        }
        if step >= decay_start {
            let from = self.cosine_end.unwrap_or(self.lr);
            return from * (self.steps.saturating_sub(step)) as f64 / self.decay_steps.max(1) as f64;
        }
        self.cosine_end.map_or(self.lr, |end| {
            let progress = (step - self.warm_up_steps) as f64 / (decay_start - self.warm_up_steps) as f64;
            end + (self.lr - end) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
        })
    }
}
