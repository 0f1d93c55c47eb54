//! `interchange`: what becomes of the answers when subspaces are taken from the counterfactual.

use std::collections::BTreeMap;

use mediant_artifact::{Contrast, Facts, Kind, Mediator, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::interchange::{Exchange, Features, Featuriser, Tally, interchange};
use mediant_methods::subspace::{Basis, Site, random_basis};
use mediant_methods::{Metric, layer};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aligning::{metric, site_tags};
use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::subspaces::{check_subspaces, read_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Interchange;

/// Options of `interchange`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of nested subspaces, such as those of `pca`: the first so many vectors, each number of them alone. Left out, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ranks: Option<Vec<usize>>,
    /// What is measured of the answer, for the scores.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the random subspaces and of the bootstrap.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        let counterfactual = Counterfactual::of("counterfactual", self.counterfactual.as_deref());
        Asked { metric: self.metric, counterfactual, seed: self.seed }
    }
}

const PORTS: &[Port] = &[
    measuring::MODEL,
    measuring::PROMPTS,
    Port::one("directions", &[Kind::Directions], "The subspaces, of `train_das`, `pca`, `train_probe`, ..."),
];

impl Stage for Interchange {
    type Config = Config;
    const NAME: &'static str = "interchange";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Interchange interventions: how often a prompt answers as its counterfactual with a subspace of it",
            details: DETAILS,
            example: "iia:\n  uses: interchange\n  inputs: { model: model, prompts: held_out, directions: das.directions }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        let metrics =
            Output::new("metrics", Kind::Metrics, "Interchange-intervention accuracies, with their controls.");
        [metrics].into_iter().chain(measuring::outputs()).collect()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let ranks = config.ranks.as_deref().unwrap_or(&[1]);
        if ranks.is_empty() {
            problems.push(Problems::config("ranks", "no rank is listed"));
        }
        for (i, rank) in ranks.iter().enumerate() {
            let mut problem = |why: &str| problems.push(Problems::config(format!("ranks[{i}]"), why));
            if *rank == 0 {
                problem("a rank is at least 1");
            }
            if ranks[..i].contains(rank) {
                problem("is listed twice");
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(check_subspaces(inputs));
        if let (Some(ranks), Some(directions)) = (&config.ranks, inputs.directions("directions")) {
            if directions.nested == Some(false) {
                let why = "every subspace of these directions has a rank of its own";
                problems.push(Problems::config("ranks", why).help("remove it"));
            }
            let least = directions.subspaces.iter().flatten().filter_map(|subspace| subspace.rank).min();
            for (i, rank) in ranks.iter().enumerate().filter(|(_, rank)| least.is_some_and(|least| **rank > least)) {
                let why = format!("there are {} vectors, and no subspace of rank {rank}", least.unwrap_or(0));
                problems.push(Problems::config(format!("ranks[{i}]"), why));
            }
        }
        let mut facts = vec![("metrics".to_owned(), Facts::Metrics)];
        facts.extend(measuring::facts(problems)?);
        Ok(facts)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let (meta, found) = read_subspaces(&cx.input("directions")?, &run.facts)?;
        let mut asked: Vec<Choice> = Vec::new();
        for subspace in found {
            let (site, basis) = (subspace.site, subspace.basis);
            let ranks = match &config.ranks {
                Some(ranks) if subspace.nested => ranks.clone(),
                _ => vec![basis.rank()],
            };
            if let Some(rank) = ranks.iter().find(|rank| **rank > basis.rank()) {
                let known = basis.rank();
                return Err(StageError::new(format!("the subspace at {site} has rank {known}, and no {rank} vectors")));
            }
            let of_random = ranks.iter().map(|&rank| {
                let random = random_basis(basis.width(), rank, config.seed, &format!("random {site} {rank}"));
                Choice { site: site.clone(), what: "random", rank, basis: random }
            });
            let random: Vec<Choice> = of_random.collect();
            let width = basis.width();
            let given = |rank: usize| Choice { site: site.clone(), what: "directions", rank, basis: basis.clone() };
            asked.extend(ranks.iter().map(|&rank| given(rank)).chain(random));
            let whole = Choice { site: site.clone(), what: "full_vector", rank: width, basis };
            if !asked.iter().any(|choice| choice.what == whole.what && choice.site == whole.site) {
                asked.push(whole);
            }
        }
        let featurisers: Vec<Featuriser> =
            asked.iter().map(|choice| Featuriser::Directions(choice.basis.clone())).collect();
        let exchanges: Vec<Exchange<'_>> = asked
            .iter()
            .zip(&featurisers)
            .map(|(choice, featuriser)| Exchange {
                site: choice.site.clone(),
                featuriser,
                sets: vec![choice.features()],
            })
            .collect();
        let mediators: Vec<Mediator> = asked.iter().map(Choice::mediator).collect();
        let settings = [("directions", meta.method), ("patched", "h_b + (h_s − h_b) RᵀR".to_owned())];
        let mut recorder = run.recorder(Contrast::Lost, settings, mediators)?;
        let mut tallies = vec![Tally::new(&run.pairs); asked.len()];
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            interchange(
                &model,
                &run.pairs,
                &exchanges,
                config.metric,
                |outcome| {
                    tallies[outcome.exchange].add(outcome.first, outcome.prompts);
                    let column = |of: fn(&mediant_methods::interchange::Exchanged) -> f64| -> Vec<f64> {
                        outcome.prompts.iter().map(of).collect()
                    };
                    let clean = column(|prompt| prompt.clean);
                    let counterfactual = column(|prompt| prompt.counterfactual);
                    let patched = column(|prompt| prompt.patched);
                    let reached = |example: usize| outcome.prompts[example - outcome.first as usize].reached;
                    let exchange = outcome.exchange;
                    recorder.record_where(exchange, outcome.first, &clean, Some(&counterfactual), &patched, reached)?;
                    recorder.count(outcome.prompts.len(), outcome.passes);
                    Ok::<_, StageError>(())
                },
                run.progress(),
            )
        })?;
        recorder.count(run.pairs.prompts().len(), 2.0);
        let mut metrics: Vec<MetricRow> = Vec::new();
        for (choice, tally) in asked.iter().zip(&tallies) {
            metrics.extend(tally.accuracies(config.seed).into_iter().map(|accuracy| MetricRow {
                split: None,
                low: accuracy.estimate.interval.map(|(low, _)| low),
                high: accuracy.estimate.interval.map(|(_, high)| high),
                ..metric(accuracy.name, accuracy.estimate.value, "1", accuracy.n, config.seed, &choice.tags())
            }));
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        run.finish(recorder)
    }
}

