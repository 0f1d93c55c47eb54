//! Which family the `sae:` options describe, and what is wrong with them.

use super::resolve::{Wrong, named};
use super::{Architecture, EncoderInit, SaeConfig, SparsityMode};
use crate::{AuxLoss, BatchChoice, DecoderNorm, JumpRelu, MatchingPursuit, Objective, Sparsity, TopAfa};

impl Wrong {
    /// The family that the options describe. Where something is wrong the value does not matter.
    pub(super) fn objective(&mut self, sae: &SaeConfig, d_sae: usize) -> Objective {
        self.foreign_options(sae);
        self.l0_target(sae, d_sae);
        match sae.architecture {
            Architecture::Relu | Architecture::Gated => {
                let l1 = sae.l1.unwrap_or(1.0);
                self.not_negative(l1, "sae.l1");
                let l1_warm_up_steps = sae.l1_warm_up_steps.unwrap_or(0);
                match sae.architecture {
                    Architecture::Gated => {
                        let detach_decoder = sae.gated_detach_decoder.unwrap_or(false);
                        Objective::Gated { l1, l1_warm_up_steps, detach_decoder }
                    }
                    _ => Objective::Relu { l1, l1_warm_up_steps },
                }
            }
            Architecture::Topk => {
                let choice = self.choice(sae, d_sae);
                Objective::TopK {
                    k: choice.k as usize,
                    rescale_acts_by_decoder_norm: choice.rescale_acts_by_decoder_norm,
                    aux_loss_coefficient: choice.aux_loss_coefficient,
                    aux_loss: choice.aux_loss,
                }
            }
            Architecture::Batchtopk => Objective::BatchTopK { choice: self.choice(sae, d_sae) },
            Architecture::Matryoshka => {
                let (choice, widths) = (self.choice(sae, d_sae), self.widths(sae, d_sae));
                let aux_by_width = sae.use_matryoshka_aux_loss.unwrap_or(false);
                if aux_by_width && choice.aux_loss_coefficient == 0.0 {
                    let message = "`use_matryoshka_aux_loss` does nothing with an `aux_loss_coefficient` of 0";
                    self.add("sae.use_matryoshka_aux_loss", message, Some("leave one of them out"));
                }
                Objective::Matryoshka { choice, widths, aux_by_width }
            }
            Architecture::Jumprelu => Objective::JumpRelu(self.jump_relu(sae, d_sae)),
            Architecture::TopAfa => Objective::TopAfa(self.top_afa(sae)),
            Architecture::MatchingPursuit => Objective::MatchingPursuit(self.matching_pursuit(sae)),
        }
    }

    fn matching_pursuit(&mut self, sae: &SaeConfig) -> MatchingPursuit {
        if sae.apply_b_dec_to_input == Some(false) {
            let message = "a matching pursuit that does not subtract `b_dec` does not add it either, and is not built";
            self.add("sae.apply_b_dec_to_input", message, Some("leave it out"));
        }
        let rule = MatchingPursuit {
            residual_threshold: sae.residual_threshold.unwrap_or(1e-2),
            max_iterations: sae.max_iterations,
            stop_on_duplicate_support: sae.stop_on_duplicate_support.unwrap_or(true),
        };
        self.not_negative(rule.residual_threshold, "sae.residual_threshold");
        self.require(rule.max_iterations != Some(0), "sae.max_iterations", "must be at least 1");
        rule
    }

    fn top_afa(&mut self, sae: &SaeConfig) -> TopAfa {
        let options = TopAfa {
            afa_coefficient: sae.afa_coeff.unwrap_or(1.0 / 32.0),
            aux_loss_coefficient: sae.aux_loss_coefficient.unwrap_or(1.0 / 32.0),
            k_aux: sae.k_aux.unwrap_or(512),
        };
        self.not_negative(options.afa_coefficient, "sae.afa_coeff");
        self.not_negative(options.aux_loss_coefficient, "sae.aux_loss_coefficient");
        self.require(options.k_aux >= 1, "sae.k_aux", "must be at least 1");
        options
    }

