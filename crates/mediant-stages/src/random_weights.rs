//! `random_weights`: a model of the same architecture that has learnt nothing.

use mediant_artifact::{Facts, Kind, ModelReader};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use mediant_lm::train::{Start, initial};
use mediant_lm::{LmConfig, Model, Parameter, save};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::lm_training::SavedWith;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct RandomWeights;

/// Options of `random_weights`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Standard deviation of weights.
    #[serde(default = "usual_std")]
    init_std: f64,
    /// Of the draws.
    #[serde(default)]
    seed: u64,
}

fn usual_std() -> f64 {
    0.02
}

const PORTS: &[Port] = &[Port::one("model", &[Kind::Model], "The model whose architecture and tokenizer are taken.")];

impl Stage for RandomWeights {
    type Config = Config;
    const NAME: &'static str = "random_weights";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A randomly initialised model of the same architecture: the control of methods that would fit anything",
            details: DETAILS,
            example: "untrained:\n  uses: random_weights\n  inputs: { model: model }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("model", Kind::Model, "The model, with the same tokenizer.")]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        if config.init_std > 0.0 && config.init_std <= 1.0 {
            return Ok(());
        }
        Err(Problems::config("init_std", "must be above 0 and at most 1"))
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let model = inputs.model("model").ok_or_else(|| Problems::input("model", "is not known"))?;
        Ok(vec![("model".to_owned(), Facts::Model(model.clone()))])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let Config { init_std, seed } = *cx.config();
        let reader = ModelReader::open(&cx.input("model")?)?;
        let config = LmConfig::of_artifact(&reader.meta)?;
        let SavedWith { json, files } = SavedWith::of(&reader);
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        on_device!(compute_device(cx.device()), C, device => {
            let start = Start { std: init_std, sinusoidal: false };
            let drawn = |slot: mediant_lm::Slot| {
                let values = initial(&config, slot, start, seed);
                Ok((slot, Parameter::<C>::new(values, &slot.shape(&config), &device)?))
            };
            let parameters = config.slots().into_iter().map(drawn).collect::<Result<Vec<_>, mediant_lm::Error>>()?;
            save(&Model::new(config.clone(), parameters)?, &json, &files, cx.output("model")?)
        })?;
        Ok(())
    }
}

const DETAILS: &str = "\
Weights from N(0, `init_std`²), those that write to the residual stream smaller by √(2 · layers), gains 1, biases 0 (Radford et al. 2019, §2.3): what `train_lm` begins with. \
Everything else is the model's own: sizes, positions, norms, tokenizer. Supervised methods find something in such a model, too; what they find there is not what a trained model \
learnt (Adebayo et al. 2018, arXiv:1810.03292; Hewitt & Liang 2019, arXiv:1909.03368).";
