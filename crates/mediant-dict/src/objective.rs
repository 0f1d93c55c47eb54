//! What each family of dictionaries minimises, and what it becomes at inference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::weights::Extra;
use crate::{Activation, MatchingPursuit, Weights};

/// A family with its own options.
///
/// `mse` is ‖x − x̂‖², summed over dimensions; all losses are means over the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// `mse + λ Σ_i f_i ‖W_dec,i‖₂`.
    Relu {
        /// λ after warm-up.
        l1: f64,
        /// Steps in which λ rises from 0.
        l1_warm_up_steps: u64,
    },
    /// `mse + λ Σ_i max(π_i, 0) ‖W_dec,i‖₂ + ‖x − x̂_π‖²`, π the gate's pre-activations and x̂_π their reconstruction
    /// (Rajamanoharan et al. 2024, arXiv:2404.16014).
    Gated {
        /// λ after warm-up.
        l1: f64,
        /// Steps in which λ rises from 0.
        l1_warm_up_steps: u64,
        /// Whether W_dec and b_dec are held constant in x̂_π.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        detach_decoder: bool,
    },
    /// `mse + c · scale · ‖(x − x̂) − ê‖²`, ê made by dead latents.
    TopK {
        /// Active latents of each vector.
        k: usize,
        /// Choose by activation times decoder norm.
        rescale_acts_by_decoder_norm: bool,
        /// c.
        aux_loss_coefficient: f64,
        /// How ê is made and what its error is divided by.
        #[serde(default, skip_serializing_if = "AuxLoss::is_saelens")]
        aux_loss: AuxLoss,
    },
    /// As `topk`, the k·batch largest of a whole batch (Bussmann et al. 2024, arXiv:2412.06410); at inference a
    /// threshold.
    BatchTopK {
        /// How the largest are chosen.
        choice: BatchChoice,
    },
    /// `batchtopk`, and `‖x − x̂_w‖²` of the first w latents alone for each inner width w (Bussmann et al. 2025,
    /// arXiv:2503.17547).
    Matryoshka {
        /// How the largest are chosen.
        choice: BatchChoice,
        /// The inner widths, rising, each below d_sae.
        widths: Vec<usize>,
        /// An AuxK for each width, of the latents that it adds.
        #[serde(default)]
        aux_by_width: bool,
    },
    /// `mse + λ · sparsity`, each latent with a threshold of its own (Rajamanoharan et al. 2024, arXiv:2407.14435).
    JumpRelu(JumpRelu),
    /// `mse + d λ (‖f‖₂ − ‖x‖₂)² + c ‖(x − x̂) − ê‖²`, each vector with as many latents as bring ‖f‖ nearest ‖x'‖.
    #[serde(rename = "top_afa")]
    TopAfa(TopAfa),
    /// `mse`, latents chosen one after another.
    #[serde(rename = "matching_pursuit")]
    MatchingPursuit(MatchingPursuit),
}

/// The options of `top_afa`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopAfa {
    /// λ.
    pub afa_coefficient: f64,
    /// c.
    pub aux_loss_coefficient: f64,
    /// Dead latents that make ê, after ReLU.
    pub k_aux: usize,
}

/// What happens to the norms of the decoder's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecoderNorm {
    /// They are trained.
    Free,
    /// Gradients lose their component along the rows, rows are divided by their norms, and then comes the optimiser's step,
    /// so that rows are off norm 1 by that step.
    OneBeforeStep,
    /// Gradients lose their component along the rows before they are clipped, and rows are divided by their norms after the
    /// optimiser's step (dictionary_learning).
    OneAfterStep,
}

/// The AuxK loss of a tool: dead latents, at most half as many as the output has dimensions, reconstruct the residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuxLoss {
    /// Those of the largest pre-activations; `c · min(n_dead / (d / 2), 1) · ‖(x − x̂) − ê‖²`.
    #[default]
    Saelens,
    /// Those of the largest activations, after ReLU; `c · ‖(x − x̂) − ê‖²` over the variance of the batch's residuals.
    DictionaryLearning,
}

impl AuxLoss {
    /// Whether it is the default.
    pub fn is_saelens(&self) -> bool {
        *self == Self::Saelens
    }
}

