//! `train_mask`: which features carry what tells prompts from their counterfactuals.

use mediant_artifact::{
    Contrast, Facts, Kind, MetricRow, ScoreRow, ScoresMeta, SearchFacts, write_metrics, write_scores,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::Metric;
use mediant_methods::align::{Loss, Mask, Masked, train_mask};
use mediant_methods::interchange::{Exchange, Features};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aligning::{self, Schedule, accuracies, metric};
use crate::device::compute_device;
use crate::masked::{DBM, DIMENSIONS, DIRECTIONS, FeaturesAt, LATENTS};
use crate::measuring::{self, Asked, Counterfactual, Measuring};
use crate::sae_input::{Dictionary, check_dictionary, foreign, read_dictionary};
use crate::searched::searched;
use crate::sites::{Sites, positions_json};
use crate::subspaces::{check_subspaces, read_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainMask;

/// Options of `train_mask`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points without heads, or globs, whose dimensions are chosen from. An `sae` and `directions` say themselves where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hooks: Option<Vec<String>>,
    /// Spans of the prompts; a mask at each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<String>>,
    /// In place of `spans`, the positions of a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positions: Option<Positions>,
    /// What is made small.
    #[serde(default)]
    loss: Loss,
    /// What the sum of a mask counts for beside the loss.
    #[serde(default = "l1")]
    l1: f64,
    /// The temperature of the first and of the last step.
    #[serde(default = "temperatures")]
    temperatures: (f64, f64),
    /// How often every prompt of the training is seen.
    #[serde(default = "aligning::three")]
    epochs: usize,
    /// Prompts of a step.
    #[serde(default = "aligning::batch")]
    batch: usize,
    /// Learning rate of Adam.
    #[serde(default = "aligning::lr")]
    lr: f64,
    /// Share of the groups of prompts that are held out of the training.
    #[serde(default = "aligning::fifth")]
    test_fraction: f64,
    /// The control: in the training, of each prompt is expected what is expected of another.
    #[serde(default)]
    shuffle_labels: bool,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the split, the batches, and the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn l1() -> f64 {
    1e-4
}

fn temperatures() -> (f64, f64) {
    (1.0, 0.01)
}

impl Config {
    fn sites(&self) -> Sites<'_> {
        Sites {
            hooks: self.hooks.as_deref().unwrap_or_default(),
            positions: self.positions.as_ref(),
            spans: self.spans.as_deref(),
        }
    }

    fn asked(&self) -> Asked<'_> {
        let counterfactual = Counterfactual::of("counterfactual", self.counterfactual.as_deref());
        Asked { metric: Metric::LogProb, counterfactual, seed: self.seed }
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            loss: self.loss,
            test_fraction: self.test_fraction,
            shuffle_labels: self.shuffle_labels,
            seed: self.seed,
        }
    }
}

const PORTS: &[Port] = &[
    measuring::MODEL,
    measuring::PROMPTS,
    Port::optional("directions", &[Kind::Directions], "Vectors that are chosen from, such as those of `pca`."),
    Port::optional("sae", &[Kind::Dictionary], "An autoencoder whose latents are chosen from."),
];

