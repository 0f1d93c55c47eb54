//! `causal_trace`: where the clean activations restore what noise on the subject took.

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::{Metric, Restored, Tracing, subject_std, trace, traced};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::prompts_input::check_span;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct CausalTrace;

/// Options of `causal_trace`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The span of the prompts that gets noise.
    #[serde(default = "subject")]
    subject: String,
    /// Standard deviation of the noise, as a multiple of that of the embeddings of the subjects' tokens.
    #[serde(default = "three")]
    noise: f64,
    /// Draws of noise that are averaged over.
    #[serde(default = "ten")]
    samples: u64,
    /// What is put back: `residual` after one layer, or what `attention` or `mlp` add in a window of layers.
    #[serde(default = "everything")]
    restore: Vec<Restored>,
    /// Layers of that window.
    #[serde(default = "window")]
    window: usize,
    /// What is measured of the answer.
    #[serde(default = "prob")]
    metric: Metric,
    /// Of the noise and of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn subject() -> String {
    "subject".to_owned()
}

fn three() -> f64 {
    3.0
}

fn ten() -> u64 {
    10
}

fn window() -> usize {
    10
}

fn everything() -> Vec<Restored> {
    vec![Restored::Residual, Restored::Attention, Restored::Mlp]
}

fn prob() -> Metric {
    Metric::Prob
}

/// More draws say nothing more.
const MOST_SAMPLES: u64 = 10_000;

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked { metric: self.metric, counterfactual: Counterfactual::None, seed: self.seed }
    }
}

impl Stage for CausalTrace {
    type Config = Config;
    const NAME: &'static str = "causal_trace";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Causal tracing: which clean activations restore an answer that noise on the subject took",
            details: DETAILS,
            example: "trace:\n  uses: causal_trace\n  inputs: { model: model, prompts: prompts }\n  with: { subject: subject, window: 3 }\n",
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
        if !(config.noise > 0.0 && config.noise <= 1e6) {
            problems.push(Problems::config("noise", "must be above 0 and at most 1e6"));
        }
        if config.samples == 0 || config.samples > MOST_SAMPLES {
            problems.push(Problems::config("samples", format!("must be from 1 to {MOST_SAMPLES}")));
        }
        if config.window == 0 {
            problems.push(Problems::config("window", "must be at least 1"));
        }
        let twice = |i: &usize| config.restore[..*i].contains(&config.restore[*i]);
        if config.restore.is_empty() || (0..config.restore.len()).any(|i| twice(&i)) {
            problems.push(Problems::config("restore", "names nothing, or something twice"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(check_span("subject", &config.subject, inputs));
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let mut run = config.asked().open(cx, Self::NAME)?;
        // What the noise leaves stands as the counterfactual of the effects.
        run.counterfactual = Some("noise".to_owned());
        let layers = run.facts.n_layers;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let std = config.noise * subject_std(&model, &run.pairs, &config.subject)?;
            let settings = [
                ("subject", config.subject.clone()),
                ("noise_std", std.to_string()),
                ("samples", config.samples.to_string()),
                ("window", config.window.to_string()),
            ];
            let tracing = Tracing {
                subject: config.subject.clone(),
                std: std as f32,
                samples: config.samples,
                restore: config.restore.clone(),
                window: config.window,
                seed: config.seed,
                metric: run.metric,
            };
            let mut recorder = run.recorder(Contrast::Restored, settings, traced(&config.restore, layers))?;
            trace(&model, &run.pairs, &tracing, &mut recorder, run.progress())?;
            run.finish(recorder)
        })
    }
}

const DETAILS: &str = "\
The embeddings of the subject's tokens get Gaussian noise of `noise` standard deviations of these tokens' embeddings; the value with noise is the \
`counterfactual` of the effects, the mean over `samples` draws. Then a clean activation is put back at one token: the residual stream \
after one layer (`residual`), or what attention or the MLP adds in `window` layers around a layer (from `max(0, l − ⌊window/2⌋)` to before `l + ⌈window/2⌉`, as \
in ROME's code). Score = (restored − noise) / (clean − noise).

Effects are by layer and group of tokens: `first_subject`, `middle_subject`, `last_subject` (a subject of one token is its last), \
`first_subsequent`, `further`, `last`. In a group of several tokens each is restored alone, and the mean is the group's value; prompts without a token in a \
group have no effect for it. Tokens before the subject see no noise and are left out. The metric is by default the probability of the right \
answer.

Source: Meng et al. 2022 (arXiv:2202.05262). It keeps facts that the model gets right only; choose prompts accordingly.";
