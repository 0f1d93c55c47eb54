//! `train_das`: subspaces that carry what tells prompts from their counterfactuals.

use mediant_artifact::{DirectionsMeta, Facts, Kind, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::Metric;
use mediant_methods::align::{Das, Loss, train_das};
use mediant_methods::interchange::{Exchange, Features, Featuriser};
use mediant_methods::subspace::Basis;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aligning::{self, Schedule, accuracies, by_point, metric, site_tags};
use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::sites::{Sites, directions_output, rows_of, write_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainDas;

/// Options of `train_das`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points without heads by their TransformerLens names, or globs: `blocks.*.hook_resid_post`.
    hooks: Vec<String>,
    /// Spans of the prompts; subspaces at each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<String>>,
    /// In place of `spans`, the positions of a subspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positions: Option<Positions>,
    /// Ranks; a subspace of each is trained by itself.
    ranks: Vec<usize>,
    /// What is made small.
    #[serde(default)]
    loss: Loss,
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
    /// Of the split, the batches, what training starts from, and the bootstrap.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn sites(&self) -> Sites<'_> {
        Sites { hooks: &self.hooks, positions: self.positions.as_ref(), spans: self.spans.as_deref() }
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

const METHOD: &str = "das";

impl Stage for TrainDas {
    type Config = Config;
    const NAME: &'static str = "train_das";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Distributed alignment search: subspaces that carry what a counterfactual changes",
            details: DETAILS,
            example: "das:\n  uses: train_das\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.hook_resid_post\"], spans: [s2, last], ranks: [1, 4] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            directions_output(),
            Output::new(
                "metrics",
                Kind::Metrics,
                "`loss`, and interchange-intervention accuracies, of every subspace.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = config.sites().check();
        if config.ranks.is_empty() {
            problems.push(Problems::config("ranks", "no rank is listed"));
        }
        for (i, rank) in config.ranks.iter().enumerate().filter(|(i, rank)| config.ranks[..*i].contains(rank)) {
            problems.push(Problems::config(format!("ranks[{i}]"), format!("{rank} is listed twice")));
        }
        problems.check(config.schedule().check().finish());
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(config.sites().check_inputs(inputs).finish());
        for (i, rank) in config.ranks.iter().enumerate() {
            problems.check(config.sites().check_rank(&format!("ranks[{i}]"), *rank, inputs));
        }
        problems.finish()?;
        let ranks: Vec<Option<usize>> = config.ranks.iter().map(|rank| Some(*rank)).collect();
        let directions = config.sites().facts(false, &ranks, (METHOD, Some(config.shuffle_labels)), inputs);
        Ok(vec![("directions".to_owned(), directions), ("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let sites = config.sites().sites(&run.facts)?;
        let (train, test) = config.schedule().parts(&run.pairs)?;
        let training = config.schedule().training();
        let count = train.prompts().len() as u64;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let points = by_point(&sites);
            let (mut rows, mut metrics, mut passes) = (Vec::new(), Vec::new(), 0.0);
            let mut trained = Vec::new();
            for (index, sites) in points.iter().enumerate() {
                let wanted: Vec<Das> = sites
                    .iter()
                    .flat_map(|site| config.ranks.iter().map(|&rank| Das { positions: site.positions.clone(), rank }))
                    .collect();
                let progress = |done: usize, total: usize| {
                    cx.progress((index * total + done) as u64, (points.len() * total) as u64, "steps");
                    cx.check_cancelled()
                };
                let (found, cost) = train_das(&model, &train, sites[0].point, &wanted, &training, progress)?;
                passes += cost;
                let sites = sites.iter().flat_map(|site| config.ranks.iter().map(move |_| site));
                for (site, found) in sites.zip(found) {
                    rows.extend(rows_of(site, &found.vectors, |_| None));
                    let mut tags = site_tags(site);
                    tags.insert("rank".to_owned(), found.vectors.len().to_string());
                    let loss = found.losses.last().copied().unwrap_or(f64::NAN);
                    metrics.push(metric("loss", loss, "nats", count, config.seed, &tags));
                    trained.push((site.clone(), Featuriser::Directions(Basis::new(&found.vectors)?), tags));
                }
            }
            let exchanges: Vec<_> = trained
                .iter()
                .map(|(site, featuriser, tags)| {
                    let rank = match featuriser {
                        Featuriser::Directions(basis) => basis.rank(),
                        _ => 0,
                    };
                    let sets = vec![Features::Of((0..rank).collect())];
                    (Exchange { site: site.clone(), featuriser, sets }, tags.clone())
                })
                .collect();
            metrics.extend(accuracies(cx, &model, (&train, test.as_ref()), &exchanges, config.seed)?);
            let meta = DirectionsMeta {
                method: METHOD.to_owned(),
                nested: false,
                counterfactual: run.counterfactual.clone(),
                seed: Some(config.seed),
                passes,
                ..DirectionsMeta::default()
            };
            write_subspaces(cx, meta, config.schedule().settings(), &rows)?;
            write_metrics(cx.output("metrics")?, &metrics)?;
            Ok(())
        })
    }
}

const DETAILS: &str = "\
For each hook point, span and rank an orthonormal R is trained so that a prompt (the base) with h_b + (h_s − h_b) RᵀR in place of its activation h_b, where h_s is the activation of \
its counterfactual (the source) at the same positions, answers as the counterfactual does. The model is frozen. What is expected: where the two versions have different right \
answers, those of the counterfactual; where they have the same, that they stay. `loss`: `cross_entropy` is −log of the probability of the expected tokens together; `logit_diff` the mean logit of \
the others less that of the expected ones.

R starts in random directions. Each step takes the gradient of the mean loss of a batch, projects it on the tangent space of subspaces (G − G RᵀR), makes a step of Adam \
(betas 0.9 and 0.999, no decay), and brings R back to orthonormal rows by a QR decomposition with a positive diagonal. Which prompts make up a batch is drawn once, their order \
in every epoch; so what lies before the hook point is computed once, and a step costs what lies behind it. The defaults are those of the causal-variable track of MIB \
(learning rate 0.01, 3 epochs, batches of 32).

`metrics`, for every subspace (tags `hook`, `span`, `rank`): `loss`, the mean of the last epoch; `iia`, interchange-intervention accuracy: the share of prompts whose mean logit of expected tokens \
exceeds that of the others (right answers of the prompt itself where the versions differ in them, else its wrong answers) after the intervention; `iia_exact`, the same by the largest logit of all. Where \
prompts of both kinds exist, `cause` (different answers), `isolate` (the same) and `disentangle`, the mean of the two, as in RAVEL. On the prompts of the training and on those of held-out groups \
(`test_fraction`), intervals over 1,000 draws of groups. `passes` of the directions counts the training alone, backward as one pass.

`shuffle_labels: true` is the control: a subspace that learns what is expected of other prompts shows what training alone can do; its accuracies are by the true expectations.

Sources: Geiger et al. 2023, Finding alignments between interpretable causal variables and distributed neural representations (arXiv:2303.02536); Mueller et al. 2025, MIB \
(arXiv:2504.13151); Huang et al. 2024, RAVEL (arXiv:2402.17700).";
