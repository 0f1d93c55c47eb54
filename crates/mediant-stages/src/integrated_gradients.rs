//! `integrated_gradients`: attribution by the gradient along the way between the two runs.

use mediant_artifact::Facts;
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::{By, Metric, Rule, Slope, attribute};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::mediators::Mediators;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct IntegratedGradients;

/// Options of `integrated_gradients`.
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
    /// What moves from the counterfactual to the clean run.
    #[serde(default)]
    over: Over,
    /// Points on the way at which the gradient is taken.
    #[serde(default = "steps")]
    steps: usize,
    /// Where these points lie.
    #[serde(default)]
    rule: Rule,
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

/// Sums of more points differ by less than their rounding.
pub(crate) const MOST_STEPS: usize = 10_000;

fn steps() -> usize {
    16
}

/// What moves from the counterfactual to the clean run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Over {
    /// The activations of one hook point at a time, all of it together.
    #[default]
    Activations,
    /// The token embeddings: one way for all hook points (EAP-IG).
    Embeddings,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }

    fn slope(&self) -> Slope {
        match self.over {
            Over::Activations => Slope::OverActivations(self.rule, self.steps),
            Over::Embeddings => Slope::OverEmbeddings(self.rule, self.steps),
        }
    }

    fn mediators(&self) -> Mediators<'_> {
        Mediators { hooks: &self.hooks, by: self.by.as_deref(), positions: &self.positions }
    }
}

impl Stage for IntegratedGradients {
    type Config = Config;
    const NAME: &'static str = "integrated_gradients";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Integrated gradients over activations or over token embeddings",
            details: DETAILS,
            example: "integrated:\n  uses: integrated_gradients\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.hook_resid_pre\"], steps: 16 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        problems.check(config.mediators().check());
        if config.steps == 0 || config.steps > MOST_STEPS {
            problems.push(Problems::config("steps", format!("must be from 1 to {MOST_STEPS}")));
        }
        problems.finish()
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
        let slope = config.slope();
        let over = if config.over == Over::Activations { "activations" } else { "embeddings" };
        let settings =
            [("over", over.to_owned()), ("rule", config.rule.name().to_owned()), ("steps", config.steps.to_string())];
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
Attribution = Σ (a_clean − a_counterfactual) · mean of ∂m/∂a over `steps` points on the straight way from the counterfactual to the clean run, at \
shares (k + ½)/n (`rule: midpoint`), k/n (`left`, the sum of EAP-IG's code) or (k + 1)/n (`right`), k = 0 … n − 1. Patched = counterfactual + attribution, score = \
attribution / (clean − counterfactual).

- `over: activations` moves the whole activation of one hook point at a time, in the counterfactual run; what lies before it is computed \
  once. The attributions of a residual stream at all positions sum to the difference of the metric as the steps grow (completeness): the \
  scores of one such hook point sum to 1.
- `over: embeddings` moves `hook_embed`; the gradients at all hook points come from the same passes.

`passes` counts a pass with gradients as three. Sources: Sundararajan et al. 2017 (arXiv:1703.01365); Hanna et al. 2024 (arXiv:2403.17806); Marks et al. 2024 \
(arXiv:2403.19647).";
