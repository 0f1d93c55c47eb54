//! `steer`: what becomes of the metric when a direction is added or taken out.

use mediant_artifact::{Contrast, Facts, HookFact, ModelFacts};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{HookPoint, Model, Positions};
use mediant_methods::{Change, Metric, Pairs, Steering, difference_of_means, direction_length, steer};
use mediant_tensor::{Compute, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::{DICTIONARY, Tokens, check_latent, latent_direction};
use crate::measuring::{self, Asked, Counterfactual};
use crate::model_input::hooks_like;
use crate::prompts_input::{check_positions, check_reach};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Steer;

/// Options of `steer`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The hook point by its TransformerLens name: `blocks.2.hook_resid_post`.
    hook: String,
    /// Where the direction comes from.
    direction: Along,
    /// What is done with it: `project_out`, or `{ add: { strengths: [-2, 2] } }`.
    #[serde(rename = "do")]
    change: Do,
    /// Which positions of the prompts are steered.
    #[serde(default)]
    positions: Positions,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// Where a direction comes from.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Along {
    /// Mean activation of the prompts at the hook point less that of their counterfactuals.
    DifferenceOfMeans(Means),
    /// The decoder row of this latent of the dictionary.
    Latent(usize),
    /// The unembedding of one token less that of another.
    Unembedding(Tokens),
}

/// Which means are compared.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Means {
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Over which positions.
    #[serde(default)]
    positions: Positions,
}

/// What is done with a direction.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Do {
    /// It is added.
    Add(Strengths),
    /// What lies along it is taken out: x − (x · d) d, d of length 1.
    ProjectOut,
}

/// How much of a direction is added.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Strengths {
    /// How many times it is added; each alone. Negative ones steer away.
    strengths: Vec<f64>,
    /// Bring the direction to length 1 first.
    #[serde(default)]
    normalize: bool,
}

const PORTS: &[Port] = &[measuring::MODEL, measuring::PROMPTS, DICTIONARY];