impl Stage for TrainMask {
    type Config = Config;
    const NAME: &'static str = "train_mask";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Desiderata-based masking: which dimensions, directions or latents carry what a counterfactual changes",
            details: DETAILS,
            example: "mask:\n  uses: train_mask\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [blocks.2.hook_resid_post], spans: [s2, last], l1: 0.001 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("scores", Kind::Scores, "The mask of every feature, σ(m): chosen above 0.5."),
            Output::new(
                "metrics",
                Kind::Metrics,
                "`loss`, `chosen`, and interchange-intervention accuracies, of every mask.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = config.schedule().check();
        if !(config.l1 >= 0.0 && config.l1.is_finite()) {
            problems.push(Problems::config("l1", "`l1` must be at least 0"));
        }
        let (first, last) = config.temperatures;
        if !(last > 0.0 && first >= last && first.is_finite()) {
            problems.push(Problems::config("temperatures", "temperatures fall, and stay above 0"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        let (of_sae, of_directions) = (!inputs.many("sae").is_empty(), !inputs.many("directions").is_empty());
        let without = |given: bool, field: &str, whose: &str| {
            let problem = || Problems::config(field, format!("{whose} says already where features are"));
            if given { Err(problem().help("remove it")) } else { Ok(()) }
        };
        match (of_sae, of_directions) {
            (true, true) => {
                let problem =
                    Problems::input("directions", "features are latents of the `sae` or directions, not both");
                problems.push(problem.help("remove one"));
            }
            (true, false) => {
                problems.check(without(config.hooks.is_some(), "hooks", "the `sae`"));
                problems.check(config.sites().check_positions().finish());
                problems.check(config.sites().check_prompts(inputs).finish());
                if let (Some(sae), Some(model)) = (inputs.dictionary("sae"), inputs.model("model")) {
                    problems.check(check_dictionary("sae", sae, model));
                    if sae.hook_out.is_some() || sae.skips {
                        problems.push(Problems::input("sae", "a transcoder does not take apart what it reads"));
                    }
                }
            }
            (false, true) => {
                problems.check(without(config.hooks.is_some(), "hooks", "`directions`"));
                problems.check(without(config.spans.is_some(), "spans", "`directions`"));
                problems.check(without(config.positions.is_some(), "positions", "`directions`"));
                problems.check(check_subspaces(inputs));
            }
            (false, false) => {
                problems.check(config.sites().check().finish());
                problems.check(config.sites().check_inputs(inputs).finish());
            }
        }
        problems.finish()?;
        let mediator = match (of_sae, of_directions) {
            (true, _) => LATENTS,
            (_, true) => DIRECTIONS,
            _ => DIMENSIONS,
        };
        let search = SearchFacts {
            mediator: mediator.to_owned(),
            method: DBM.to_owned(),
            shuffled: Some(config.shuffle_labels),
        };
        Ok(vec![("scores".to_owned(), Facts::Scores(Some(search))), ("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let mut masks = masks(cx, &run)?;
        masks.sort_by_key(|mask| mask.site.point);
        let (train, test) = config.schedule().parts(&run.pairs)?;
        let training = config.schedule().training();
        let annealed = Mask { temperatures: config.temperatures, l1: config.l1 };
        let count = train.prompts().len() as u64;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let points: Vec<&[FeaturesAt]> = masks.chunk_by(|a, b| a.site.point == b.site.point).collect();
            let (mut trained, mut passes) = (Vec::new(), 0.0);
            for (index, masks) in points.iter().enumerate() {
                let sites: Vec<_> = masks.iter().map(|mask| (mask.site.clone(), &mask.featuriser)).collect();
                let progress = |done: usize, total: usize| {
                    cx.progress((index * total + done) as u64, (points.len() * total) as u64, "steps");
                    cx.check_cancelled()
                };
                let (found, cost) = train_mask(&model, &train, &sites, annealed, &training, progress)?;
                passes += cost;
                trained.extend(found);
            }
            let mut metrics = Vec::new();
            let mut exchanges = Vec::new();
            for (mask, found) in masks.iter().zip(&trained) {
                let chosen: Vec<usize> = (0..found.logits.len()).filter(|&feature| found.logits[feature] > 0.0).collect();
                let tags = mask.tags();
                let loss = found.losses.last().copied().unwrap_or(f64::NAN);
                metrics.push(metric("loss", loss, "nats", count, config.seed, &tags));
                let share = chosen.len() as f64;
                metrics.push(MetricRow {
                    numerator: Some(share),
                    denominator: Some(found.logits.len() as f64),
                    ..metric("chosen", share, "1", found.logits.len() as u64, config.seed, &tags)
                });
                let sets = vec![Features::Of(chosen)];
                exchanges.push((Exchange { site: mask.site.clone(), featuriser: &mask.featuriser, sets }, tags));
            }
            metrics.extend(accuracies(cx, &model, (&train, test.as_ref()), &exchanges, config.seed)?);
            write_metrics(cx.output("metrics")?, &metrics)?;
            let mut settings = config.schedule().settings();
            settings.extend(searched(cx)?);
            settings.push(("l1", config.l1.to_string()));
            settings.push(("temperatures", format!("{} to {}", config.temperatures.0, config.temperatures.1)));
            if let Some(positions) = &config.positions {
                settings.push(("positions", positions_json(positions)));
            }
            let meta = ScoresMeta {
                method: DBM.to_owned(),
                metric: "mask".to_owned(),
                unit: "1".to_owned(),
                contrast: Contrast::Mask,
                counterfactual: run.counterfactual.clone(),
                passes,
                settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                seed: config.seed,
                scores: 0,
            };
            let scores: Vec<ScoreRow> =
                masks.iter().zip(&trained).flat_map(|(mask, found)| scores(mask, found, count)).collect();
            write_scores(cx.output("scores")?, meta, &scores)?;
            Ok(())
        })
    }
}

/// σ(m) of every feature. Away from 0 and 1 as far as training went, it keeps the order of all.
fn scores(features: &FeaturesAt, found: &Masked, n: u64) -> Vec<ScoreRow> {
    let score = |(unit, share): (usize, f64)| {
        let mediator = features.mediator(unit);
        ScoreRow { mediator, value: share, numerator: share, denominator: 1.0, n, low: None, high: None }
    };
    found.shares().into_iter().enumerate().map(score).collect()
}

/// What is chosen from, by site.
fn masks(cx: &RunContext<'_, Config>, run: &Measuring<'_, Config>) -> Result<Vec<FeaturesAt>, StageError> {
    let config = cx.config();
    if let Some(artifact) = cx.optional("sae")? {
        let Dictionary { sae, meta, hook, .. } = read_dictionary(&artifact)?;
        if let Some(note) = foreign(&meta, cx.input_digest("model")?) {
            cx.note(note);
        }
        return Ok(config.sites().at(hook).map(|site| FeaturesAt::latents(site, sae.clone())).collect());
    }
    let Some(artifact) = cx.optional("directions")? else {
        return Ok(config.sites().sites(&run.facts)?.into_iter().map(FeaturesAt::dimensions).collect());
    };
    Ok(read_subspaces(&artifact, &run.facts)?.1.into_iter().map(FeaturesAt::of_subspace).collect())
}

const DETAILS: &str = "\
A mask σ(m/T) is trained over features so that a prompt (the base) with so much of each feature as it is in its counterfactual (the source) answers as the counterfactual does; the model is frozen. \
What is expected, `loss`, `metrics` and `shuffle_labels` are as in `train_das`. The features:

- without further inputs, the dimensions of the activations at `hooks`: h_b + (h_s − h_b) ⊙ σ;
- of `directions`, the vectors of each of their subspaces, at their own hook points and positions: h_b + ((h_s − h_b) Vᵀ ⊙ σ) V;
- of an `sae`, its latents at its own hook point: h_b + ((codes of h_s − codes of h_b) ⊙ σ) W_dec, so that what it does not reconstruct of the base stays. How much of the model such a dictionary \
  keeps is what `evaluate_sae` measures.

m starts at 0; the temperature falls from the first of `temperatures` to the last by the same amount every step; the sum of the mask counts `l1` times beside the loss; Adam as in `train_das`. A feature is chosen \
where m > 0, and `chosen` counts them; accuracies are those of an interchange of the chosen features, whole.

`scores`: a mediator a feature, of kind `dimension`, `direction` or `latent`, with hook point, span and its number (`unit`); the value is σ(m), so that the order among features is kept, and those above 0.5 are chosen. \
Positions other than spans stand in the settings.

Sources: De Cao et al. 2020 (arXiv:2004.14992); Davies et al. 2023, Discovering variable binding circuitry with desiderata (arXiv:2307.03637); Mueller et al. 2025, MIB (arXiv:2504.13151).";
