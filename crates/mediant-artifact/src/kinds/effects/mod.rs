//! The `effects` kind: tables `examples`, `mediators` and `effects`.
//!
//! There may be many millions of effects, so they are written and read in batches; they name examples and mediators by
//! their rows in the other two tables, which are held in memory.

mod read;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

pub use read::{EffectBatches, Effects};
pub use write::EffectsWriter;

const EXAMPLES: &str = "examples";
const MEDIATORS: &str = "mediators";
const EFFECTS: &str = "effects";

/// What is known of effects besides their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectsMeta {
    /// How they were found: `activation_patching`, ...
    pub method: String,
    /// What is measured: `logit_difference`, ...
    pub metric: String,
    /// Unit of the metric: `nats`, `1` for pure numbers, ...
    pub unit: String,
    /// How they become a score.
    pub contrast: Contrast,
    /// Name of the counterfactual, where the method takes one.
    pub counterfactual: Option<String>,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the prompts.
    pub prompts: Digest,
    /// Forward-pass equivalents over the examples that all this took.
    pub passes: f64,
    /// Settings that a reader of the numbers needs: reference point, sign, steps, ...
    pub settings: BTreeMap<String, String>,
    /// Number of examples.
    pub examples: u64,
    /// Number of mediators.
    pub mediators: u64,
    /// Number of effects.
    pub effects: u64,
}

/// How effects become a score: a numerator over a denominator, each a mean over examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contrast {
    /// Denoising: how much of the clean value patching restores.
    Restored,
    /// Noising: how much of the clean value patching takes.
    Lost,
    /// Ablation: how much of the clean value is lost, measured from zero.
    LostOfClean,
    /// A contribution to the clean value.
    Share,
    /// The patched value itself, such as 1 for an answer that is as expected and 0 for another.
    Mean,
    /// No effects: a trained mask, over 1.
    Mask,
    /// No effects: 1 for what is of a circuit that is known, over 1.
    Truth,
}

impl Contrast {
    /// The score as a formula.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Restored => "(patched − counterfactual) / (clean − counterfactual)",
            Self::Lost => "(clean − patched) / (clean − counterfactual)",
            Self::LostOfClean => "(clean − patched) / |clean|",
            Self::Share => "patched / clean",
            Self::Mean => "patched",
            Self::Mask => "σ(m), chosen above 0.5",
            Self::Truth => "1 if it is of the circuit, or else 0",
        }
    }

    /// The score of a numerator and a denominator. A share of the clean value that is lost is of its size, so that a fall is
    /// above 0 where the value is negative, such as a logarithm, too.
    pub fn score(self, numerator: f64, denominator: f64) -> f64 {
        match self {
            Self::LostOfClean => numerator / denominator.abs(),
            Self::Restored | Self::Lost | Self::Share | Self::Mean | Self::Mask | Self::Truth => {
                numerator / denominator
            }
        }
    }

    /// Whether the formula has the counterfactual value in it, so that every effect needs one.
    pub fn needs_counterfactual(self) -> bool {
        matches!(self, Self::Restored | Self::Lost)
    }
}

/// What is known of a prompt where its text does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The task it belongs to.
    pub task: String,
    /// The template it was made from.
    pub template: String,
    /// What makes examples alike: the bootstrap draws groups.
    pub group: String,
}

/// The metric of one example in three runs. Any number may be NaN or infinite, as the metric came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The example, counted from 0.
    pub example: u32,
    /// The mediator, counted from 0.
    pub mediator: u32,
    /// Of the clean run.
    pub clean: f64,
    /// Of the counterfactual run, where there is one.
    pub counterfactual: Option<f64>,
    /// Of the run in which the mediator was changed.
    pub patched: f64,
}

/// Checks the passes of effects or scores.
pub(super) fn check_passes(passes: f64) -> Result<(), String> {
    if passes.is_finite() && passes >= 0.0 { Ok(()) } else { Err(format!("{passes} is no number of passes")) }
}
