//! `evaluate_mediator`: how faithful the sets are that a search chooses, on prompts that it need not have seen.

use mediant_artifact::{
    Contrast, Facts, Kind, MeasuredFacts, MetricRow, ScoreRow, ScoresMeta, SearchFacts, TokenSpans, Tokens,
    read_scores, write_metrics,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Model;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::corpus_loss::{CorpusLoss, Parts};
use mediant_methods::mediators::{
    Asked as AskedSet, Controls, Counted, Family, ItemSet, MediatorKind, OffTarget, Outside, Sizes, Spliced,
    chosen_set, evaluate_sets, off_target, plan,
};
use mediant_methods::{Metric, Recorder, SEARCHED_IN, SEARCHED_ON};
use mediant_tensor::{Compute, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::masked::{DIMENSIONS, DIRECTIONS};
use crate::measuring::{self, Asked, Counterfactual, MODEL, Measuring, PROMPTS};
use crate::model_input::check_tokens;
use crate::named::{metric, tags};
use crate::sae_input::{check_dictionary, read_dictionary};
use crate::searched::{check_same_dictionary, note_same_prompts};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateMediator;

/// Options of `evaluate_mediator`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What becomes of heads and MLPs that are no items.
    #[serde(default)]
    outside: Outside,
    /// Which sizes of sets the scores choose.
    #[serde(default, skip_serializing_if = "Sizes::is_default")]
    sizes: Sizes,
    /// How many times items are drawn at random, for the control. `compare_mediators` needs them of one search of each family; 0 leaves
    /// them out.
    #[serde(default = "draws")]
    random_draws: u32,
    /// The share of all items from whose set items are taken out one by one, and whose set is replaced on neutral text.
    #[serde(default = "tenth")]
    minimality_at: f64,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the random items and of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn draws() -> u32 {
    200
}

fn tenth() -> f64 {
    0.1
}

/// Above this the table of effects becomes large for nothing: the interval no longer changes.
const MOST_DRAWS: u32 = 10_000;

const PORTS: &[Port] = &[
    MODEL,
    PROMPTS,
    Port::one(
        "mediators",
        &[Kind::Scores],
        "The scores by which sets are chosen, of `search_mediator` or any stage that scores parts of a model.",
    ),
    Port::optional("sae", &[Kind::Dictionary], "The autoencoder or transcoder, where the scores are of its latents."),
    Port::optional("neutral", &[Kind::Tokens], "Text that has nothing to do with the behaviour, of `tokenize`."),
];

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }
}

impl Stage for EvaluateMediator {
    type Config = Config;
    const NAME: &'static str = "evaluate_mediator";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How faithful sets of items are that scores choose, with random sets, everything and nothing beside them",
            details: DETAILS,
            example: "faithfulness:\n  uses: evaluate_mediator\n  inputs: { model: model, prompts: held_out, mediators: search }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("effects", Kind::Effects, "A row an example and set: clean, counterfactual and patched value."),
            Output::new("scores", Kind::Scores, "The faithfulness of every set, with its interval."),
            Output::new(
                "metrics",
                Kind::Metrics,
                "`sets_asked`, `sets_measured`, `passes`; with neutral text `ce_loss` and `off_target_loss`.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.random_draws > MOST_DRAWS {
            problems.push(Problems::config("random_draws", format!("must be at most {MOST_DRAWS}")));
        }
        if !(config.minimality_at > 0.0 && config.minimality_at <= 1.0) {
            problems.push(Problems::config("minimality_at", "must be above 0 and at most 1: a share of all items"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        if let (Some(sae), Some(model)) = (inputs.dictionary("sae"), inputs.model("model")) {
            problems.check(check_dictionary("sae", sae, model));
        }
        problems.check(check_tokens(inputs, "model", "neutral"));
        problems.check(check_family(inputs));
        problems.finish()?;
        let measured = MeasuredFacts {
            search: inputs.scores("mediators").cloned(),
            metric: config.metric.name().to_owned(),
            outside: Some(config.outside.name().to_owned()),
            random: config.random_draws > 0,
        };
        let facts =
            [("effects", Facts::Effects(Some(measured))), ("scores", Facts::Scores(None)), ("metrics", Facts::Metrics)];
        Ok(facts.map(|(name, facts)| (name.to_owned(), facts)).into())
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let run = cx.config().asked().open(cx, Self::NAME)?;
        let (meta, rows) = read_scores(&cx.input("mediators")?)?;
        if meta.metric != run.metric.name() {
            let (searched, own) = (&meta.metric, run.metric.name());
            cx.note(format!("the search scored by `{searched}`, this evaluation measures `{own}`"));
        }
        note_same_prompts(cx, meta.settings.get(SEARCHED_ON).map(String::as_str))?;
        let dictionary = match cx.optional("sae")? {
            Some(artifact) => {
                check_same_dictionary(cx, &meta.settings)?;
                let found = read_dictionary(&artifact)?;
                Some(Spliced { sae: found.sae, reads: found.hook, writes: found.out })
            }
            None => None,
        };
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            evaluate(&model, &run, cx, (&meta, &rows), dictionary)
        })
    }
}

