//! `interchange`: what becomes of the answers when subspaces are taken from the counterfactual.

use mediant_artifact::{Contrast, Facts, Kind, MeasuredFacts, Mediator, MetricRow, SearchFacts, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::interchange::{Exchange, Exchanged, Outcome, Tally, interchange};
use mediant_methods::{Metric, SEARCHED_IN, SEARCHED_ON};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::answers::Answers;
use self::choice::Choice;
use self::mask::Masked;
use crate::aligning::metric;
use crate::device::compute_device;
use crate::masked::{DBM, DIMENSIONS, DIRECTIONS, LATENTS};
use crate::measuring::{self, Asked, Counterfactual, Measuring};
use crate::sae_input::check_dictionary;
use crate::searched::note_same_prompts;
use crate::subspaces::{check_subspaces, read_subspaces};

mod answers;
mod choice;
mod mask;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Interchange;

/// Options of `interchange`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of nested subspaces at `directions`, such as those of `pca`: the first so many vectors, each number of them alone. Left out, all of them.
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
    Port::optional("directions", &[Kind::Directions], "The subspaces, of `train_das`, `pca`, `train_probe`, ..."),
    Port::optional("mask", &[Kind::Scores], "In their place the features that a mask of `train_mask` chooses."),
    Port::optional("sae", &[Kind::Dictionary], "The autoencoder, where the mask is over its latents."),
];

/// The metric of `answers`: interchange-intervention accuracy.
const IIA: &str = "iia";

impl Stage for Interchange {
    type Config = Config;
    const NAME: &'static str = "interchange";
    const VERSION: u32 = 3;

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
        let answers = Output::new(
            "answers",
            Kind::Effects,
            "A row an example and subspace: 1 where the answer is as expected, for `compare_mediators`.",
        );
        [metrics].into_iter().chain(measuring::outputs()).chain([answers]).collect()
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
        problems.check(check_ports(config, inputs));
        if let (Some(ranks), Some(directions)) = (&config.ranks, inputs.directions("directions")) {
            if directions.nested == Some(false) {
                let why = "every subspace of these directions has a rank of its own";
                problems.push(Problems::config("ranks", why).help("remove it"));
            } else if let Some(least) = directions.subspaces.iter().flatten().filter_map(|subspace| subspace.rank).min()
            {
                for (i, rank) in ranks.iter().enumerate().filter(|(_, rank)| **rank > least) {
                    let why = format!("a site has {least} of these vectors, and so no subspace of rank {rank}");
                    problems.push(Problems::config(format!("ranks[{i}]"), why));
                }
            }
        }
        let mut facts = vec![("metrics".to_owned(), Facts::Metrics)];
        facts.extend(measuring::facts(problems)?);
        let found_by = match inputs.one("mask") {
            Some(mask) => mask.scores(),
            None => inputs.directions("directions").and_then(|directions| directions.search.as_ref()),
        };
        let answers = MeasuredFacts { search: found_by.cloned(), metric: IIA.to_owned(), outside: None, random: true };
        facts.push(("answers".to_owned(), Facts::Effects(Some(answers))));
        Ok(facts)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let searched = Searched::new(cx, &run)?;
        note_same_prompts(cx, searched.searched_on.as_deref())?;
        let choices = &searched.choices;
        let exchanges: Vec<Exchange<'_>> = choices.iter().map(Choice::exchange).collect();
        let mediators: Vec<Mediator> = choices.iter().map(Choice::mediator).collect();
        let settings = [("search", searched.method.clone()), ("patched", searched.patched.to_owned())];
        let mut recorder = run.recorder_of_found(Contrast::Lost, settings, mediators)?;
        let mut answers = Answers::new(cx, &run, &searched)?;
        let mut tallies = vec![Tally::new(&run.pairs); choices.len()];
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            interchange(
                &model,
                &run.pairs,
                &exchanges,
                config.metric,
                |outcome| {
                    let Outcome { exchange, first, prompts, passes, .. } = *outcome;
                    tallies[exchange].add(first, prompts);
                    answers.add(outcome)?;
                    let column = |of: fn(&Exchanged) -> f64| -> Vec<f64> { prompts.iter().map(of).collect() };
                    let clean = column(|prompt| prompt.clean);
                    let counterfactual = column(|prompt| prompt.counterfactual);
                    let patched = column(|prompt| prompt.patched);
                    let reached = |example: usize| prompts[example - first as usize].reached;
                    recorder.record_where(exchange, first, &clean, Some(&counterfactual), &patched, reached)?;
                    recorder.count(prompts.len(), passes);
                    Ok::<_, StageError>(())
                },
                run.progress(),
            )
        })?;
        recorder.count(run.pairs.prompts().len(), 2.0);
        let mut metrics: Vec<MetricRow> = Vec::new();
        for (choice, tally) in choices.iter().zip(&tallies) {
            metrics.extend(tally.accuracies(config.seed).into_iter().map(|accuracy| MetricRow {
                split: None,
                low: accuracy.estimate.interval.map(|(low, _)| low),
                high: accuracy.estimate.interval.map(|(_, high)| high),
                ..metric(accuracy.name, accuracy.estimate.value, "1", accuracy.n, config.seed, &choice.tags())
            }));
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        answers.finish()?;
        run.finish(recorder)
    }
}

