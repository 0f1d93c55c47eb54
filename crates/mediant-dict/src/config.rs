//! The options of a training as a user writes them, and as the trainer takes them.
//!
//! Defaults are those of SAELens 6.54 (`LanguageModelSAERunnerConfig`, `TrainingSAEConfig`), except where said otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::not_on_devices;
use crate::{Architecture, DecoderNorm, Objective, SaeConfig};

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
    /// Batches from which `sae.normalize_activations` estimates the norm, by default 1000, and at most one epoch.
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

/// Scaling of the activations during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As they are.
    #[default]
    None,
    /// Times √d_in / E‖x‖ (Anthropic, April 2024 update); what a transcoder is to make by a factor of its own, √d_out / E‖y‖.
    ExpectedAverageOnlyIn,
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

/// A wrong option: a path into the config, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// `sae.k`, `steps`, ….
    pub path: &'static str,
    /// A clause without a full stop.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

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
    /// Scaling of the activations.
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

impl TrainConfig {
    /// Checks the options and fills in what follows from them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn resolve(&self) -> Result<Training, Vec<ConfigProblem>> {
        let mut wrong = Wrong::default();
        wrong.check_ranges(self);
        let objective = wrong.objective(&self.sae, self.d_sae);
        let decoder_norm = self.sae.decoder_norm.unwrap_or(objective.decoder_norm());
        let decoder_init_norm = wrong.decoder_init_norm(&self.sae, &objective, decoder_norm);
        wrong.empty_choice(&objective, self.batch);
        let encoder_init = wrong.encoder_init(&self.sae);
        let transcoder = wrong.transcoder(self);
        let steps = wrong.steps(self);
        wrong.threshold_start(&objective, steps);
        let estimates = self.sae.normalize_activations != Normalize::None;
        if self.norm_estimate_batches.is_some() && !estimates {
            wrong.add("norm_estimate_batches", "does nothing without `sae.normalize_activations`", None);
        }
        if self.lr_end.is_some() && self.lr_schedule == LrSchedule::Constant {
            wrong.add("lr_end", "does nothing with a constant learning rate", Some("add `lr_schedule: cosine`"));
        }
        if !wrong.0.is_empty() {
            return Err(wrong.0);
        }
        let training = Training {
            d_sae: self.d_sae,
            steps,
            batch: self.batch,
            lr: LearningRate {
                lr: self.lr,
                cosine_end: (self.lr_schedule == LrSchedule::Cosine).then(|| self.lr_end.unwrap_or(self.lr / 10.0)),
                warm_up_steps: self.lr_warm_up_steps,
                decay_steps: self.lr_decay_steps,
                steps,
            },
            adam_betas: (self.adam_beta1, self.adam_beta2),
            max_grad_norm: self.max_grad_norm,
            dead_feature_window: self.dead_feature_window,
            block: self.block,
            l0_target: self.sae.l0_target,
            decoder_init_norm,
            encoder_init,
            decoder_norm,
            objective,
            transcoder,
            apply_b_dec_to_input: self.sae.apply_b_dec_to_input.unwrap_or(transcoder.is_none()),
            normalize_activations: self.sae.normalize_activations,
            b_dec_init: self.sae.b_dec_init,
            norm_estimate_batches: estimates.then(|| self.norm_estimate_batches.unwrap_or(1000)),
            compute_dtype: self.compute_dtype,
            log_every: self.log_every,
            seed: self.seed,
        };
        match not_on_devices(&training) {
            Some(what) if !self.compute_dtype.is_f32() => {
                let message = format!("{what} trains on the CPU on any device, and its products are of f32 numbers");
                wrong.add("compute_dtype", message, Some("leave it out"));
                Err(wrong.0)
            }
            _ => Ok(training),
        }
    }
}

#[derive(Default)]
pub(crate) struct Wrong(Vec<ConfigProblem>);

impl Wrong {
    pub(crate) fn add(&mut self, path: &'static str, message: impl Into<String>, help: Option<&str>) {
        self.0.push(ConfigProblem { path, message: message.into(), help: help.map(str::to_owned) });
    }

    pub(crate) fn require(&mut self, right: bool, path: &'static str, message: &str) {
        if !right {
            self.add(path, message, None);
        }
    }