/// How active latents of a batch are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchChoice {
    /// Active latents of a vector in the mean.
    pub k: f64,
    /// Choose by activation times decoder norm.
    pub rescale_acts_by_decoder_norm: bool,
    /// Coefficient of the AuxK loss.
    pub aux_loss_coefficient: f64,
    /// Its form.
    #[serde(default, skip_serializing_if = "AuxLoss::is_saelens")]
    pub aux_loss: AuxLoss,
    /// Weight of a batch's smallest chosen activation in the running threshold.
    pub threshold_lr: f64,
    /// The last step, counted from 0, that the threshold does not see: it is then the first smallest activation, and a batch
    /// without active latents has one of 0 (dictionary_learning). `None`: it sees all steps, and is 0 before (SAELens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_start_step: Option<u64>,
}

impl BatchChoice {
    /// How much of the 0 that the running threshold begins with is left in it after so many steps; `None` if it begins with an
    /// activation.
    pub fn start_left(&self, steps: u64) -> Option<f64> {
        self.threshold_start_step.is_none().then(|| (1.0 - self.threshold_lr).powf(steps as f64))
    }

    /// How many entries of a batch are kept: ⌊k · rows⌋.
    pub fn entries(&self, rows: usize) -> usize {
        (self.k * rows as f64) as usize
    }
}

/// The options of `jumprelu`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JumpRelu {
    /// λ after warm-up.
    pub l0: f64,
    /// Steps in which λ rises from 0.
    pub l0_warm_up_steps: u64,
    /// Thresholds at the start.
    pub threshold_init: f64,
    /// ε: width of the kernel of the straight-through estimator.
    pub bandwidth: f64,
    /// What is penalised.
    pub sparsity: Sparsity,
    /// Whether the estimator reaches the pre-activations too, not the thresholds alone.
    pub ste_to_input: bool,
    /// Coefficient of Σ_dead max(θ − z, 0) ‖W_dec‖.
    pub pre_act_loss_coefficient: Option<f64>,
}

/// What `jumprelu` penalises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sparsity {
    /// L0: Σ_i H(z_i − θ_i).
    Step,
    /// Σ_i tanh(c f_i ‖W_dec,i‖₂) (Anthropic, January 2025 update).
    Tanh {
        /// c.
        scale: f64,
    },
    /// 2/t (L0 − t)² (Gemma Scope 2).
    Quadratic {
        /// t.
        target_l0: f64,
    },
    /// (L0/t − 1)² of the batch's mean L0, whose step is that of activations (dictionary_learning).
    Relative {
        /// t.
        target_l0: f64,
    },
}

impl Objective {
    /// The sparsity coefficient after warm-up, and the steps of warm-up, if there is one.
    fn coefficient(&self) -> Option<(f64, u64)> {
        match *self {
            Self::Relu { l1, l1_warm_up_steps } | Self::Gated { l1, l1_warm_up_steps, .. } => {
                Some((l1, l1_warm_up_steps))
            }
            Self::JumpRelu(JumpRelu { l0, l0_warm_up_steps, .. }) => Some((l0, l0_warm_up_steps)),
            Self::TopK { .. }
            | Self::BatchTopK { .. }
            | Self::Matryoshka { .. }
            | Self::TopAfa(_)
            | Self::MatchingPursuit(_) => None,
        }
    }

    /// Whether the sparsity coefficient has its full value at a step.
    pub fn is_warm(&self, step: u64) -> bool {
        self.coefficient().is_none_or(|(_, warm_up)| step >= warm_up)
    }

    /// The sparsity coefficient at a step, if there is one: `λ · min(step / warm-up, 1)`.
    pub fn coefficient_at(&self, step: u64) -> f64 {
        let Some((coefficient, warm_up)) = self.coefficient() else { return 0.0 };
        if step < warm_up { coefficient * step as f64 / warm_up as f64 } else { coefficient }
    }