/// Whether one thing is connected that says what is exchanged, and options are of that.
fn check_ports(config: &Config, inputs: &InputFacts) -> Result<(), Problems> {
    let mut problems = Problems::none();
    let has = |port| inputs.one(port).is_some();
    if !has("directions") && !has("mask") && !has("sae") {
        let why = "nothing says what is exchanged";
        problems.push(Problems::input("directions", why).help("connect `directions`, or a `mask` of `train_mask`"));
    }
    if has("sae") && !has("mask") {
        let why = "its latents are exchanged by a mask of `train_mask`, and none is connected";
        problems.push(Problems::input("sae", why).help("connect one at `mask`, or remove it"));
    }
    if let Some(scores) = inputs.one("mask") {
        problems.check(check_mask(scores.scores(), has("directions"), has("sae")));
    }
    if config.ranks.is_some() && has("mask") {
        problems.push(Problems::config("ranks", "the mask says which directions are exchanged").help("remove it"));
    }
    if let (Some(sae), Some(model)) = (inputs.dictionary("sae"), inputs.model("model")) {
        problems.check(check_dictionary("sae", sae, model));
    }
    problems.finish()
}

/// Whether scores are a mask, and what it is over is connected.
fn check_mask(search: Option<&SearchFacts>, directions: bool, sae: bool) -> Result<(), Problems> {
    let Some(SearchFacts { mediator, .. }) = search.filter(|search| search.method == DBM) else {
        return Err(Problems::input("mask", "these scores are no mask").help("`train_mask` trains masks"));
    };
    let needs = |port: &str, what: &str| {
        let why = format!("the mask is over {mediator}: {what} that it was trained over must be connected, too");
        Err(Problems::input("mask", why).help(format!("connect `{port}`")))
    };
    let without = |port: &str, what: &str| {
        let why = format!("the mask is over {mediator}, and has no use for {what}");
        Err(Problems::input(port, why).help("remove it"))
    };
    match (mediator.as_str(), directions, sae) {
        (DIRECTIONS, false, _) => needs("directions", "those"),
        (LATENTS, _, false) => needs("sae", "the autoencoder"),
        (DIMENSIONS | LATENTS, true, _) => without("directions", "directions"),
        (DIMENSIONS | DIRECTIONS, _, true) => without("sae", "an autoencoder"),
        _ => Ok(()),
    }
}

/// What is measured, and how it was found.
struct Searched {
    /// `directions`, `dimensions` or `latents`.
    mediator: &'static str,
    /// `das`, `pca`, `dbm`, ...
    method: String,
    /// Forward-pass equivalents over the prompts of the search.
    passes: f64,
    /// Whether its labels were shuffled; none where it has no labels.
    shuffled: Option<String>,
    /// Digest of the model that was searched in, where it is known.
    searched_in: Option<String>,
    /// That of its prompts.
    searched_on: Option<String>,
    /// What stands in place of the base's activation.
    patched: &'static str,
    choices: Vec<Choice>,
}

impl Searched {
    fn new(cx: &RunContext<'_, Config>, run: &Measuring<'_, Config>) -> Result<Self, StageError> {
        if cx.optional("mask")?.is_some() { Self::of_mask(cx, run) } else { Self::of_directions(cx, run) }
    }

