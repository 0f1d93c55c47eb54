//! `sparse_probing`: can a few latents tell what a text is about?

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use mediant_artifact::{
    Facts, Kind, Labels, ModelFacts, TableFacts, TableMeta, TokenSpans, Tokens, write_metrics, write_table,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{HookPoint, Site};
use mediant_methods::probing::{Options, Pool, Probe, sparse_probing};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::model_input::{check_tokens, hooks_like};
use crate::sae_input::{Dictionary, check_dictionary, foreign, read_dictionary};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct SparseProbing;

/// Options of `sparse_probing`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// How many features a probe has; a probe for each.
    #[serde(default = "one_two_five")]
    k: Vec<usize>,
    /// The variables of the labels that are asked for; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variables: Option<Vec<String>>,
    /// Values of a variable that are asked for, the most frequent.
    #[serde(default = "ten")]
    values: usize,
    /// How the tokens of a labelled span make one vector.
    #[serde(default)]
    pool: Pool,
    /// The hook point of the neurons to compare with; by default the `mlp.hook_post` of the autoencoder's layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    neurons: Option<String>,
    /// Examples of a question at most, half of them positive, training and test together.
    #[serde(default = "two_thousand")]
    examples: usize,
    /// Positive and negative examples that a question needs in training and test each.
    #[serde(default = "twenty")]
    least: usize,
    /// Share of the documents whose spans are test examples.
    #[serde(default = "fifth")]
    test_fraction: f64,
    /// Of the split, the choice of examples, and the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn one_two_five() -> Vec<usize> {
    vec![1, 2, 5]
}

fn ten() -> usize {
    10
}

fn two_thousand() -> usize {
    2000
}

fn twenty() -> usize {
    20
}

fn fifth() -> f64 {
    0.2
}

/// The most features of a probe: fitting takes the third power of it.
const MOST: usize = 256;

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model."),
    Port::one("sae", &[Kind::Dictionary], "The autoencoder or transcoder whose latents are probed."),
    Port::one("tokens", &[Kind::Tokens], "Tokens of the labelled documents, or of some of them."),
    Port::one(
        "labels",
        &[Kind::Labels],
        "What is known of spans of the documents, such as `corpus.labels` of `generate_corpus`.",
    ),
];

const PROBES: [&str; 9] =
    ["variable", "value", "features", "k", "place", "feature", "mean_difference", "weight", "bias"];

