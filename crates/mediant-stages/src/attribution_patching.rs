//! `attribution_patching`: what activation patching would give, to first order.

use mediant_artifact::Facts;
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::{By, Metric, Reference, Slope, attribute};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::mediators::Mediators;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct AttributionPatching;

/// Options of `attribution_patching`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs: `blocks.*.attn.hook_z`.
    hooks: Vec<String>,
    /// What is attributed to: each `head`, `neuron`, `position`, `span`, or two of them together; `[]` is the whole activation. Left out: heads
    /// where there are heads, else positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Vec<By>>,
    /// Which positions are meant.
    #[serde(default)]
    positions: Positions,
    /// At which run the gradient is taken, and so the sign: see below.
    #[serde(default)]
    reference: Reference,
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

impl Stage for AttributionPatching {
    type Config = Config;
    const NAME: &'static str = "attribution_patching";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Attribution patching: what exact patching would give, to first order, for all mediators at once",
            details: DETAILS,
            example: "attributed:\n  uses: attribution_patching\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.attn.hook_z\"] }\n",
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
        let slope = Slope::At(config.reference);
        let settings = [("reference", config.reference.name().to_owned())];
        let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
        let mut recorder = run.recorder(slope.contrast(), settings, mediators)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            attribute(&model, &run.pairs, &targets, slope, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

const DETAILS: &str = "\
The difference of an activation between the two runs times the gradient of the metric with respect to it, summed over what a mediator is:

- `reference: counterfactual`: the gradient is taken on the counterfactual run; attribution = Σ (a_clean − a_counterfactual) · ∂m/∂a. This is TransformerLens' \
  convention and predicts denoising: patched = counterfactual + attribution, score = attribution / (clean − counterfactual).
- `reference: clean`: the gradient is taken on the clean run; attribution = Σ (a_counterfactual − a_clean) · ∂m/∂a. This is the convention of EAP \
  and predicts noising: patched = clean + attribution, score = −attribution / (clean − counterfactual).

Two forward passes, and one pass with gradients whose blocks are run again one at a time from kept residual streams, so that memory is \
that of one block; parameters have no gradient. `passes` counts the pass with gradients as three. The error against `activation_patching` is \
of second order in the difference: compare both on a few mediators, or use `integrated_gradients`.

Sources: Nanda 2023, \"Attribution Patching: Activation Patching At Industrial Scale\"; Kramár et al. 2024 (arXiv:2403.00745).";