    fn of_mask(cx: &RunContext<'_, Config>, run: &Measuring<'_, Config>) -> Result<Self, StageError> {
        let (meta, masks) = mask::chosen(cx, run)?;
        let (mediator, patched) = match masks.first().map(|mask| mask.features.kinds()) {
            Some(LATENTS) => (LATENTS, "h_b + x̂(codes of h_b, chosen ones of h_s) − x̂(codes of h_b)"),
            Some(DIMENSIONS) => (DIMENSIONS, "h_b, chosen dimensions of h_s"),
            _ => (DIRECTIONS, "h_b + (h_s − h_b) RᵀR"),
        };
        let of_mask = |mask: Masked| Choice::of_mask(mask.features, mask.chosen, mask.of, mask.width, cx.config().seed);
        Ok(Self {
            mediator,
            patched,
            shuffled: meta.settings.get("shuffle_labels").cloned(),
            searched_in: meta.settings.get(SEARCHED_IN).cloned(),
            searched_on: meta.settings.get(SEARCHED_ON).cloned(),
            method: meta.method,
            passes: meta.passes,
            choices: once(masks.into_iter().flat_map(of_mask)),
        })
    }

    fn of_directions(cx: &RunContext<'_, Config>, run: &Measuring<'_, Config>) -> Result<Self, StageError> {
        let config = cx.config();
        let (meta, found) = read_subspaces(&cx.input("directions")?, &run.facts)?;
        let mut choices = Vec::new();
        for subspace in &found {
            let (site, known) = (&subspace.site, subspace.basis.rank());
            let ranks = match &config.ranks {
                Some(ranks) if subspace.nested => ranks.clone(),
                _ => vec![known],
            };
            if let Some(rank) = ranks.iter().find(|rank| **rank > known) {
                return Err(StageError::new(format!("the subspace at {site} has rank {known}, and no {rank} vectors")));
            }
            choices.extend(Choice::of_subspace(subspace, &ranks, config.seed));
        }
        Ok(Self {
            mediator: DIRECTIONS,
            patched: "h_b + (h_s − h_b) RᵀR",
            shuffled: meta.settings.get("shuffle_labels").cloned(),
            searched_in: meta.model.map(|model| model.to_string()),
            searched_on: meta.prompts.map(|prompts| prompts.to_string()),
            method: meta.method,
            passes: meta.passes,
            choices: once(choices.into_iter()),
        })
    }
}

/// The full vector of a site only once.
fn once(choices: impl Iterator<Item = Choice>) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in choices {
        if !kept.iter().any(|other| other.same_whole(&choice)) {
            kept.push(choice);
        }
    }
    kept
}

const DETAILS: &str = "\
What `evaluate_mediator` is to sets of parts, this stage is to features of an activation: it measures what a search found on other prompts, with its controls beside it. Every prompt (the base) runs with h_b + (h_s − h_b) RᵀR in place of \
its activation h_b, where h_s is that of its counterfactual (the source) at the same positions, and R one of the subspaces of `directions`. With a `mask` of `train_mask` in their place, the features that it chooses (above 0.5) are \
those of the source: dimensions of the activation; vectors of the `directions` that it was trained over; latents of its `sae`, so that what the autoencoder does not reconstruct of the base stays. Beside them, at every site, `full_vector` \
(h_s in place of h_b: everything that is there), and `random`: for every rank a random subspace, for every mask as many features, drawn.

`metrics` (tags `hook`, `span`, `features`, and `rank` or, of masks, `chosen`): `iia`, interchange-intervention accuracy: the share of prompts whose mean logit of expected tokens exceeds that of the others. Where prompt and counterfactual have different right \
answers, those of the counterfactual are expected, against the prompt's own; where they have the same, the right answers against the prompt's wrong ones (without any: the largest logit of all must be \
that of a right one). `iia_exact`: the largest logit is that of an expected token. Where prompts of both kinds exist, `cause` (different answers), `isolate` (the same) and `disentangle`, the mean of the two, as in RAVEL. \
Intervals hold 95 percent of 1,000 draws of groups of prompts. Prompts that have no position of a site do not count there.

`answers` says prompt by prompt what `iia` counts, `patched` after the interchange and `clean` before it: `compare_mediators` takes it. `scores` and `effects`: the metric of the prompt, the counterfactual and the patched prompt, by the prompt's own answers; score = (clean − patched) / (clean − counterfactual). \
Of each batch both versions run once for everything that is exchanged; `passes` counts the rest by its share of the blocks. Train on other prompts than these, for a subspace can learn prompts by heart.

Sources: Geiger et al. 2021 (arXiv:2106.02997); Geiger et al. 2023 (arXiv:2303.02536); Huang et al. 2024, RAVEL (arXiv:2402.17700); Mueller et al. 2025, MIB (arXiv:2504.13151).";
