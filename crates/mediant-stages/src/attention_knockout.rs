//! `attention_knockout`: what the last position needs to see, and in which layers.

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::{Cuts, Metric, knock_out};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::prompts_input::check_positions;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct AttentionKnockout;

/// Options of `attention_knockout`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which positions no longer look.
    #[serde(default = "last")]
    queries: Positions,
    /// What they no longer look at, each alone: `{ span: subject }`, `{ range: [0, 4] }`, ...
    keys: Vec<Positions>,
    /// Layers that are cut together, centred at each layer.
    #[serde(default = "window")]
    window: usize,
    /// Whether each head is cut alone.
    #[serde(default)]
    by_head: bool,
    /// What is measured of the answer.
    #[serde(default = "prob")]
    metric: Metric,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn last() -> Positions {
    Positions::Last
}

fn window() -> usize {
    9
}

fn prob() -> Metric {
    Metric::Prob
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked { metric: self.metric, counterfactual: Counterfactual::None, seed: self.seed }
    }
}

impl Stage for AttentionKnockout {
    type Config = Config;
    const NAME: &'static str = "attention_knockout";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Attention knockout: what is lost when positions no longer see others, in windows of layers",
            details: DETAILS,
            example: "cut:\n  uses: attention_knockout\n  inputs: { model: model, prompts: prompts }\n  with: { keys: [{ span: subject }], window: 3 }\n",
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
        if config.keys.is_empty() {
            problems.push(Problems::config("keys", "nothing to cut is listed"));
        }
        for (index, keys) in config.keys.iter().enumerate() {
            if *keys == Positions::All {
                let message = "without any key nothing is left to attend to";
                problems.push(
                    Problems::config(format!("keys[{index}]"), message)
                        .help("some positions: `{ span: subject }`, `{ range: [0, 4] }`"),
                );
            }
            if config.keys[..index].contains(keys) {
                problems.push(Problems::config(format!("keys[{index}]"), "is listed twice"));
            }
        }
        if config.window == 0 {
            problems.push(Problems::config("window", "must be at least 1"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(check_positions("queries", &config.queries, inputs));
        for (index, keys) in config.keys.iter().enumerate() {
            problems.check(check_positions(&format!("keys[{index}]"), keys, inputs));
        }
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let cuts = Cuts {
            queries: config.queries.clone(),
            keys: config.keys.clone(),
            window: config.window,
            by_head: config.by_head,
        };
        let settings = [("queries", config.queries.to_string()), ("window", config.window.to_string())];
        let mediators = cuts.mediators(run.facts.n_layers, run.facts.n_heads);
        let mut recorder = run.recorder(Contrast::LostOfClean, settings, mediators)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            knock_out(&model, &run.pairs, &cuts, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

const DETAILS: &str = "\
In a window of layers the scores from `queries` to `keys` become −∞ before the softmax, so that the attention they had goes to the other keys. \
Score = (clean − cut) / |clean|, the share of the metric that is lost, by the layer l in the window's middle and by what was cut; the \
window is the layers from `max(0, l − ⌊window/2⌋)` to before `min(layers, l + ⌈window/2⌉)`, as in the paper's code. Prompts without a \
span that is named have no effect; with `by_head` for each head alone. The metric is by default the probability of the right answer. A \
query that would be left without any key is an error.

Source: Geva et al. 2023 (arXiv:2304.14767), with windows of 9 layers in a model of 48.";
