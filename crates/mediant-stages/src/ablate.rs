//! `ablate`: what becomes of the metric when activations are replaced by zeros, means or those of other prompts.

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{HookPoint, Positions};
use mediant_methods::{Ablation, By, Metric, ablate};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::mediators::Mediators;
use crate::model_input::choose_hooks;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Ablate;

/// Options of `ablate`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs: `blocks.*.attn.hook_z`.
    hooks: Vec<String>,
    /// What is ablated alone: each `head`, `neuron`, `position`, `span`, or two of them together; `[]` is the whole activation. Left out: heads
    /// where there are heads, else positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Vec<By>>,
    /// Which positions are ablated.
    #[serde(default)]
    positions: Positions,
    /// What comes in the place of an activation.
    ablation: Ablation,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Of the bootstrap, and of resampling.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked { metric: self.metric, counterfactual: Counterfactual::None, seed: self.seed }
    }

    fn mediators(&self) -> Mediators<'_> {
        Mediators { hooks: &self.hooks, by: self.by.as_deref(), positions: &self.positions }
    }
}

impl Stage for Ablate {
    type Config = Config;
    const NAME: &'static str = "ablate";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Ablation: what is lost when activations are replaced by zeros, means or those of other prompts",
            details: DETAILS,
            example: "ablated:\n  uses: ablate\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.attn.hook_z\"], ablation: mean }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.mediators().check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(config.mediators().check_inputs(inputs));
        problems.check(no_mean(config, inputs));
        problems.check(no_zero_scale(config, inputs));
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let targets = config.mediators().targets(&run.facts, &run.pairs)?;
        let settings = [("ablation", config.ablation.name().to_owned())];
        let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
        let mut recorder = run.recorder(Contrast::LostOfClean, settings, mediators)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            ablate(&model, &run.pairs, &targets, config.ablation, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

/// Zero is no scale: what is divided by it is infinite.
fn no_zero_scale(config: &Config, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(model) = inputs.model("model").filter(|_| config.ablation == Ablation::Zero) else { return Ok(()) };
    let hooks = choose_hooks("hooks", &config.hooks, model).unwrap_or_default();
    match hooks.iter().find(|hook| hook.name.ends_with("hook_scale")) {
        Some(hook) => {
            let message = format!("`{}` is divided by, and cannot be 0", hook.name);
            Err(Problems::config("ablation", message).help("use `mean` or `resample` there"))
        }
        None => Ok(()),
    }
}

/// Attention maps have as many keys as a batch's longest prompt, so there is no mean of them.
fn no_mean(config: &Config, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(model) = inputs.model("model") else { return Ok(()) };
    if !matches!(config.ablation, Ablation::Mean | Ablation::MeanByPosition) {
        return Ok(());
    }
    let hooks = choose_hooks("hooks", &config.hooks, model).unwrap_or_default();
    match hooks.iter().find(|hook| hook.name.parse().is_ok_and(HookPoint::per_key)) {
        Some(hook) => {
            let message =
                format!("`{}` has one number a key, of which prompts of several lengths have no mean", hook.name);
            Err(Problems::config("ablation", message).help("use `zero` or `resample` there"))
        }
        None => Ok(()),
    }
}

const DETAILS: &str = "\
Every mediator is ablated alone, in the clean run: `zero` puts zeros in its place, `mean` its mean over all positions of all prompts, \
`mean_by_position` its mean over the prompts position by position (prompts should be aligned then), `resample` its value in another prompt of \
the same length, drawn by `seed`. Score = (clean − ablated) / |clean|, the share of the metric that is lost: below 0 where ablation helps. \
Clean and ablated are the metric at the last position, as in `activation_patching`; the interval holds 95 percent of 1,000 draws of \
groups of prompts.

Zeros are far from what a model has seen; a mean is not, but keeps whatever all prompts share. Sources: Wang et al. 2022 (arXiv:2211.00593) for means, Chan \
et al. 2022 for resampling, Li & Janson 2024 (arXiv:2409.09951) for how they compare.";
