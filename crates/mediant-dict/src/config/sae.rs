//! The `sae:` options of `train_sae`: which family, with its own options.
//!
//! Names and defaults are those of SAELens 6.54 (`TrainingSAEConfig` and its families), except where said otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{BDecInit, Normalize};
use crate::{AuxLoss, DecoderNorm};

/// The `sae:` options of `train_sae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaeConfig {
    /// The family of the autoencoder.
    pub architecture: Architecture,
    /// topk: active latents of each vector, a whole number; batchtopk, matryoshka: of a vector in the mean. By
    /// default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<f64>,
    /// topk, batchtopk, matryoshka: choose latents by activation times decoder norm; by default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescale_acts_by_decoder_norm: Option<bool>,
    /// topk, batchtopk, matryoshka, top_afa: coefficient of the AuxK loss, in which dead latents reconstruct the residual;
    /// by default 1, for top_afa and with `aux_loss: dictionary_learning` 1/32, as there, and 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux_loss_coefficient: Option<f64>,
    /// topk, batchtopk, matryoshka: whose AuxK loss; by default `saelens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux_loss: Option<AuxLoss>,
    /// batchtopk, matryoshka: weight of each batch's smallest chosen activation in the running threshold that
    /// inference uses; by default 0.01 (dictionary_learning: 0.001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topk_threshold_lr: Option<f64>,
    /// batchtopk, matryoshka: the threshold begins after this step, counted from 0, with that step's smallest chosen activation
    /// as it is, and takes a batch without active latents for one of 0 (dictionary_learning, after step 1000). By default it
    /// begins with the first step, from 0, and passes over such a batch (SAELens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topk_threshold_start_step: Option<u64>,
    /// matryoshka: how many latents, from the first, reconstruct by themselves, rising; `d_sae` is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matryoshka_widths: Option<Vec<usize>>,
    /// matryoshka: an AuxK loss for each width, in which dead ones of the latents that the width adds reconstruct what the
    /// width leaves, in place of one for all; by default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_matryoshka_aux_loss: Option<bool>,
    /// relu, gated: coefficient of the L1 loss, by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1: Option<f64>,
    /// relu, gated: steps in which the L1 coefficient rises linearly from 0, by default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1_warm_up_steps: Option<u64>,
    /// gated: hold W_dec and b_dec constant in the reconstruction from the gate, as the paper and dictionary_learning do; by
    /// default false, as in SAELens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated_detach_decoder: Option<bool>,
    /// jumprelu: coefficient of the sparsity loss, by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l0_coefficient: Option<f64>,
    /// jumprelu: steps in which that coefficient rises linearly from 0, by default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l0_warm_up_steps: Option<u64>,
    /// jumprelu: the thresholds at the start, by default 0.01, and 0.001 with `relative` (dictionary_learning).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumprelu_init_threshold: Option<f64>,
    /// jumprelu: width around a threshold in which it has a gradient, by default 0.05, and 0.001 with `relative`
    /// (dictionary_learning).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumprelu_bandwidth: Option<f64>,
    /// jumprelu: what is penalised; by default `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumprelu_sparsity_loss_mode: Option<SparsityMode>,
    /// jumprelu with `tanh`: its scale, by default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumprelu_tanh_scale: Option<f64>,
    /// jumprelu with `quadratic` or `relative`: the number of active latents that is aimed at; with `relative` by default 20
    /// (dictionary_learning).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// jumprelu: whether the estimator's gradient reaches pre-activations too (Anthropic) or the thresholds alone
    /// (DeepMind); by default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumprelu_ste_to_input: Option<bool>,
    /// jumprelu: coefficient of a loss that pulls dead latents up to their thresholds (Anthropic: 3e-6); none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_act_loss_coefficient: Option<f64>,
    /// relu, gated, jumprelu: the number of active latents that the sparsity coefficient is steered to, from its own value,
    /// once it has warmed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l0_target: Option<f64>,
    /// top_afa: λ of the loss that draws the norm of the codes to that of the input, by default 1/32 (the paper tries 1/128
    /// to 1/16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afa_coeff: Option<f64>,
    /// top_afa: how many dead latents reconstruct the residual, at most; by default 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_aux: Option<usize>,
    /// matching_pursuit: a vector is done once what is left of it is of a smaller norm, in the units of training; by default
    /// 0.01, and 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual_threshold: Option<f64>,
    /// matching_pursuit: choices for a vector, at most; by default as many as it has dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<usize>,
    /// matching_pursuit: a vector is done once a latent is chosen again; by default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_on_duplicate_support: Option<bool>,
    /// What happens to the norms of the decoder's rows: `free`, SAELens' and the default of all but top_afa;
    /// `one_after_step`, dictionary_learning's; `one_before_step`, the default of top_afa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_norm: Option<DecoderNorm>,
    /// Norm of the decoder's rows at the start, by default 0.1; `null` leaves them as the Kaiming initialisation draws them.
    /// No option of top_afa, whose rows are kept at norm 1, and of matching_pursuit, whose rows start with it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub decoder_init_norm: Option<Option<f64>>,
    /// Norm of the encoder's columns at the start, which point where the decoder's rows do; by default that of these rows
    /// (dictionary_learning: 0.1 for its `AutoEncoder`). `null` makes them as long as a Kaiming draw of the encoder, uniform in
    /// ±√(6/d_sae) (top-AFA's code). No option of transcoders and of matching_pursuit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub encoder_init_norm: Option<Option<f64>>,
    /// Subtract `b_dec` from the input before encoding; by default true, and not of transcoders. (dictionary_learning's
    /// `JumpReluAutoEncoder` does not.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply_b_dec_to_input: Option<bool>,
    /// Transcoders: add `x W_skipᵀ` to the output, W_skip trained from zero.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// Normalisation of the activations: by one factor for all during training, taken over into the weights at its end; or of each
    /// vector by itself, undone in the reconstruction, and then no option of transcoders.
    #[serde(default)]
    pub normalize_activations: Normalize,
    /// The initial `b_dec`.
    #[serde(default)]
    pub b_dec_init: BDecInit,
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// The family of an autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// ReLU with an L1 loss on activations times decoder norms: SAELens' `standard` (Anthropic, April 2024 update).
    Relu,
    /// A gate and a magnitude for every latent (Rajamanoharan et al. 2024, arXiv:2404.16014), in SAELens' form.
    Gated,
    /// The k largest pre-activations, then ReLU (Gao et al. 2024, arXiv:2406.04093), in SAELens' form.
    Topk,
    /// The k·batch largest activations of a batch (Bussmann et al. 2024, arXiv:2412.06410); a `jumprelu` at inference.
    Batchtopk,
    /// `batchtopk` whose first latents reconstruct by themselves too (Bussmann et al. 2025, arXiv:2503.17547).
    Matryoshka,
    /// A threshold for every latent (Rajamanoharan et al. 2024, arXiv:2407.14435).
    Jumprelu,
    /// As many latents of each vector as bring the norm of the codes nearest its own (`SewoongLee/top-afa-sae`).
    #[serde(rename = "top_afa")]
    TopAfa,
    /// Latents chosen one after another, each for what the others left; the decoder is the encoder. In SAELens' form.
    #[serde(rename = "matching_pursuit")]
    MatchingPursuit,
}

/// What `jumprelu` penalises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SparsityMode {
    /// The number of active latents, L0 (DeepMind).
    #[default]
    Step,
    /// Σ tanh(c f ‖W_dec‖) (Anthropic, January 2025 update).
    Tanh,
    /// 2/t (L0 − t)² with `target_l0` t (Gemma Scope 2).
    Quadratic,
    /// (L0/t − 1)² of the batch's mean L0, with `target_l0` t (dictionary_learning).
    Relative,
}

impl SparsityMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Tanh => "tanh",
            Self::Quadratic => "quadratic",
            Self::Relative => "relative",
        }
    }
}

impl Architecture {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Gated => "gated",
            Self::Topk => "topk",
            Self::Batchtopk => "batchtopk",
            Self::Matryoshka => "matryoshka",
            Self::Jumprelu => "jumprelu",
            Self::TopAfa => "top_afa",
            Self::MatchingPursuit => "matching_pursuit",
        }
    }
}