/// Whether sets of what was searched for can be measured, with what is connected.
fn check_family(inputs: &InputFacts) -> Result<(), Problems> {
    let Some(SearchFacts { mediator, .. }) = inputs.scores("mediators") else { return Ok(()) };
    let is = |kind: MediatorKind| mediator == kind.name();
    let latents = is(MediatorKind::Latents);
    match (mediator.as_str(), inputs.one("sae")) {
        (DIMENSIONS | DIRECTIONS, _) => {
            let why = format!("{mediator} are no parts of the model, of which sets could be kept");
            Err(Problems::input("mediators", why).help("`interchange` measures them"))
        }
        _ if is(MediatorKind::Residual) => {
            let why = "sets of residual sites are not measured: what is cut there cuts everything above it";
            Err(Problems::input("mediators", why).help("measure the subspaces there, with `interchange`"))
        }
        (_, None) if latents => {
            let why = "the scores are of latents of an autoencoder";
            Err(Problems::input("mediators", why).help("connect it at `sae`"))
        }
        (_, Some(_)) if !latents => {
            let why = format!("the scores are of {mediator}, and have no use for an autoencoder");
            Err(Problems::input("sae", why).help("remove it"))
        }
        _ => Ok(()),
    }
}

fn evaluate<C: Compute>(
    model: &Model<C>,
    run: &Measuring<'_, Config>,
    cx: &RunContext<'_, Config>,
    (meta, rows): (&ScoresMeta, &[ScoreRow]),
    dictionary: Option<Spliced>,
) -> Result<(), StageError> {
    let config = cx.config();
    let mediators: Vec<_> = rows.iter().map(|row| &row.mediator).collect();
    let family = Family::new(&mediators, model.config(), config.outside, dictionary)?;
    let scores: Vec<f64> = rows.iter().map(|row| row.value).collect();
    let names: Vec<&str> = mediators.iter().map(|mediator| mediator.name.as_str()).collect();
    let Config { sizes, random_draws: draws, minimality_at, seed, .. } = *config;
    let controls = Controls { sizes, draws, minimality_at, seed };
    let on_neutral = neutral(model, cx, &family, &chosen_set(&scores, config.minimality_at))?;
    let asked = plan(&family, &scores, &names, controls);
    let mut recorder = recorder(run, config, meta, rows, &asked, &on_neutral)?;
    let sets: Vec<_> = asked.iter().map(|asked| &asked.set).collect();
    let counted = evaluate_sets(model, &run.pairs, &family, &sets, run.metric, &mut recorder, |done, total| {
        cx.progress(done as u64, total as u64, "sets");
        cx.check_cancelled()
    })?;
    cx.note(format!("{} sets, {} different ones, each measured once", counted.asked, counted.distinct));
    run.finish(recorder)?;
    let mut metrics = costs(counted, run.pairs.prompts().len() as u64);
    metrics.extend(on_neutral);
    write_metrics(cx.output("metrics")?, &metrics)?;
    Ok(())
}

