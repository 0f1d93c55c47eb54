//! `ablate`: what becomes of the metric when activations are replaced by zeros, means or those of other prompts.

use std::collections::BTreeMap;

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{HookPoint, Positions};
use mediant_methods::{Ablation, By, Metric, Recorder, ablate};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::mediators::Mediators;
use crate::model_input::{choose_hooks, loaded_facts};
use crate::prompts_input::{self, Wanted, about, check_prompts, read_pairs};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Ablate;

/// Options of `ablate`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs: `blocks.*.attn.hook_z`.
    hooks: Vec<String>,
    /// What is ablated alone: each `head`, `neuron`, `position`, `span`, or two of them together; `[]` is the whole activation. Left out: heads
    /// where there are heads, else positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Vec<By>>,
    /// Which positions are ablated.
    #[serde(default)]
    positions: Positions,
    /// What comes in the place of an activation.
    ablation: Ablation,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Of the bootstrap, and of resampling.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn mediators(&self) -> Mediators<'_> {
        Mediators { hooks: &self.hooks, by: self.by.as_deref(), positions: &self.positions }
    }
}

const PORTS: &[Port] = &[prompts_input::MODEL, prompts_input::PROMPTS];

impl Stage for Ablate {
    type Config = Config;
    const NAME: &'static str = "ablate";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Ablation: what is lost when activations are replaced by zeros, means or those of other prompts",
            details: DETAILS,
            example: "ablated:\n  uses: ablate\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.attn.hook_z\"], ablation: mean }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        prompts_input::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.mediators().check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.push(check_prompts(inputs).err().unwrap_or_default());
        problems.push(config.mediators().check_inputs(inputs).err().unwrap_or_default());
        problems.push(no_mean(config, inputs).err().unwrap_or_default());
        problems.finish()?;
        Ok(prompts_input::output_facts())
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let model = cx.input("model")?;
        let (pairs, _) = read_pairs(cx, Wanted::None)?;
        let targets = config.mediators().targets(&loaded_facts(&model)?, &pairs)?;
        let settings = BTreeMap::from([("ablation".to_owned(), config.ablation.name().to_owned())]);
        let about = about(cx, Self::NAME, config.metric, Contrast::LostOfClean, None, settings, config.seed)?;
        let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
        let mut recorder = Recorder::new(cx.output("effects")?, about, &pairs.examples(), mediators)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            let progress = |done, total| {
                cx.progress(done as u64, total as u64, "prompts");
                cx.check_cancelled()
            };
            ablate(&model, &pairs, &targets, config.ablation, config.metric, &mut recorder, progress)
        })?;
        recorder.finish(cx.output("scores")?)?;
        Ok(())
    }
}

/// Attention maps have as many keys as a batch's longest prompt, so there is no mean of them.
fn no_mean(config: &Config, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(model) = inputs.model("model") else { return Ok(()) };
    if !matches!(config.ablation, Ablation::Mean | Ablation::MeanByPosition) {
        return Ok(());
    }
    let hooks = choose_hooks("hooks", &config.hooks, model).unwrap_or_default();
    match hooks.iter().find(|hook| hook.name.parse().is_ok_and(HookPoint::per_key)) {
        Some(hook) => {
            let message =
                format!("`{}` has one number a key, of which prompts of several lengths have no mean", hook.name);
            Err(Problems::config("ablation", message).help("use `zero` or `resample` there"))
        }
        None => Ok(()),
    }
}

const DETAILS: &str = "\
Every mediator is ablated alone, in the clean run: `zero` puts zeros in its place, `mean` its mean over all positions of all prompts, \
`mean_by_position` its mean over the prompts position by position (prompts should be aligned then), `resample` its value in another prompt of \
the same length, drawn by `seed`. Score = (clean − ablated) / clean, the share of the metric that is lost: below 0 where ablation helps. \
Clean and ablated are the metric at the last position, as in `activation_patching`; the interval holds 95 percent of 1,000 draws of \
groups of prompts.

Zeros are far from what a model has seen; a mean is not, but keeps whatever all prompts share. Sources: Wang et al. 2022 (arXiv:2211.00593) for means, Chan \
et al. 2022 for resampling, Li & Janson 2024 (arXiv:2409.09951) for how they compare.";