    /// A batch of which nothing would be kept: ⌊k · batch⌋ = 0.
    pub(super) fn empty_choice(&mut self, objective: &Objective, batch: usize) {
        if let Some(choice) = objective.batch_choice()
            && choice.k > 0.0
            && choice.entries(batch) == 0
        {
            let message = format!(
                "no latent would be active: of a batch of {batch}, k · batch = {} are kept",
                choice.k * batch as f64
            );
            self.add("sae.k", message, Some("k · batch must be at least 1; a larger `batch` allows a smaller k"));
        }
    }

    /// The norm that decoder rows start with.
    pub(super) fn decoder_init_norm(
        &mut self,
        sae: &SaeConfig,
        objective: &Objective,
        decoder_norm: DecoderNorm,
    ) -> Option<f64> {
        let fixed = match (objective, decoder_norm) {
            (Objective::MatchingPursuit(_), _) => Some("starts with decoder rows of norm 1"),
            (_, DecoderNorm::OneBeforeStep | DecoderNorm::OneAfterStep) => Some("keeps decoder rows at norm 1"),
            (_, DecoderNorm::Free) => None,
        };
        match (fixed, sae.decoder_init_norm) {
            (None, given) => {
                let norm = given.unwrap_or(Some(0.1));
                self.require(
                    norm.is_none_or(|norm| norm > 0.0 && norm.is_finite()),
                    "sae.decoder_init_norm",
                    "must be a positive number, or null to leave the norms",
                );
                norm
            }
            (Some(_), None) => Some(1.0),
            (Some(what), Some(_)) => {
                let message = format!("`decoder_init_norm` does nothing: `{}` {what}", sae.architecture.name());
                self.add("sae.decoder_init_norm", message, Some("leave it out"));
                None
            }
        }
    }

    /// How long the encoder's columns are at the start.
    pub(super) fn encoder_init(&mut self, sae: &SaeConfig) -> EncoderInit {
        match sae.encoder_init_norm {
            None => EncoderInit::Transposed,
            Some(None) => EncoderInit::Kaiming,
            Some(Some(norm)) => {
                let possible = norm > 0.0 && norm.is_finite();
                self.require(
                    possible,
                    "sae.encoder_init_norm",
                    "must be a positive number, or null for a Kaiming draw",
                );
                EncoderInit::Norm(norm)
            }
        }
    }

    /// A sparsity coefficient that would never be whole, or never be steered.
    pub(super) fn warm_up(&mut self, sae: &SaeConfig, steps: u64) {
        let (path, given) = match sae.architecture {
            Architecture::Jumprelu => ("sae.l0_warm_up_steps", sae.l0_warm_up_steps),
            _ => ("sae.l1_warm_up_steps", sae.l1_warm_up_steps),
        };
        let Some(warm_up) = given.filter(|_| steps > 0) else { return };
        if warm_up > steps {
            let message = format!("{} is longer than the training, which has {steps} steps", named(path));
            self.add(path, message, Some("the coefficient would never be whole: a shorter warm-up, or more steps"));
        } else if sae.l0_target.is_some() && warm_up == steps {
            let message =
                format!("`l0_target` is steered to after the warm-up, and {} takes all {steps} steps", named(path));
            self.add(path, message, Some("a shorter warm-up, or more steps"));
        }
    }

    /// A threshold that would never begin.
    pub(super) fn threshold_start(&mut self, objective: &Objective, steps: u64) {
        if let Some(start) = objective.batch_choice().and_then(|choice| choice.threshold_start_step)
            && steps > 0
            && start.saturating_add(1) >= steps
        {
            let message = format!(
                "the threshold would never begin: the last of the {steps} steps is step {}",
                steps.saturating_sub(1)
            );
            self.add("sae.topk_threshold_start_step", message, Some("train longer, or begin earlier"));
        }
    }

