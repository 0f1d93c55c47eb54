//! `remove_layernorm`: a model trained further while its norms are frozen, one after the other.

mod plan;
mod run;

use mediant_artifact::{Facts, Kind};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::frozen_facts;
use mediant_lm::train::AuxiliaryWeight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::table_facts;
use crate::finetuning::{PORTS, Preset, Recipe, TrainingOptions, check_inputs, check_steps, resources, with_recipe};
use crate::lm_training::{CURVE, checkpoint_key, outputs};
use plan::{ScheduleOptions, plan};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct RemoveLayernorm;

/// Options of `remove_layernorm`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the defaults come from.
    #[serde(default, skip_serializing_if = "Preset::is_default")]
    preset: Preset,
    /// Length, batch and optimiser; the same mapping at `finetune` makes that the control.
    #[serde(default, skip_serializing_if = "TrainingOptions::is_default")]
    training: TrainingOptions,
    /// Which norms: names and globs of `blocks.0.ln1.qk`, `blocks.0.ln1.v`, `blocks.0.ln2`, `ln_final`. All that are live if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<String>>,
    /// When each kind is frozen.
    #[serde(default, skip_serializing_if = "ScheduleOptions::is_default")]
    schedule: ScheduleOptions,
    /// `m` of the running mean of a norm's scale, `m · mean + (1 − m) · new`, once a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
    /// Whether the first row of each sequence counts in that mean.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    first_position: bool,
    /// Weight of the auxiliary loss on the scale of the last norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auxiliary: Option<Auxiliary>,
    /// Steps after which the model is also kept, as `checkpoints[step=N]`; 0 is the model at the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checkpoints: Vec<u64>,
    /// Steps between two measurements of the loss on `test`; it is always measured at the end.
    #[serde(default = "hundred")]
    test_every: u64,
    /// Of the order of the data and of dropout.
    #[serde(default)]
    seed: u64,
}

/// Weight of the auxiliary loss.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Auxiliary {
    /// No such loss.
    None,
    /// λ itself.
    Fixed(f64),
    /// λ = this number · (16.5/τ₀)², with the τ of the first forward pass.
    Scaled(f64),
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn hundred() -> u64 {
    100
}

/// Columns of the curve after those of every training.
const MORE: [&str; 2] = ["auxiliary_loss", "frozen"];

/// Columns of the output `removals`.
const REMOVALS: [&str; 7] = ["norm", "step", "scale", "loss_live", "loss_frozen", "loss_before", "recovered_after"];