impl Stage for Steer {
    type Config = Config;
    const NAME: &'static str = "steer";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Adds a direction to activations, or projects it out, and measures the answers",
            details: DETAILS,
            example: "steered:\n  uses: steer\n  inputs: { model: model, prompts: prompts }\n  with:\n    hook: blocks.2.hook_resid_post\n    direction: { difference_of_means: { positions: last } }\n    do: { add: { strengths: [-2, -1, 1, 2] } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let Do::Add(Strengths { strengths, .. }) = &config.change else { return Ok(()) };
        let mut problems = Problems::none();
        if strengths.is_empty() {
            problems.push(Problems::config("do.add.strengths", "no strength is listed"));
        }
        for (i, strength) in strengths.iter().enumerate() {
            let mut problem = |why| problems.push(Problems::config(format!("do.add.strengths[{i}]"), why));
            if !strength.is_finite() {
                problem("must be a finite number");
            }
            if strengths[..i].contains(strength) {
                problem("is listed twice");
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(check_positions("positions", &config.positions, inputs));
        problems.check(check_reach("positions", &config.positions, inputs));
        problems.check(config.check_direction(inputs));
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let mut run = config.asked().open(cx, Self::NAME)?;
        // Its activations make the direction; no value of it stands in the effects.
        let counterfactual = run.counterfactual.take();
        let hook = the_hook(&config.hook, &run.facts);
        let hook = hook.map_err(|_| StageError::new(format!("the model has no hook point `{}`", config.hook)))?;
        let point: HookPoint = hook.name.parse()?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let direction = config.direction(cx, &model, &run.pairs, point)?;
            let length = direction_length(&direction)?;
            let (direction, change) = match &config.change {
                Do::Add(Strengths { strengths, normalize: true }) => {
                    let unit = direction.iter().map(|x| (f64::from(*x) / length) as f32).collect();
                    (unit, Change::Add(strengths.clone()))
                }
                Do::Add(Strengths { strengths, normalize: false }) => (direction, Change::Add(strengths.clone())),
                Do::ProjectOut => (direction, Change::ProjectOut),
            };
            let steering = Steering { point, positions: config.positions.clone(), direction, change };
            let settings = config.settings(counterfactual.as_deref(), length);
            let mut recorder = run.recorder(Contrast::LostOfClean, settings, steering.mediators())?;
            if let Along::DifferenceOfMeans(_) = config.direction {
                recorder.count(run.pairs.prompts().len(), 2.0);
            }
            steer(&model, &run.pairs, &steering, config.metric, &mut recorder, run.progress())?;
            run.finish(recorder)
        })
    }
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        let counterfactual = match &self.direction {
            Along::DifferenceOfMeans(means) => {
                Counterfactual::of("direction.difference_of_means.counterfactual", means.counterfactual.as_deref())
            }
            Along::Latent(_) | Along::Unembedding(_) => Counterfactual::None,
        };
        Asked { metric: self.metric, counterfactual, seed: self.seed }
    }

    /// Whether the hook point exists and takes a direction, and there is one.
    fn check_direction(&self, inputs: &InputFacts) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if !matches!(self.direction, Along::Latent(_)) && !inputs.many("dictionary").is_empty() {
            let unused = Problems::input("dictionary", "nothing here uses a dictionary");
            problems.push(unused.help("take a `latent` as direction, or remove it"));
        }
        if let Along::DifferenceOfMeans(means) = &self.direction {
            let field = "direction.difference_of_means.positions";
            problems.check(check_positions(field, &means.positions, inputs));
            problems.check(check_reach(field, &means.positions, inputs));
        }
        let Some(model) = inputs.model("model") else { return problems.finish() };
        let hook = match the_hook(&self.hook, model) {
            Ok(hook) => hook,
            Err(problem) => {
                problems.push(problem);
                return problems.finish();
            }
        };
        if hook.name.ends_with("hook_scale") {
            problems.push(Problems::config("hook", "is a norm's scale, one number a position: no direction"));
            return problems.finish();
        }
        if hook.name.parse().is_ok_and(HookPoint::per_key) {
            let problem = Problems::config("hook", "has a number a key, as many as a prompt is long: no direction");
            problems.push(problem);
            return problems.finish();
        }
        problems.check(match &self.direction {
            Along::DifferenceOfMeans(_) => Ok(()),
            Along::Latent(latent) => check_latent("direction.latent", *latent, &hook, inputs),
            Along::Unembedding(tokens) => tokens.check("direction.unembedding", &hook, inputs),
        });
        problems.finish()
    }

    fn direction<C: Compute>(
        &self,
        cx: &RunContext<'_, Config>,
        model: &Model<C>,
        pairs: &Pairs,
        point: HookPoint,
    ) -> Result<Vec<f32>, StageError> {
        match &self.direction {
            Along::DifferenceOfMeans(means) => Ok(difference_of_means(model, pairs, point, &means.positions)?),
            Along::Latent(latent) => latent_direction(cx, *latent),
            Along::Unembedding(tokens) => tokens.direction(&cx.input("model")?, model),
        }
    }

    /// What another run needs to be comparable, the sign in words.
    fn settings(&self, counterfactual: Option<&str>, length: f64) -> [(&'static str, String); 5] {
        let (direction, normalized) = (
            match &self.direction {
                Along::DifferenceOfMeans(means) => {
                    let counterfactual = counterfactual.unwrap_or("counterfactual");
                    format!("mean(clean) − mean({counterfactual}) at positions {}", means.positions)
                }
                Along::Latent(latent) => format!("decoder row of latent {latent}"),
                Along::Unembedding(tokens) => tokens.describe(),
            },
            match &self.change {
                Do::Add(Strengths { normalize, .. }) => *normalize,
                Do::ProjectOut => true,
            },
        );
        let change = match &self.change {
            Do::Add(_) => "x + strength · d",
            Do::ProjectOut => "x − (x · d) d",
        };
        [
            ("change", change.to_owned()),
            ("direction", direction),
            ("direction_length", length.to_string()),
            ("normalized", normalized.to_string()),
            ("positions", self.positions.to_string()),
        ]
    }
}

/// The one hook point of this name.
fn the_hook(name: &str, model: &ModelFacts) -> Result<HookFact, Problems> {
    match &hooks_like("hook", name, model)?[..] {
        [hook] => Ok(hook.clone()),
        hooks => Err(Problems::config("hook", format!("stands for {} hook points; one is steered", hooks.len()))),
    }
}

const DETAILS: &str = "\
The clean prompts run with activations x at `hook` and `positions` changed, in all heads where there are heads: `do: { add: … }` gives \
x + s d for each of the `strengths` s, a mediator each; `do: project_out` gives x − (x · d) d with d of length 1, so that nothing is left along \
d. The direction d has the shape of an activation:

- `difference_of_means: { counterfactual, positions }`: mean over prompts and `positions` of the clean activations at `hook` less the \
  mean of the counterfactual ones. Positive strengths make a prompt more like the clean ones, negative ones more like the counterfactuals;
- `latent: N`: the decoder row `W_dec[N]` of the autoencoder at the input `dictionary`;
- `unembedding: { of, less }`: `W_U[:, of] − W_U[:, less]`, for hook points of the residual stream's width. Positive strengths favour `of`.

`normalize: true` brings d to length 1 before it is multiplied; the settings of the scores name sign, length as found, and whether it was \
normalised. In the effects `clean` is the metric as it is and `patched` with the change; score = (clean − patched) / |clean|, negative where \
steering raises the metric. Strength 0 changes nothing. The interval holds 95 percent of 1,000 draws of groups of prompts.

What lies before the hook point is computed once for all strengths; `passes` counts the rest by its share of the blocks.

Sources: Turner et al. 2023, Activation addition (arXiv:2308.10248); Arditi et al. 2024, Refusal is mediated by a single direction \
(arXiv:2406.11717), for projecting out and differences of means.";