    fn l0_target(&mut self, sae: &SaeConfig, d_sae: usize) {
        let Some(target) = sae.l0_target else { return };
        let possible = target > 0.0 && target <= d_sae as f64;
        self.require(possible, "sae.l0_target", "must be above 0 and at most `d_sae`");
        if let Some(mode @ (SparsityMode::Quadratic | SparsityMode::Relative)) = sae.jumprelu_sparsity_loss_mode {
            let message = format!("the {} loss aims at `target_l0` by itself", mode.name());
            self.add("sae.l0_target", message, Some("leave one of them out"));
        }
        if sae.l1 == Some(0.0) || sae.l0_coefficient == Some(0.0) {
            let help = "the coefficient is multiplied until the target is met";
            self.add("sae.l0_target", "a sparsity coefficient of 0 cannot be steered", Some(help));
        }
    }

    fn choice(&mut self, sae: &SaeConfig, d_sae: usize) -> BatchChoice {
        let aux_loss = sae.aux_loss.unwrap_or_default();
        let aux_loss_coefficient = match aux_loss {
            AuxLoss::Saelens => 1.0,
            AuxLoss::DictionaryLearning => 1.0 / 32.0,
        };
        let choice = BatchChoice {
            k: sae.k.unwrap_or(100.0),
            rescale_acts_by_decoder_norm: sae.rescale_acts_by_decoder_norm.unwrap_or(true),
            aux_loss_coefficient: sae.aux_loss_coefficient.unwrap_or(aux_loss_coefficient),
            aux_loss,
            threshold_lr: sae.topk_threshold_lr.unwrap_or(0.01),
            threshold_start_step: sae.topk_threshold_start_step,
        };
        if sae.aux_loss.is_some() && choice.aux_loss_coefficient == 0.0 {
            let message = "`aux_loss` does nothing with an `aux_loss_coefficient` of 0";
            self.add("sae.aux_loss", message, Some("leave one of them out"));
        }
        if sae.architecture == Architecture::Topk {
            let whole = choice.k >= 1.0 && choice.k.fract() == 0.0;
            self.require(whole, "sae.k", "must be a whole number of at least 1; a mean is for `batchtopk`");
        } else {
            self.require(choice.k > 0.0 && choice.k.is_finite(), "sae.k", "must be above 0");
        }
        if choice.k > d_sae as f64 && d_sae >= 2 {
            let (k, default) = (choice.k, if sae.k.is_none() { " by default" } else { "" });
            let message = format!("`k` is {k}{default}, and there are only {d_sae} latents (`d_sae`)");
            self.add(
                if sae.k.is_none() { "sae" } else { "sae.k" },
                message,
                Some("give a smaller `k`, or a larger `d_sae`"),
            );
        }
        self.not_negative(choice.aux_loss_coefficient, "sae.aux_loss_coefficient");
        let share = choice.threshold_lr > 0.0 && choice.threshold_lr <= 1.0;
        self.require(share, "sae.topk_threshold_lr", "must be above 0 and at most 1");
        choice
    }

    /// The inner widths.
    fn widths(&mut self, sae: &SaeConfig, d_sae: usize) -> Vec<usize> {
        let Some(widths) = &sae.matryoshka_widths else {
            let help = "add `matryoshka_widths: [256, 1024]`, for example";
            self.add("sae.architecture", "a matryoshka autoencoder needs `matryoshka_widths`", Some(help));
            return Vec::new();
        };
        let inner: Vec<usize> = widths.iter().copied().filter(|width| *width != d_sae).collect();
        self.require(!inner.is_empty(), "sae.matryoshka_widths", "needs a width below `d_sae`");
        let rising = widths.windows(2).all(|pair| pair[0] < pair[1]) && widths.first() != Some(&0);
        let fitting = widths.iter().all(|width| *width <= d_sae);
        self.require(rising && fitting, "sae.matryoshka_widths", "must rise, from at least 1 to at most `d_sae`");
        inner
    }

