//! `intervene`: what becomes of the metric when interventions are made together on prompts.

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::HookPoint;
use mediant_methods::{Metric, Together, all_interventions, intervene};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::measuring::{self, Asked, Counterfactual, MODEL, PROMPTS};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Intervene;

/// Options of `intervene`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What is changed, all of it in one pass: `[{ at: blocks.2.attn.hook_z, heads: [2], positions: { span: last }, do: patch }]`.
    interventions: Vec<Intervention>,
    /// The counterfactual of the prompts that `patch` takes activations from; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Of the bootstrap, and of interventions.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        let counterfactual = match self.interventions.iter().any(Intervention::patches) {
            true => Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            false => Counterfactual::None,
        };
        Asked { metric: self.metric, counterfactual, seed: self.seed }
    }
}

impl Stage for Intervene {
    type Config = Config;
    const NAME: &'static str = "intervene";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Interventions together: what any number of changes in one pass do to the metric on prompts",
            details: DETAILS,
            example: "changed:\n  uses: intervene\n  inputs: { model: model, prompts: prompts }\n  with:\n    interventions:\n      - { at: blocks.2.attn.hook_z, heads: [2], positions: last, do: patch }\n      - { at: ln_final.hook_scale, do: freeze_scale }\n",
        }
    }

    fn inputs(&self) -> Ports {
        const PORTS: &[Port] = &[MODEL, PROMPTS, ACTIVATIONS, DICTIONARY];
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.interventions.is_empty() {
            problems.push(Problems::config("interventions", "nothing is listed"));
        }
        if config.counterfactual.is_some() && !config.interventions.iter().any(Intervention::patches) {
            problems.push(Problems::config("counterfactual", "no intervention uses it").help("`do: patch` does"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        let context = inputs.prompts("prompts").and_then(|prompts| prompts.longest);
        let scene = Scene { prompts: true, context, ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let settings = [("interventions", serde_json::to_string(&config.interventions)?)];
        let mut recorder = run.recorder(Contrast::LostOfClean, settings, vec![all_interventions()])?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let edits = resolve(cx, &config.interventions, &model, config.seed, Some(&run.pairs))?;
            let together = Together {
                hooks: Box::new(|| edits.hooks()),
                first: edits.first().unwrap_or(HookPoint::Logits),
                positions: config.interventions.iter().map(|item| item.positions().clone()).collect(),
                passes: config.interventions.iter().filter(|item| item.makes_a_pass()).count(),
            };
            intervene(&model, &run.pairs, &together, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

const DETAILS: &str = with_interventions!(
    "\
All `interventions` are made together in a pass over each clean prompt: the one mediator is all of them. In the effects `clean` is the metric at \
the last position without them, `patched` with them, and `counterfactual` that of the counterfactual prompt if one is patched from. Score = \
(clean − patched) / |clean|, the share of the metric that is lost: below 0 where the interventions help. The interval holds 95 percent of \
1,000 draws of groups of prompts. A prompt that has none of the positions is left out.

Positions may be named: `positions: { span: subject }`, `{ except_span: subject }`; a span that a prompt does not have is nowhere in it. Here `do` may be \
`patch` too: the activation of the prompt's `counterfactual` at the same place (Meng et al. 2022, arXiv:2202.05262; Wang et al. 2022, \
arXiv:2211.00593). One mediator after the other is what `activation_patching` and `ablate` do, faster."
);