impl Stage for RemoveLayernorm {
    type Config = Config;
    const NAME: &'static str = "remove_layernorm";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Removes the norms of a language model while training it further",
            details: DETAILS,
            example: "ln_free:\n  uses: remove_layernorm\n  inputs: { model: model, tokens: tokens.train, test: tokens.test }\n  with: { training: { steps: 300, batch: 96 } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, config: &Config) -> Vec<Output> {
        let curve = "Loss, auxiliary loss, learning rate, gradient norm and frozen norms of every step.";
        let removals = "Each norm: when it was frozen, at which scale, and the loss around it.";
        outputs(curve, Some(Output::new("removals", Kind::Table, removals)), &config.checkpoints)
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        problems.check(config.training.check(config.preset));
        problems.check(check_steps(&config.checkpoints, config.test_every));
        if config.momentum.is_some_and(|momentum| !(0.0..1.0).contains(&momentum)) {
            problems.push(Problems::config("momentum", "must be at least 0 and below 1"));
        }
        if let Some(Auxiliary::Fixed(weight) | Auxiliary::Scaled(weight)) = config.auxiliary
            && !(weight > 0.0 && weight.is_finite())
        {
            let problem = Problems::config("auxiliary", "must be a positive number");
            problems.push(problem.help("`auxiliary: none` leaves the loss out"));
        }
        if config.sites.as_ref().is_some_and(Vec::is_empty) {
            problems.push(Problems::config("sites", "names no norm"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let recipe = config.recipe(inputs);
        let model = check_inputs(inputs, &recipe, &config.checkpoints)?;
        let removed = plan(config, model, recipe.steps)?;
        let after = |step: u64| {
            let frozen = removed.iter().copied().filter(|(_, at)| *at <= step).collect();
            match frozen_facts(model, &frozen) {
                Ok(facts) => Ok(Facts::Model(facts)),
                Err(error) => Err(Problems::input("model", error.to_string())),
            }
        };
        let mut all = vec![
            ("model".to_owned(), after(recipe.steps)?),
            ("curve".to_owned(), table_facts(&[&CURVE[..], &MORE].concat())),
            ("removals".to_owned(), table_facts(&REMOVALS)),
        ];
        for &step in &config.checkpoints {
            all.push((format!("checkpoints[{}]", checkpoint_key(step)), after(step)?));
        }
        Ok(all)
    }

    fn resources(&self, config: &Config, inputs: &InputFacts) -> Resources {
        resources(inputs, &config.recipe(inputs))
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        run::run(cx)
    }
}

impl Config {
    fn recipe(&self, inputs: &InputFacts) -> Recipe {
        let context = inputs.tokens("tokens").map_or(1, |tokens| tokens.context);
        self.training.recipe(self.preset, context, self.seed)
    }

    /// Published values: momentum is 0.9 to the power of rows in a forward pass over 32 for the two large models.
    fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(match self.preset {
            Preset::Scaled | Preset::Gpt2Small | Preset::Gpt2Medium => 0.9,
            Preset::Gpt2Large => 0.912,
            Preset::Gpt2Xl => 0.942,
        })
    }

    fn auxiliary(&self) -> AuxiliaryWeight {
        match (self.auxiliary, self.preset) {
            (Some(Auxiliary::None), _) => AuxiliaryWeight::Fixed(0.0),
            (Some(Auxiliary::Fixed(weight)), _) => AuxiliaryWeight::Fixed(weight),
            (Some(Auxiliary::Scaled(weight)), _) => AuxiliaryWeight::Scaled(weight),
            (None, Preset::Scaled) => AuxiliaryWeight::Scaled(0.1),
            (None, Preset::Gpt2Small | Preset::Gpt2Medium) => AuxiliaryWeight::Fixed(0.1),
            (None, Preset::Gpt2Large) => AuxiliaryWeight::Fixed(0.03),
            (None, Preset::Gpt2Xl) => AuxiliaryWeight::Fixed(0.01),
        }
    }
}

const DETAILS: &str = with_recipe!(
    "\
Baroni et al. 2025, \"Transformers Don't Need LayerNorm at Inference Time\" (arXiv:2507.02559), after Heimersheim 2024 (arXiv:2409.13710). A frozen norm divides by a \
constant: `(x − mean(x)) / σ̄ · γ + β` in the place of `(x − mean(x)) / √(var(x) + ε) · γ + β`; γ and β are still trained, σ̄ is not. Norms are frozen during the training in \
this order: those before the MLPs (`ln2`), first layer first; those before attention as queries and keys read them (`ln1.qk`); the same as values read them \
(`ln1.v`), with a constant of their own; the last one (`ln_final`). In an RMSNorm, which does not centre, σ̄ takes the place of `√(mean(x²) + ε)`.

**σ̄** is the running mean of what the norm computes: s = the mean of σ over all rows of a step (its `accumulate` forward passes together, the first row of a sequence left out with \
`first_position: false`), `mean ← momentum · mean + (1 − momentum) · s` once a step, from s of the first step on, from the training's own forward passes alone; it is \
taken when the norm is frozen.

**Schedule.** Each kind has a `start` and a `gap`: the norm of layer l is frozen after `start + gap · l` steps, all at once where the gap is 0.

| `preset` | layers | ln2 | ln1_qk | ln1_v | ln_final | λ | momentum |
| --- | --- | --- | --- | --- | --- | --- | --- |
| `gpt2-small` | 12 | 20, 2 | 44, 2 | 68, 3 | 104 | 0.1 | 0.9 |
| `gpt2-medium` | 24 | 20, 2 | 68, 2 | 116, 3 | 188 | 0.1 | 0.9 |
| `gpt2-large` | 36 | 30, 4 | 174, 4 | 318, 6 | 534 | 0.03 | 0.912 |
| `gpt2-xl` | 48 | 50, 4 | 242, 4 | 434, 6 | 722 | 0.01 | 0.942 |

`scaled` begins after a 15th of the steps; its gaps are 2 : 2 : 3, of which 7 a layer take up 0.34 of the steps, rounded down, at least 1; for 12 layers in 300 steps and 24 in 500 that is \
what is published. λ is 0.1 · (16.5/τ₀)²: λ has the unit 1/σ², and 16.5 is the σ of GPT-2 small.

**Auxiliary loss** on what the last norm reads: `λ · mean (σ − τ)²` over all rows of the step, with τ the mean of σ over the rows of the forward pass that are neither first in their sequence nor BOS nor \
a separator, without a gradient. It evens the scales out, those of the first position above all, so that freezing the last norm costs little.

`removals` has a row a norm: the step after which it was frozen, σ̄ as `scale`; the loss of the next step as it is, `loss_frozen`, and as it would be had what was frozen then stayed live, \
`loss_live`, on the same rows; `loss_before`, the mean training loss of the last ten steps before; and `recovered_after`, the steps it took until the mean of ten steps was at most 0.1 nats above \
that, null if more than 50. Later removals fall into these steps too.

The result has frozen norms: `export` folds them into the weights or writes them for transformers. A model with norms after each part (Gemma 2) is refused: what they compute depends on \
what the part writes, and no method removes them; models with norms on queries and keys are not read at all. What differs from the published code: one σ̄ a norm and path, where its value \
path keeps moving that of queries and keys; means once a step, from training forwards alone; no constant of its own for the first position (the auxiliary loss makes it unnecessary there too)."
);