    fn check_ranges(&mut self, config: &TrainConfig) {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let decay = |beta: f64| (0.0..1.0).contains(&beta);
        self.require(
            config.d_sae >= 2 && u32::try_from(config.d_sae).is_ok(),
            "d_sae",
            "must be between 2 and 2^32 - 1",
        );
        self.require(config.batch >= 2, "batch", "must be at least 2");
        self.require(positive(config.lr), "lr", "must be a positive number");
        self.require(
            config.lr_end.is_none_or(|end| end >= 0.0 && end <= config.lr),
            "lr_end",
            "must be between 0 and `lr`",
        );
        self.require(decay(config.adam_beta1), "adam_beta1", "must be at least 0 and below 1");
        self.require(decay(config.adam_beta2), "adam_beta2", "must be at least 0 and below 1");
        self.require(
            config.max_grad_norm.is_none_or(positive),
            "max_grad_norm",
            "must be a positive number, or null for no clipping",
        );
        self.require(config.block >= 1, "block", "must be at least 1");
        self.require(config.norm_estimate_batches != Some(0), "norm_estimate_batches", "must be at least 1");
        self.require(config.log_every >= 1, "log_every", "must be at least 1");
    }

    fn transcoder(&mut self, config: &TrainConfig) -> Option<Transcoder> {
        use Architecture::{Batchtopk, Jumprelu, Matryoshka, Relu, Topk};
        let sae = &config.sae;
        let Some(hook_out) = &config.hook_out else {
            if sae.skip {
                let help = "add `hook_out:`, the hook point whose activations are to be made";
                self.add("sae.skip", "only a transcoder has a skip connection", Some(help));
            }
            return None;
        };
        if config.hook.as_ref() == Some(hook_out) {
            self.add("hook_out", "is the hook point that is read", Some("leave it out to train an autoencoder"));
        }
        let built = [Relu, Topk, Batchtopk, Matryoshka, Jumprelu];
        if !built.contains(&sae.architecture) {
            let name = sae.architecture.name();
            let message =
                format!("there are no transcoders of `architecture: {name}`: neither SAELens nor sparsify has them");
            let names: Vec<&str> = built.iter().map(|family| family.name()).collect();
            self.add("sae.architecture", message, Some(&format!("they are of `{}`", names.join("`, `"))));
        }
        if sae.apply_b_dec_to_input == Some(true) {
            let message = "a transcoder's `b_dec` belongs to its output and cannot be subtracted from its input";
            self.add("sae.apply_b_dec_to_input", message, Some("leave it out"));
        }
        if sae.encoder_init_norm.is_some() {
            let message = "a transcoder's encoder does not begin as its decoder's transpose: it is drawn by itself";
            self.add("sae.encoder_init_norm", message, Some("leave it out"));
        }
        Some(Transcoder { skip: sae.skip })
    }

    /// Zero for either where the options give none; an error is noted then.
    fn steps(&mut self, config: &TrainConfig) -> u64 {
        let steps = match (config.steps, config.tokens) {
            (Some(_), Some(_)) => {
                self.add("tokens", "`steps` and `tokens` both say how long to train", Some("leave one of them out"));
                return 0;
            }
            (None, None) => {
                self.add(
                    "",
                    "neither `steps` nor `tokens` says how long to train",
                    Some("add `steps: 1000`, for example"),
                );
                return 0;
            }
            (Some(steps), None) => steps,
            (None, Some(tokens)) => tokens.div_ceil(config.batch.max(1) as u64),
        };
        let path = if config.steps.is_some() { "steps" } else { "tokens" };
        self.require(steps >= 1, path, "must be at least 1");
        // Counters of rows stay far inside u64, and their f64 images exact.
        let rows = u128::from(steps) * config.batch as u128;
        self.require(rows < 1 << 53, path, "is more than can be counted");
        if config.lr_warm_up_steps.saturating_add(config.lr_decay_steps) > steps {
            let message = format!("warm-up and decay take longer than the training, which has {steps} steps");
            self.add(
                if config.lr_warm_up_steps > steps { "lr_warm_up_steps" } else { "lr_decay_steps" },
                message,
                None,
            );
        }
        steps
    }
}