/// What replacing a set does to neutral text; nothing if there is none.
fn neutral<C: Compute>(
    model: &Model<C>,
    cx: &RunContext<'_, Config>,
    family: &Family,
    set: &ItemSet,
) -> Result<Vec<MetricRow>, StageError> {
    let Some(artifact) = cx.optional("neutral")? else { return Ok(Vec::new()) };
    let (tokens, documents) = (Tokens::read(&artifact)?, TokenSpans::documents(&artifact)?);
    let OffTarget { clean, ablated } = off_target(model, &tokens, family, set, |done, total| {
        cx.progress(done, total, "tokens");
        cx.check_cancelled()
    })?;
    let parts = Parts::new(&tokens, &documents);
    let (clean, ablated) = (CorpusLoss::new(&parts, clean), CorpusLoss::new(&parts, ablated));
    let seed = cx.config().seed;
    // The whole is the first part.
    let row = |name, (_, n, loss)| MetricRow {
        split: Some(tokens.meta.split.clone()),
        ..metric(name, "nats", n, loss, seed)
    };
    let mut risen = row("off_target_loss", ablated.deltas(&clean, seed)[0]);
    risen.tags = tags([("size", set.len().to_string().as_str())]);
    Ok(vec![row("ce_loss", clean.means(seed)[0]), risen])
}

/// What was measured, and what it took.
fn costs(counted: Counted, prompts: u64) -> Vec<MetricRow> {
    let count = |name, unit, value| metric(name, unit, prompts, Estimate { value, interval: None }, 0);
    vec![
        count("sets_asked", "sets", counted.asked as f64),
        count("sets_measured", "sets", counted.distinct as f64),
        count("passes", "passes", counted.passes),
    ]
}

/// Effects that say what was searched, how and at what cost, for `compare_mediators`.
fn recorder(
    run: &Measuring<'_, Config>,
    config: &Config,
    meta: &ScoresMeta,
    rows: &[ScoreRow],
    asked: &[AskedSet],
    on_neutral: &[MetricRow],
) -> Result<Recorder, StageError> {
    let setting = |name: &str| meta.settings.get(name).cloned();
    // `train_mask` has the option's name.
    let shuffled = setting("shuffled_labels").or_else(|| setting("shuffle_labels"));
    let of_address = rows.first().and_then(|row| MediatorKind::of_address(&row.mediator.kind));
    let mediator = setting("mediator").or_else(|| Some(of_address?.name().to_owned()));
    let mut settings = vec![
        ("mediator", mediator.unwrap_or_else(|| "items".to_owned())),
        ("search", setting("method").unwrap_or_else(|| meta.method.clone())),
        ("search_passes", meta.passes.to_string()),
        ("shuffled_labels", shuffled.unwrap_or_else(|| false.to_string())),
        ("outside", config.outside.name().to_owned()),
        ("items", rows.len().to_string()),
        ("random_draws", config.random_draws.to_string()),
    ];
    for name in [SEARCHED_IN, SEARCHED_ON] {
        settings.extend(setting(name).map(|digest| (name, digest)));
    }
    if let Some(risen) = on_neutral.iter().find(|row| row.name == "off_target_loss") {
        let number = |value: f64| value.to_string();
        settings.push(("off_target_loss", number(risen.value)));
        settings.push(("off_target_items", risen.tags.get("size").cloned().unwrap_or_default()));
        settings.push(("off_target_tokens", risen.n.to_string()));
        settings.extend(risen.low.map(|low| ("off_target_low", number(low))));
        settings.extend(risen.high.map(|high| ("off_target_high", number(high))));
    }
    run.recorder_of_found(Contrast::Restored, settings, asked.iter().map(|asked| asked.mediator.clone()).collect())
}

