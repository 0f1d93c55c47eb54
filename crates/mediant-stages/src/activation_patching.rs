//! `activation_patching`: what becomes of the metric when activations of another run are put in.

use mediant_artifact::Facts;
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::{By, Direction, Metric, patch};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::mediators::Mediators;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct ActivationPatching;

/// Options of `activation_patching`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs: `blocks.*.attn.hook_z`.
    hooks: Vec<String>,
    /// What is patched alone: each `head`, `neuron`, `position`, `span`, or two of them together; `[]` is the whole activation. Left out: heads
    /// where there are heads, else positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Vec<By>>,
    /// Which positions are patched.
    #[serde(default)]
    positions: Positions,
    /// Which run gets activations of the other.
    #[serde(default)]
    direction: Direction,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }

    fn mediators(&self) -> Mediators<'_> {
        Mediators { hooks: &self.hooks, by: self.by.as_deref(), positions: &self.positions }
    }
}

impl Stage for ActivationPatching {
    type Config = Config;
    const NAME: &'static str = "activation_patching";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Exact patching: which activations carry the difference between a prompt and its counterfactual",
            details: DETAILS,
            example: "heads:\n  uses: activation_patching\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.attn.hook_z\"] }\n",
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
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let targets = config.mediators().targets(&run.facts, &run.pairs)?;
        let settings = [("direction", config.direction.name().to_owned())];
        let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
        let mut recorder = run.recorder(config.direction.contrast(), settings, mediators)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            patch(&model, &run.pairs, &targets, config.direction, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

const DETAILS: &str = "\
Every mediator is patched alone. `direction: denoising` runs the counterfactual prompt and puts a clean activation in: \
score = (patched − counterfactual) / (clean − counterfactual), 1 where the mediator restores all of the clean value. `direction: noising` runs the \
clean prompt and puts a counterfactual activation in: score = (clean − patched) / (clean − counterfactual), 1 where all of it is lost. Clean, \
counterfactual and patched are the metric of a prompt's own answers at its last position; numerator and denominator are means over prompts, \
and stand beside the score. The interval holds 95 percent of 1,000 draws of groups of prompts.

Metrics: `logit_diff`, mean logit of the right answers less that of the wrong ones; `prob_diff`, their summed probabilities' difference; `prob` and \
`log_prob` of the right answers.

What lies before a patch is computed once for all mediators of a layer; in the last block only the last position is computed; a patch of \
what does not differ between the runs costs nothing. `passes` in the scores counts the share of the blocks that was computed, in \
forward passes over a prompt.

Sources: Vig et al. 2020 (arXiv:2004.12265), Meng et al. 2022 (arXiv:2202.05262), Wang et al. 2022 (arXiv:2211.00593), Heimersheim & Nanda 2024 \
(arXiv:2404.15255).";