    /// Name of the sparsity coefficient on the curve.
    pub fn coefficient_name(&self) -> Option<&'static str> {
        match self {
            Self::Relu { .. } | Self::Gated { .. } => Some("l1_coefficient"),
            Self::JumpRelu(_) => Some("l0_coefficient"),
            Self::TopK { .. }
            | Self::BatchTopK { .. }
            | Self::Matryoshka { .. }
            | Self::TopAfa(_)
            | Self::MatchingPursuit(_) => None,
        }
    }

    /// The losses beside `mse_loss`, by their SAELens names, in the order of [`crate::train::Losses::others`].
    pub fn other_losses(&self) -> Vec<String> {
        const AUX: &str = "auxiliary_reconstruction_loss";
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match self {
            Self::Relu { .. } => names(&["l1_loss"]),
            Self::Gated { .. } => names(&["l1_loss", AUX]),
            Self::TopK { .. } | Self::BatchTopK { .. } => names(&[AUX]),
            Self::Matryoshka { widths, .. } => {
                let inner = widths.iter().map(|width| format!("inner_mse_loss_{width}"));
                [AUX.to_owned()].into_iter().chain(inner).collect()
            }
            Self::JumpRelu(JumpRelu { pre_act_loss_coefficient: Some(_), .. }) => names(&["l0_loss", "pre_act_loss"]),
            Self::JumpRelu(_) => names(&["l0_loss"]),
            Self::TopAfa(_) => names(&["afa_loss", AUX]),
            Self::MatchingPursuit(_) => Vec::new(),
        }
    }

    /// Whether activations are compared after multiplication by decoder norms, which the encoder takes over in the end.
    pub fn rescales(&self) -> bool {
        match self {
            Self::TopK { rescale_acts_by_decoder_norm, .. } => *rescale_acts_by_decoder_norm,
            Self::BatchTopK { choice } | Self::Matryoshka { choice, .. } => choice.rescale_acts_by_decoder_norm,
            Self::TopAfa(_) => true,
            Self::Relu { .. } | Self::Gated { .. } | Self::JumpRelu(_) | Self::MatchingPursuit(_) => false,
        }
    }

    /// The choice over a batch, of the families that make one.
    pub fn batch_choice(&self) -> Option<&BatchChoice> {
        match self {
            Self::BatchTopK { choice } | Self::Matryoshka { choice, .. } => Some(choice),
            _ => None,
        }
    }

    /// Gives initial weights the parameters that the family has besides the usual ones, at SAELens' initial values.
    pub fn extend(&self, weights: &mut Weights) {
        let d_sae = weights.d_sae;
        let all = |value: f32| vec![value; d_sae];
        weights.extra = match self {
            Self::MatchingPursuit(_) => {
                (weights.w_enc, weights.b_enc) = (Vec::new(), Vec::new());
                Extra::Tied
            }
            Self::JumpRelu(JumpRelu { threshold_init, .. }) => Extra::Threshold(all(*threshold_init as f32)),
            Self::Gated { .. } => Extra::Gate { b_mag: all(0.0), r_mag: all(0.0) },
            Self::Relu { .. }
            | Self::TopK { .. }
            | Self::BatchTopK { .. }
            | Self::Matryoshka { .. }
            | Self::TopAfa(_) => Extra::None,
        };
    }

    /// How codes are made at inference, of weights whose decoder norms are folded in where [`Self::rescales`].
    pub fn activation(&self) -> Activation {
        match *self {
            Self::Relu { .. } => Activation::Relu,
            Self::Gated { .. } => Activation::Gated,
            Self::TopK { k, rescale_acts_by_decoder_norm, .. } => Activation::TopK { k, rescale_acts_by_decoder_norm },
            Self::BatchTopK { .. } | Self::Matryoshka { .. } | Self::JumpRelu(_) => Activation::JumpRelu,
            Self::TopAfa(_) => Activation::TopAfa,
            Self::MatchingPursuit(rule) => Activation::MatchingPursuit(rule),
        }
    }

    /// What the family does with the decoder's norms, if no option says otherwise.
    pub fn decoder_norm(&self) -> DecoderNorm {
        match self {
            Self::TopAfa(_) => DecoderNorm::OneBeforeStep,
            _ => DecoderNorm::Free,
        }
    }

    /// Whether b_enc is trained; it is zero otherwise.
    pub fn has_encoder_bias(&self) -> bool {
        !matches!(self, Self::TopAfa(_))
    }

    /// Whether thresholds are kept at 0 or above, as in SAELens. dictionary_learning's loss pushes them back by itself.
    pub(crate) fn keeps_thresholds_positive(&self) -> bool {
        !matches!(self, Self::JumpRelu(JumpRelu { sparsity: Sparsity::Relative { .. }, .. }))
    }

    /// SAELens' name of the family, or ours if SAELens has none.
    pub fn saelens_name(&self) -> &'static str {
        match self {
            Self::Relu { .. } => "standard",
            Self::Gated { .. } => "gated",
            Self::TopK { .. } => "topk",
            Self::BatchTopK { .. } => "batchtopk",
            Self::Matryoshka { .. } => "matryoshka_batchtopk",
            Self::JumpRelu(_) => "jumprelu",
            Self::TopAfa(_) => "top_afa",
            Self::MatchingPursuit(_) => "matching_pursuit",
        }
    }
}
