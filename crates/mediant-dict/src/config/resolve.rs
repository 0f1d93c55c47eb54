//! From the options that a user wrote to those of the trainer, with everything that is wrong with them.

use super::{Architecture, LearningRate, LrSchedule, TrainConfig, Training, Transcoder};
use crate::train::not_on_devices;

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
        wrong.warm_up(&self.sae, steps);
        let estimate_batches = self.sae.normalize_activations.estimate_batches();
        if self.norm_estimate_batches.is_some() && estimate_batches.is_none() {
            let help =
                "it belongs to `sae.normalize_activations: expected_average_only_in` and `root_mean_square_norm`";
            wrong.add(
                "norm_estimate_batches",
                "`norm_estimate_batches` does nothing: no norm is estimated from batches",
                Some(help),
            );
        }
        if self.lr_end.is_some() && self.lr_schedule == LrSchedule::Constant {
            wrong.add(
                "lr_end",
                "`lr_end` does nothing with a constant learning rate",
                Some("add `lr_schedule: cosine`"),
            );
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
            norm_estimate_batches: estimate_batches.map(|batches| self.norm_estimate_batches.unwrap_or(batches)),
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

/// An option as the subject of a clause.
pub(super) fn named(path: &str) -> String {
    format!("`{}`", path.rsplit('.').next().unwrap_or(path))
}

#[derive(Default)]
pub(super) struct Wrong(Vec<ConfigProblem>);

impl Wrong {
    pub(super) fn add(&mut self, path: &'static str, message: impl Into<String>, help: Option<&str>) {
        self.0.push(ConfigProblem { path, message: message.into(), help: help.map(str::to_owned) });
    }

    /// `message` is what the option must be, without it.
    pub(super) fn require(&mut self, right: bool, path: &'static str, message: &str) {
        if !right {
            self.add(path, format!("{} {message}", named(path)), None);
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
            config.lr_schedule == LrSchedule::Constant
                || config.lr_end.is_none_or(|end| end >= 0.0 && end <= config.lr),
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
            self.add(
                "hook_out",
                "`hook_out` is the hook point that is read",
                Some("leave it out to train an autoencoder"),
            );
        }
        let built = [Relu, Topk, Batchtopk, Matryoshka, Jumprelu];
        if !built.contains(&sae.architecture) {
            let name = sae.architecture.name();
            let message =
                format!("there are no transcoders of `architecture: {name}`: neither SAELens nor sparsify has them");
            let names: Vec<&str> = built.iter().map(|family| family.name()).collect();
            self.add("sae.architecture", message, Some(&format!("they are of `{}`", names.join("`, `"))));
        }
        if !sae.normalize_activations.input_norm().is_none() {
            let name = sae.normalize_activations.input_norm().name();
            let message = format!("a transcoder's output cannot be brought back from `{name}`: it is another vector");
            let help = "`expected_average_only_in` and `root_mean_square_norm` have a factor for each of the two";
            self.add("sae.normalize_activations", message, Some(help));
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