    fn jump_relu(&mut self, sae: &SaeConfig, d_sae: usize) -> JumpRelu {
        let mode = sae.jumprelu_sparsity_loss_mode.unwrap_or_default();
        if sae.jumprelu_tanh_scale.is_some() && mode != SparsityMode::Tanh {
            let help = "add `jumprelu_sparsity_loss_mode: tanh`";
            self.add("sae.jumprelu_tanh_scale", "`jumprelu_tanh_scale` does nothing without the tanh loss", Some(help));
        }
        if sae.target_l0.is_some() && !matches!(mode, SparsityMode::Quadratic | SparsityMode::Relative) {
            let help = "add `jumprelu_sparsity_loss_mode: quadratic` or `relative`";
            self.add(
                "sae.target_l0",
                "`target_l0` does nothing without the quadratic or the relative loss",
                Some(help),
            );
        }
        if sae.jumprelu_ste_to_input == Some(true) && mode == SparsityMode::Relative {
            let message = "the relative loss has gradients towards thresholds alone, as in dictionary_learning";
            self.add("sae.jumprelu_ste_to_input", message, Some("leave one of them out"));
        }
        let sparsity = match (mode, sae.target_l0) {
            (SparsityMode::Step, _) => Sparsity::Step,
            (SparsityMode::Tanh, _) => Sparsity::Tanh { scale: sae.jumprelu_tanh_scale.unwrap_or(4.0) },
            (SparsityMode::Quadratic, Some(target_l0)) => Sparsity::Quadratic { target_l0 },
            (SparsityMode::Relative, target) => Sparsity::Relative { target_l0: target.unwrap_or(20.0) },
            (SparsityMode::Quadratic, None) => {
                let help = "add `target_l0: 50`, for example";
                self.add("sae.jumprelu_sparsity_loss_mode", "the quadratic loss needs `target_l0`", Some(help));
                Sparsity::Step
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        self.require(sae.jumprelu_tanh_scale.is_none_or(positive), "sae.jumprelu_tanh_scale", "must be above 0");
        let possible = |l0: f64| l0 > 0.0 && l0 <= d_sae as f64;
        let target = if let Sparsity::Relative { target_l0 } = sparsity { Some(target_l0) } else { sae.target_l0 };
        self.require(target.is_none_or(possible), "sae.target_l0", "must be above 0 and at most `d_sae`");
        self.require(sae.jumprelu_bandwidth.is_none_or(positive), "sae.jumprelu_bandwidth", "must be above 0");
        let (threshold_init, bandwidth) = if mode == SparsityMode::Relative { (0.001, 0.001) } else { (0.01, 0.05) };
        let jump_relu = JumpRelu {
            l0: sae.l0_coefficient.unwrap_or(1.0),
            l0_warm_up_steps: sae.l0_warm_up_steps.unwrap_or(0),
            threshold_init: sae.jumprelu_init_threshold.unwrap_or(threshold_init),
            bandwidth: sae.jumprelu_bandwidth.unwrap_or(bandwidth),
            sparsity,
            ste_to_input: sae.jumprelu_ste_to_input.unwrap_or(false),
            pre_act_loss_coefficient: sae.pre_act_loss_coefficient,
        };
        self.not_negative(jump_relu.l0, "sae.l0_coefficient");
        self.not_negative(jump_relu.threshold_init, "sae.jumprelu_init_threshold");
        self.not_negative(sae.pre_act_loss_coefficient.unwrap_or(0.0), "sae.pre_act_loss_coefficient");
        jump_relu
    }

    fn not_negative(&mut self, value: f64, path: &'static str) {
        // Losses are sums of f32 numbers.
        let possible = value >= 0.0 && (value as f32).is_finite();
        self.require(possible, path, "must be a number of at least 0, of a size that 32 bits can hold");
    }

    /// Options that belong to other families.
    fn foreign_options(&mut self, sae: &SaeConfig) {
        use Architecture::{Batchtopk, Gated, Jumprelu, MatchingPursuit, Matryoshka, Relu, TopAfa, Topk};
        let largest = &[Topk, Batchtopk, Matryoshka][..];
        let options = [
            ("sae.k", sae.k.is_some(), largest),
            ("sae.rescale_acts_by_decoder_norm", sae.rescale_acts_by_decoder_norm.is_some(), largest),
            ("sae.aux_loss_coefficient", sae.aux_loss_coefficient.is_some(), &[Topk, Batchtopk, Matryoshka, TopAfa]),
            ("sae.aux_loss", sae.aux_loss.is_some(), largest),
            ("sae.afa_coeff", sae.afa_coeff.is_some(), &[TopAfa]),
            ("sae.k_aux", sae.k_aux.is_some(), &[TopAfa]),
            ("sae.residual_threshold", sae.residual_threshold.is_some(), &[MatchingPursuit]),
            ("sae.max_iterations", sae.max_iterations.is_some(), &[MatchingPursuit]),
            ("sae.stop_on_duplicate_support", sae.stop_on_duplicate_support.is_some(), &[MatchingPursuit]),
            ("sae.topk_threshold_lr", sae.topk_threshold_lr.is_some(), &[Batchtopk, Matryoshka]),
            ("sae.topk_threshold_start_step", sae.topk_threshold_start_step.is_some(), &[Batchtopk, Matryoshka]),
            ("sae.matryoshka_widths", sae.matryoshka_widths.is_some(), &[Matryoshka]),
            ("sae.use_matryoshka_aux_loss", sae.use_matryoshka_aux_loss.is_some(), &[Matryoshka]),
            ("sae.l1", sae.l1.is_some(), &[Relu, Gated]),
            ("sae.l1_warm_up_steps", sae.l1_warm_up_steps.is_some(), &[Relu, Gated]),
            ("sae.gated_detach_decoder", sae.gated_detach_decoder.is_some(), &[Gated]),
            ("sae.l0_coefficient", sae.l0_coefficient.is_some(), &[Jumprelu]),
            ("sae.l0_warm_up_steps", sae.l0_warm_up_steps.is_some(), &[Jumprelu]),
            ("sae.jumprelu_init_threshold", sae.jumprelu_init_threshold.is_some(), &[Jumprelu]),
            ("sae.jumprelu_bandwidth", sae.jumprelu_bandwidth.is_some(), &[Jumprelu]),
            ("sae.jumprelu_sparsity_loss_mode", sae.jumprelu_sparsity_loss_mode.is_some(), &[Jumprelu]),
            ("sae.jumprelu_tanh_scale", sae.jumprelu_tanh_scale.is_some(), &[Jumprelu]),
            ("sae.target_l0", sae.target_l0.is_some(), &[Jumprelu]),
            ("sae.jumprelu_ste_to_input", sae.jumprelu_ste_to_input.is_some(), &[Jumprelu]),
            ("sae.l0_target", sae.l0_target.is_some(), &[Relu, Gated, Jumprelu]),
            ("sae.pre_act_loss_coefficient", sae.pre_act_loss_coefficient.is_some(), &[Jumprelu]),
        ];
        if sae.encoder_init_norm.is_some() && sae.architecture == MatchingPursuit {
            self.add("sae.encoder_init_norm", "the encoder of a matching pursuit is its decoder", Some("leave it out"));
        }
        for (path, given, families) in options {
            if given && !families.contains(&sae.architecture) {
                let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
                let message = format!("{} is no option of `architecture: {}`", named(path), sae.architecture.name());
                self.add(path, message, Some(&belongs(&names)));
            }
        }
    }
}

fn belongs(families: &[&str]) -> String {
    format!("it belongs to `architecture: {}`", families.join("`, `"))
}
