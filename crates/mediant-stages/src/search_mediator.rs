//! `search_mediator`: scores every item of one kind of mediator by one method.

use mediant_artifact::{
    Contrast, Facts, Kind, Mediator, ModelFacts, ModelReader, ScoreRow, ScoresMeta, SearchFacts, write_scores,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{LmConfig, Model};
use mediant_methods::mediators::{
    Family, Greedy, MediatorKind, Outside, Spliced, attribute_latents, greedy, latent_mediators,
};
use mediant_methods::{
    Direction, EdgeMethod, Graph, Metric, Recorder, Reference, Rule, Slope, Target, attribute, edge_effects, patch,
};
use mediant_tensor::{Compute, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::integrated_gradients::MOST_STEPS;
use crate::measuring::{self, Asked, Counterfactual, MODEL, Measuring, PROMPTS};
use crate::sae_input::{check_dictionary, read_dictionary};
use crate::searched::searched;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct SearchMediator;

/// Options of `search_mediator`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What is scored.
    mediator: MediatorKind,
    /// How.
    method: Method,
    /// Of `integrated_gradients` and `eap_ig`: points on the way; 5 in MIB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    /// Of `greedy`: what becomes of heads and MLPs that are no items; `counterfactual` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outside: Option<Outside>,
    /// Whether every prompt has the answers of another, drawn by the seed: the control of shuffled labels.
    #[serde(default)]
    shuffle_labels: bool,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the bootstrap and of shuffled labels.
    #[serde(default)]
    seed: u64,
}

/// A method that scores items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// Every item is patched alone into the clean run: exact, a pass an item.
    ActivationPatching,
    /// To first order, at the clean run.
    AttributionPatching,
    /// The same with the mean gradient over points between the two runs' token embeddings.
    IntegratedGradients,
    /// Edge attribution patching: attribution patching of edges.
    Eap,
    /// The same with integrated gradients over the token embeddings.
    EapIg,
    /// Item after item, the one whose set is most faithful.
    Greedy,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::ActivationPatching => "activation_patching",
            Self::AttributionPatching => "attribution_patching",
            Self::IntegratedGradients => "integrated_gradients",
            Self::Eap => "eap",
            Self::EapIg => "eap_ig",
            Self::Greedy => "greedy",
        }
    }

    fn integrates(self) -> bool {
        matches!(self, Self::IntegratedGradients | Self::EapIg)
    }

    fn slope(self, steps: usize) -> Slope {
        if self.integrates() { Slope::OverEmbeddings(Rule::Left, steps) } else { Slope::At(Reference::Clean) }
    }
}

const STEPS: usize = 5;

const PORTS: &[Port] = &[
    MODEL,
    PROMPTS,
    Port::optional("sae", &[Kind::Dictionary], "The autoencoder or transcoder whose latents are scored."),
];

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }

    fn steps(&self) -> usize {
        self.steps.unwrap_or(STEPS)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("mediator", self.mediator.name().to_owned()),
            ("method", self.method.name().to_owned()),
            ("shuffled_labels", self.shuffle_labels.to_string()),
        ];
        if self.method.integrates() {
            settings.push(("steps", self.steps().to_string()));
        }
        settings.extend(self.outside.map(|outside| ("outside", outside.name().to_owned())));
        settings
    }

    fn search(&self) -> SearchFacts {
        SearchFacts {
            mediator: self.mediator.name().to_owned(),
            method: self.method.name().to_owned(),
            shuffled: Some(self.shuffle_labels),
        }
    }

    /// Whether the method is one of this kind of mediator.
    fn check_method(&self) -> Result<(), Problems> {
        use {MediatorKind as K, Method as M};
        let edges = self.mediator == K::Edges;
        let (message, help) = match self.method {
            M::Eap | M::EapIg if !edges => {
                let instead = if self.method == M::Eap { "attribution_patching" } else { "integrated_gradients" };
                (format!("`{}` is a method for edges", self.method.name()), format!("use `{instead}`"))
            }
            M::AttributionPatching | M::IntegratedGradients if edges => {
                let instead = if self.method == M::AttributionPatching { "eap" } else { "eap_ig" };
                (format!("`{}` of edges has a name of its own", self.method.name()), format!("use `{instead}`"))
            }
            M::Greedy if self.mediator == K::Residual => (
                "sets of residual sites are not measured: what is cut there cuts everything above it".to_owned(),
                "use `activation_patching`".to_owned(),
            ),
            M::ActivationPatching if self.mediator == K::Latents => (
                "latents are not patched one by one".to_owned(),
                "use `attribution_patching` or `integrated_gradients`".to_owned(),
            ),
            _ => return Ok(()),
        };
        Err(Problems::config("method", message).help(help))
    }
}