impl Stage for SparseProbing {
    type Config = Config;
    const NAME: &'static str = "sparse_probing";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Whether a few latents, activations or neurons tell labelled properties of text",
            details: DETAILS,
            example: "probing:\n  uses: sparse_probing\n  inputs: { model: model, sae: sae, tokens: tokens.test, labels: corpus.labels }\n  with: { variables: [number, gender], k: [1, 2, 5] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("metrics", Kind::Metrics, "`accuracy`, `f1` and `auc` of every probe, and their means."),
            Output::new("probes", Kind::Table, "Which features each probe has, with their weights."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.k.is_empty() {
            problems.push(Problems::config("k", "no number of features is listed"));
        }
        if config.variables.as_ref().is_some_and(Vec::is_empty) {
            let problem = Problems::config("variables", "no variable is listed");
            problems.push(problem.help("leave `variables` out to probe for all"));
        }
        for (i, k) in config.k.iter().enumerate() {
            let mut problem = |why: String| problems.push(Problems::config(format!("k[{i}]"), why));
            if !(1..=MOST).contains(k) {
                problem(format!("a number of features must be between 1 and {MOST}"));
            }
            if config.k[..i].contains(k) {
                problem(format!("{k} is listed twice"));
            }
        }
        for (field, count) in [("values", config.values), ("least", config.least)] {
            if count == 0 {
                problems.push(Problems::config(field, format!("`{field}` must be at least 1")));
            }
        }
        if !(config.test_fraction > 0.0 && config.test_fraction < 1.0) {
            problems.push(Problems::config("test_fraction", "`test_fraction` must be above 0 and below 1"));
        }
        let rarer = config.test_fraction.min(1.0 - config.test_fraction);
        if problems.iter().next().is_none() && ((config.examples as f64 * rarer / 2.0) as usize) < config.least {
            let message = format!(
                "{} are too few for {} positive and negative ones each in training and test",
                config.examples, config.least
            );
            problems.push(Problems::config("examples", message).help("raise `examples`, or lower `least`"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        if let (Some(model), Some(sae)) = (inputs.model("model"), inputs.dictionary("sae")) {
            problems.check(check_dictionary("sae", sae, model));
            let neurons = config.neurons(&sae.hook, model);
            let width = match &neurons {
                Ok(Some(hook)) => model.hook(hook).map(|hook| hook.width()),
                _ => None,
            };
            problems.check(neurons);
            let fewest = width.unwrap_or(sae.d_in).min(sae.d_in).min(sae.d_sae);
            if let Some(i) = config.k.iter().position(|k| *k > fewest) {
                let message = format!("there are only {fewest} features of some kind to choose from");
                problems.push(Problems::config(format!("k[{i}]"), message));
            }
        }
        problems.finish()?;
        let columns = PROBES.map(str::to_owned).to_vec();
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("probes".to_owned(), Facts::Table(TableFacts { columns: Some(columns) })),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let Dictionary { sae, meta, hook, .. } = read_dictionary(&cx.input("sae")?)?;
        if let Some(note) = foreign(&meta, cx.input_digest("model")?) {
            cx.note(note);
        }
        let artifact = cx.input("tokens")?;
        let (tokens, spans) = (Tokens::read(&artifact)?, TokenSpans::read(&artifact)?);
        let labels = Labels::read(&cx.input("labels")?)?;
        let mut k = config.k.clone();
        k.sort_unstable();
        let options = Options {
            variables: config.variables.clone().unwrap_or_default(),
            values: config.values,
            examples: config.examples,
            least: config.least,
            test_fraction: config.test_fraction,
            pool: config.pool,
            k,
            seed: config.seed,
        };
        let model = cx.input("model")?;
        let facts = crate::model_input::loaded_facts(&model)?;
        let neurons = config.neurons(&meta.hook, &facts);
        let neurons = neurons.map_err(|_| StageError::new("the model has no such neurons"))?;
        let mut hooks = vec![hook];
        hooks.extend(neurons.map(|name| name.parse::<HookPoint>()).transpose()?);
        let found = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            sparse_probing(&model, &sae, &hooks, (&tokens, &spans), &labels, &options, |done, total| {
                cx.progress(done, total, "spans");
                cx.check_cancelled()
            })
        })?;
        if found.skipped > 0 {
            let (skipped, least) = (found.skipped, config.least);
            cx.note(format!(
                "{skipped} values are left out: fewer than {least} positive and negative examples in training or test"
            ));
        }
        write_metrics(cx.output("metrics")?, &found.metrics(config.seed))?;
        let rows = rows(&found.probes)?;
        let description = "The features of every probe, that of the largest difference of means first".to_owned();
        write_table(
            cx.output("probes")?,
            rows.schema(),
            [Ok(rows)],
            &TableMeta { title: "Sparse probes".to_owned(), description },
        )?;
        Ok(())
    }
}

impl Config {
    /// The hook point of the neurons, if there are any besides what the autoencoder reads.
    fn neurons(&self, sae: &str, model: &ModelFacts) -> Result<Option<String>, Problems> {
        let problem = |message: String| Problems::config("neurons", message);
        let Some(name) = &self.neurons else {
            let own = match sae.parse() {
                Ok(HookPoint::Block(layer, site)) if site != Site::MlpPost => {
                    Some(HookPoint::Block(layer, Site::MlpPost).to_string())
                }
                _ => None,
            };
            return Ok(own.filter(|own| model.hook(own).is_some()));
        };
        match &hooks_like("neurons", name, model)?[..] {
            [hook] if hook.name == sae => {
                Err(problem("is what the autoencoder reads, which is compared with anyway".to_owned()))
            }
            [hook] if hook.name.parse().is_ok_and(HookPoint::per_key) => {
                Err(problem("has a number a key, as many as a sequence is long".to_owned()))
            }
            [hook] => Ok(Some(hook.name.clone())),
            hooks => Err(problem(format!("stands for {} hook points; one is compared with", hooks.len()))),
        }
    }
}

fn rows(probes: &[Probe]) -> Result<RecordBatch, StageError> {
    let rows = probes.iter().flat_map(|probe| (0..probe.chosen.len()).map(move |place| (probe, place)));
    let rows: Vec<(&Probe, usize)> = rows.collect();
    let text = |of: fn(&Probe) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(probe, _)| of(probe))))
    };
    let count = |of: fn(&Probe, usize) -> usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(probe, place)| of(probe, *place) as u32)))
    };
    let number = |of: fn(&Probe, usize) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(probe, place)| of(probe, *place))))
    };
    let columns = vec![
        text(|probe| &probe.variable),
        text(|probe| &probe.value),
        text(|probe| probe.features),
        count(|probe, _| probe.chosen.len()),
        count(|_, place| place + 1),
        count(|probe, place| probe.chosen[place].0),
        number(|probe, place| probe.chosen[place].1),
        number(|probe, place| probe.classifier.weights[place]),
        number(|probe, _| probe.classifier.bias),
    ];
    let types = columns.iter().map(|column: &ArrayRef| column.data_type().clone());
    let fields = PROBES.into_iter().zip(types).map(|(name, of): (&str, DataType)| Field::new(name, of, false));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}

const DETAILS: &str = "\
A question is a value of a variable of the labels: does this span have it, or another value of the same variable? Examples are labelled \
spans whose tokens all lie in one sequence; their documents are divided into training and test by `seed`. Of each question as many positive as \
negative examples are drawn, at most `examples` in all; questions with fewer than `least` of either, in training or test, are left out. A variable \
of two values has one question.

The tokens of a span become one vector by `pool`: of latents (the code of the autoencoder), of the activations that the autoencoder reads, and of the \
neurons at `neurons` (tag `features`: `latents`, `activations`, `neurons`). From each the k features are chosen whose means over positive and negative \
training examples differ most (SAEBench), and a logistic regression is fitted to them: the minimum of ½‖w‖² + Σ log(1 + e^(−y (w·x + b))), as \
scikit-learn's with C = 1, by Newton's method in f64. On the test examples,

- `accuracy`: share on the right side of 0 (by chance 0.5);
- `f1` = 2 tp / (2 tp + fp + fn) for the value asked for;
- `auc`: how often a positive example has the larger logit of a positive and a negative one, equal ones counting half.

Tags say the question (`variable`, `value`), `features`, `k`, hook and pooling; `mean_accuracy`, `mean_f1` and `mean_auc` are means over all questions. If few \
latents do what more activations or neurons are needed for, the dictionary has found the property. `probes` names the chosen features \
with the difference of their means and their weights.

Intervals hold 95 percent of 1,000 draws of test documents (in at most 200 groups), probes fixed.

Sources: Gurnee et al. 2023, Finding neurons in a haystack (arXiv:2305.01610); SAEBench (arXiv:2503.09532), which pools whole texts by their mean.";
