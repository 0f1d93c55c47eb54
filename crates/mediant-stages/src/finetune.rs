//! `finetune`: a model trained further, its norms as they are.

use mediant_artifact::Facts;
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::train::Trainer;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::table_facts;
use crate::device::compute_device;
use crate::finetuning::{Inputs, PORTS, Preset, TrainingOptions, check_inputs, check_steps, resources, with_recipe};
use crate::lm_training::{CURVE, Run, curve_columns, outputs, write_curve};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Finetune;

/// Options of `finetune`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the defaults of `training` come from.
    #[serde(default, skip_serializing_if = "Preset::is_default")]
    preset: Preset,
    /// Length, batch and optimiser; the same mapping at `remove_layernorm` makes this its control.
    #[serde(default, skip_serializing_if = "TrainingOptions::is_default")]
    training: TrainingOptions,
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

fn hundred() -> u64 {
    100
}

impl Stage for Finetune {
    type Config = Config;
    const NAME: &'static str = "finetune";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Trains a language model further",
            details: DETAILS,
            example: "control:\n  uses: finetune\n  inputs: { model: model, tokens: tokens.train, test: tokens.test }\n  with: { training: { steps: 300, batch: 96 } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, config: &Config) -> Vec<Output> {
        outputs("Loss, learning rate and gradient norm of every step.", None, &config.checkpoints)
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        problems.check(config.training.check(config.preset));
        problems.check(check_steps(&config.checkpoints, config.test_every));
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let context = inputs.tokens("tokens").map_or(1, |tokens| tokens.context);
        let recipe = config.training.recipe(config.preset, context, config.seed);
        let model = check_inputs(inputs, &recipe, &config.checkpoints)?;
        let mut all =
            vec![("model".to_owned(), Facts::Model(model.clone())), ("curve".to_owned(), table_facts(&CURVE))];
        if !config.checkpoints.is_empty() {
            all.push(("checkpoints".to_owned(), Facts::Model(model.clone())));
        }
        Ok(all)
    }

    fn resources(&self, config: &Config, inputs: &InputFacts) -> Resources {
        let context = inputs.tokens("tokens").map_or(1, |tokens| tokens.context);
        resources(inputs, &config.training.recipe(config.preset, context, config.seed))
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let inputs = Inputs::read(cx)?;
        let recipe = config.training.recipe(config.preset, inputs.tokens.meta.context, config.seed);
        let course = inputs.course(&recipe, &config.checkpoints, config.test_every);
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&inputs.model, &device)?;
            let trainer = Trainer::from_model(&model, recipe.training, &inputs.tokens)?;
            let (_, curve) = Run::finish(cx, trainer, course)?;
            write_curve(cx, curve_columns(&curve))
        })
    }
}

const DETAILS: &str = with_recipe!(
    "\
Every parameter is trained; norms stay what they are, live or frozen. It is the control of `remove_layernorm`: with the same `preset`, `training` and `seed` it sees \
the same rows in the same order, and what differs between the two models is the removal alone, not what training on this text does.

A model whose weights were processed, or whose norms are part of its weights, is refused: training would undo that. Tied embeddings stay tied. Results are float32."
);