impl Stage for SearchMediator {
    type Config = Config;
    const NAME: &'static str = "search_mediator";
    const VERSION: u32 = 4;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Which items of one kind of mediator matter: scores by one method",
            details: DETAILS,
            example: "search:\n  uses: search_mediator\n  inputs: { model: model, prompts: prompts }\n  with: { mediator: edges, method: eap_ig }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, config: &Config) -> Vec<Output> {
        let mut outputs = measuring::outputs();
        if config.method == Method::Greedy {
            outputs.truncate(1);
        }
        outputs
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        problems.check(config.check_method());
        if config.outside.is_some() && config.method != Method::Greedy {
            let why = format!("`{}` patches one item at a time, and all else goes on computing", config.method.name());
            problems.push(Problems::config("outside", why).help("remove it, or use `greedy`"));
        }
        match config.steps {
            Some(_) if !config.method.integrates() => {
                problems.push(Problems::config("steps", format!("`{}` has no steps", config.method.name())));
            }
            Some(steps) if steps == 0 || steps > MOST_STEPS => {
                problems.push(Problems::config("steps", format!("must be from 1 to {MOST_STEPS}")));
            }
            _ => {}
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        let model = inputs.model("model");
        match (config.mediator, inputs.one("sae")) {
            (MediatorKind::Latents, None) => {
                problems
                    .push(Problems::config("mediator", "latents are those of an autoencoder: connect one at `sae`"));
            }
            (MediatorKind::Latents, Some(facts)) => {
                if let Some((sae, model)) = facts.dictionary().zip(model) {
                    problems.check(check_dictionary("sae", sae, model));
                }
            }
            (other, Some(_)) => {
                problems.push(Problems::input("sae", format!("`mediator: {}` has no use for it", other.name())));
            }
            (_, None) => {}
        }
        problems.check(check_graph(config.mediator, model));
        let no_spans = inputs.prompts("prompts").and_then(|prompts| prompts.spans.as_ref()).is_some_and(Vec::is_empty);
        if config.mediator == MediatorKind::Residual && no_spans {
            problems
                .push(Problems::input("prompts", "the prompts have no spans, by which the residual stream is divided"));
        }
        let mut facts = measuring::facts_of(problems, Some(config.search()))?;
        facts.truncate(self.outputs(config).len());
        Ok(facts)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let mut run = config.asked().open(cx, Self::NAME)?;
        if config.shuffle_labels {
            run.pairs = run.pairs.with_shuffled_answers(config.seed)?;
        }
        let family = Searched::new(cx, &run)?;
        if config.method == Method::Greedy {
            let found = on_device!(compute_device(cx.device()), C, device => {
                let model = mediant_lm::load::<C>(&run.model, &device)?;
                select(&model, &run, &family, cx)
            })?;
            return write_order(cx, &run, &family, &found);
        }
        let contrast = match config.method.integrates() && config.mediator != MediatorKind::Edges {
            true => Contrast::Restored,
            false => Contrast::Lost,
        };
        let mut recorder = run.recorder(contrast, config.settings(), family.mediators())?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            score(&model, &run, &family, config, &mut recorder)
        })?;
        run.finish(recorder)
    }
}

/// A model whose heads' outputs are not known alone has no graph.
pub(crate) fn check_graph(mediator: MediatorKind, model: Option<&ModelFacts>) -> Result<(), Problems> {
    let normalised = |model: &ModelFacts| model.hooks.iter().any(|hook| hook.name.ends_with("ln1_post.hook_scale"));
    if mediator == MediatorKind::Edges && model.is_some_and(normalised) {
        let message = "a norm follows attention in this model, so what one head writes is not known alone, and it has no graph of heads";
        return Err(Problems::input("model", message));
    }
    Ok(())
}

/// What another run needs to be comparable, and a reader to know what the scores are of.
fn settings(cx: &RunContext<'_, Config>) -> Result<Vec<(&'static str, String)>, StageError> {
    let mut settings = cx.config().settings();
    settings.extend(searched(cx)?);
    Ok(settings)
}

/// What is scored.
enum Searched {
    Places(Vec<Target>),
    Edges(Graph),
    Latents(Box<Spliced>),
}

impl Searched {
    fn new(cx: &RunContext<'_, Config>, run: &Measuring<'_, Config>) -> Result<Self, StageError> {
        let mediator = cx.config().mediator;
        Ok(match mediator {
            MediatorKind::Edges => Self::Edges(Graph::new(&lm_config(run)?)?),
            MediatorKind::Latents => {
                let found = read_dictionary(&cx.input("sae")?)?;
                Self::Latents(Box::new(Spliced { sae: found.sae, reads: found.hook, writes: found.out }))
            }
            _ => Self::Places(mediator.targets(&run.facts.hooks, &run.pairs)?),
        })
    }

    fn mediators(&self) -> Vec<Mediator> {
        match self {
            Self::Places(targets) => targets.iter().map(|target| target.mediator.clone()).collect(),
            Self::Edges(graph) => graph.mediators(),
            Self::Latents(spliced) => latent_mediators(spliced),
        }
    }
}

fn lm_config<C>(run: &Measuring<'_, C>) -> Result<LmConfig, StageError> {
    Ok(LmConfig::of_artifact(&ModelReader::open(&run.model)?.meta)?)
}