/// What is exchanged at a site.
struct Choice {
    site: Site,
    /// `directions`, `random` or `full_vector`.
    what: &'static str,
    rank: usize,
    basis: Basis,
}

impl Choice {
    fn features(&self) -> Features {
        if self.what == "full_vector" { Features::Whole } else { Features::Of((0..self.rank).collect()) }
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = site_tags(&self.site);
        tags.insert("features".to_owned(), self.what.to_owned());
        tags.insert("rank".to_owned(), self.rank.to_string());
        tags
    }

    fn mediator(&self) -> Mediator {
        Mediator {
            name: format!("{} {} of rank {}", self.site, self.what, self.rank),
            kind: if self.what == "full_vector" { "full_vector" } else { "subspace" }.to_owned(),
            hook: Some(self.site.point.to_string()),
            layer: layer(self.site.point),
            span: self.site.positions.span().map(str::to_owned),
            ..Mediator::default()
        }
    }
}

const DETAILS: &str = "\
Every prompt (the base) runs with h_b + (h_s − h_b) RᵀR in place of its activation h_b, where h_s is that of its counterfactual (the source) at the same positions, and R one of the subspaces. Beside them, at every \
site, `full_vector` (h_s in place of h_b: no subspace can carry more of what is there) and, for every rank, a `random` subspace.

`metrics` (tags `hook`, `span`, `features`, `rank`): `iia`, interchange-intervention accuracy: the share of prompts whose mean logit of expected tokens exceeds that of the others. Where prompt and counterfactual have different right \
answers, those of the counterfactual are expected, against the prompt's own; where they have the same, the right answers against the prompt's wrong ones (without any: the largest logit of all must be \
that of a right one). `iia_exact`: the largest logit is that of an expected token. Where prompts of both kinds exist, `cause` (different answers), `isolate` (the same) and `disentangle`, the mean of the two, as in RAVEL. \
Intervals hold 95 percent of 1,000 draws of groups of prompts. Prompts that have no position of a site do not count there.

`scores` and `effects`: the metric of the prompt, the counterfactual and the patched prompt, by the prompt's own answers; score = (clean − patched) / (clean − counterfactual). Of each batch both versions run once for all subspaces; \
`passes` counts the rest by its share of the blocks. Train on other prompts than these, for a subspace can learn prompts by heart.

Sources: Geiger et al. 2021 (arXiv:2106.02997); Geiger et al. 2023 (arXiv:2303.02536); Huang et al. 2024, RAVEL (arXiv:2402.17700); Mueller et al. 2025, MIB (arXiv:2504.13151).";