const DETAILS: &str = "\
A set of items is kept, everything outside it is patched with its counterfactual, in the clean prompt at all positions. Faithfulness (MIB)

F = (m(kept) − m(all counterfactual)) / (m(clean) − m(all counterfactual)),

with the metric's mean over the prompts and the same denominator for every kind of mediator: the clean and the counterfactual run. It is the \
value of `scores`; its interval holds 95 percent of 1,000 draws of groups of prompts. Token embeddings are always those of the clean prompt.

What is outside a family: of heads, the MLPs; of neurons, attention; both are patched too (`outside: counterfactual`), so that F says what the kept set carries \
by itself, and F of everything is the family's coverage. With `outside: live` they go on computing, so that F of everything is 1, and F of nothing is \
what goes past the family. Edges: every receiver reads, from each node, what the node computes if the edge is kept, else the node's counterfactual output. \
Latents: where the dictionary writes, kept latents are those of the clean run, all others those of the counterfactual run; the dictionary's error is an item too. \
The residual stream is a cut, above which everything computes, so there `outside` has no meaning for latents. Residual sites and directions are measured by \
interchange instead, for cutting one cuts everything above it.

The sets, told apart by the kind of the mediators of `effects`, with `kept` and `of` their size, `weighted_edges` (edges of the graph of EAP, each counted by the \
share of its source that is kept) and `draw`:

- `kept_signed`, `kept_absolute`: the items of largest score, and of largest magnitude of score; of every size below 1,000 items, else (and with `sizes: benchmark` always) of MIB's ten \
  (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50 and 100 percent, rounded down); nothing and everything are among them.
- `complement_signed`, `complement_absolute`: all but the first `kept` items, at MIB's sizes: completeness.
- `removed`: the set of `minimality_at` of all items by signed scores, without one of them each (100 of them, drawn, where there are more): minimality.
- `without_error`, of latents with the error among the items: all latents kept, the error patched, which is all that no latent writes (of a transcoder with a \
  skip connection, what that writes, too). F says what the latents alone carry; F of everything has the error, and is 1 however badly the dictionary reconstructs. On \
  text, `ce_score` of `evaluate_sae` says the same (SAELens' `ce_loss_score`).
- `random`: `random_draws` random orders of the items, at MIB's sizes.

Every different set is measured once, however often it is asked for: of `metrics`, `sets_asked` and `sets_measured` say how many there were, `passes` how many forward \
passes over each prompt it took, the clean and the counterfactual one among them. Latents cost what lies above them, all else a whole pass a set.

**Neutral text.** A set that explains a behaviour should do little elsewhere. With text connected at `neutral`, `metrics` has

- `ce_loss`: L, the cross-entropy in nats a token of the model as it is, as `evaluate_lm` takes it;
- `off_target_loss`: L(set replaced) − L, where the items of the set of `minimality_at` of all items by signed scores (tag `size`: so many) are replaced by their means at every \
  position, and all else computes as usual, in the family or not, whatever `outside` says.

Means are over the positions of the same text from which a token is predicted that counts. Heads: the mean of `attn.hook_z`; neurons: of `mlp.hook_post`; sublayers: of what they write. Edges: \
the receiver reads the mean of what the sender writes; position embeddings stay. Latents: x − Σ f_k d_k + mean(Σ f_k d_k) where the dictionary writes, sums over the set, and the error among them if \
it is in it. Intervals hold 95 percent of 1,000 draws of documents, each draw the same for both losses; a text of one document has none. The text takes two passes, of which the first gives \
L and the means; `limit` of `tokenize` keeps it short. The same share of all items is another part of the model in every \
kind of mediator, so a rise is to be read beside the F of its set.

Sources: MIB, Mueller et al. 2025 (arXiv:2504.13151); Hanna et al. 2024 (arXiv:2403.17806); Wang et al. 2022 (arXiv:2211.00593) for completeness, minimality \
and mean ablation; Marks et al. 2024 (arXiv:2403.19647) for latents with their error.";