fn score<C: Compute>(
    model: &Model<C>,
    run: &Measuring<'_, Config>,
    searched: &Searched,
    config: &Config,
    recorder: &mut Recorder,
) -> Result<(), StageError> {
    let (pairs, metric, slope) = (&run.pairs, run.metric, config.method.slope(config.steps()));
    let exact = config.method == Method::ActivationPatching;
    match searched {
        Searched::Places(targets) if exact => {
            patch(model, pairs, targets, Direction::Noising, metric, recorder, run.progress())
        }
        Searched::Places(targets) => attribute(model, pairs, targets, slope, metric, recorder, run.progress()),
        Searched::Edges(graph) => {
            let method = if exact { EdgeMethod::Exact } else { EdgeMethod::Attribution(slope) };
            edge_effects(model, pairs, graph, method, metric, recorder, run.progress())
        }
        Searched::Latents(spliced) => attribute_latents(model, pairs, spliced, slope, metric, recorder, run.progress()),
    }
}

fn select<C: Compute>(
    model: &Model<C>,
    run: &Measuring<'_, Config>,
    searched: &Searched,
    cx: &RunContext<'_, Config>,
) -> Result<Greedy, StageError> {
    let mediators = searched.mediators();
    let spliced = match searched {
        Searched::Latents(spliced) => Some(Spliced::clone(spliced)),
        _ => None,
    };
    let outside = cx.config().outside.unwrap_or_default();
    let family = Family::new(&mediators.iter().collect::<Vec<_>>(), model.config(), outside, spliced)?;
    greedy(model, &run.pairs, &family, run.metric, |done, total| {
        cx.progress(done as u64, total as u64, "items");
        cx.check_cancelled()
    })
}

/// Scores that say in which order items were taken: 1 for the first, down to 1/N.
fn write_order(
    cx: &RunContext<'_, Config>,
    run: &Measuring<'_, Config>,
    searched: &Searched,
    found: &Greedy,
) -> Result<(), StageError> {
    let config = cx.config();
    let mediators = searched.mediators();
    let of = mediators.len() as f64;
    let mut rows: Vec<Option<ScoreRow>> = vec![None; mediators.len()];
    for (place, &(item, faithfulness)) in found.taken.iter().enumerate() {
        rows[item] = Some(ScoreRow {
            mediator: mediators[item].clone(),
            value: (of - place as f64) / of,
            numerator: faithfulness,
            denominator: 1.0,
            n: run.pairs.prompts().len() as u64,
            low: None,
            high: None,
        });
    }
    let settings = settings(cx)?.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let meta = ScoresMeta {
        method: SearchMediator::NAME.to_owned(),
        metric: config.metric.name().to_owned(),
        unit: config.metric.unit().to_owned(),
        contrast: Contrast::Restored,
        counterfactual: run.counterfactual.clone(),
        passes: found.passes,
        settings,
        seed: config.seed,
        scores: 0,
    };
    write_scores(cx.output("scores")?, meta, &rows.into_iter().flatten().collect::<Vec<_>>())?;
    Ok(())
}

const DETAILS: &str = "\
The first of three stages that compare mediators: `search_mediator` scores, `evaluate_mediator` measures sets chosen by the scores on other prompts, \
`compare_mediators` does the statistics. What `activation_patching`, `edge_attribution` and the other stages score can be evaluated as well, and so \
can masks (`train_mask`); directions come from `difference_of_means`, `pca`, `train_probe` and `train_das`.

A score is of one item, at all positions together (`residual`: at one named span), above 0 where the clean value is lost when the item is patched with its \
counterfactual:

- `activation_patching`: (clean − patched) / (clean − counterfactual), each item patched alone into the clean run; a pass an item.
- `attribution_patching`: Σ (a_clean − a_counterfactual) · ∂m/∂a at the clean run, over the same denominator; for edges this is `eap` (Syed et al. 2023, \
  arXiv:2310.10348).
- `integrated_gradients`: the same with the mean gradient over `steps` points between the two runs' token embeddings, the counterfactual's end \
  included (k/n from 0); for edges this is `eap_ig` (EAP-IG-inputs; Hanna et al. 2024, arXiv:2403.17806).
- `greedy`: item after item, the one that makes the kept set most faithful on these prompts, everything else patched with its counterfactual (as \
  `evaluate_mediator` measures it); N(N + 1)/2 passes for N items. Value 1 for the first item taken, (N − 1)/N for the second, and so on; the \
  numerator is the faithfulness of the set that the item completed.

Latents: of an autoencoder or transcoder at `sae`; `sae.error` is what it does not reconstruct (with what skips the latents), an item like the others.

`shuffle_labels` gives every prompt the answers of another before the search: what it then finds is the control that `compare_mediators` asks for. Where all \
prompts have one of two answers (agreement, pronouns) this changes the sign of effects and of what they are divided by, so that the scores of a patching method hardly change: it \
looks at labels that little. `passes` counts forward-pass equivalents over the prompts, a pass with gradients as three.

Sources: Mueller et al. 2024 (arXiv:2408.01416); MIB, Mueller et al. 2025 (arXiv:2504.13151); Marks et al. 2024 (arXiv:2403.19647).";
