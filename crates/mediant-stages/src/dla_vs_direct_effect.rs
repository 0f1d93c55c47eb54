//! `dla_vs_direct_effect`: how wrong is direct logit attribution, because it holds the last norm's scale?

use mediant_artifact::{Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::beginning;
use mediant_methods::direct_effect::{HeadEffects, direct_effects};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::model_input::check_tokens;
use crate::named::{MODELS, Passes, check_apart, check_no_norm_between, corpus, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct DlaVsDirectEffect;

/// Options of `dla_vs_direct_effect`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// How many rows of the corpus, from its first.
    #[serde(default = "thousand")]
    sequences: usize,
    /// How many tokens of a row, from its first.
    #[serde(default = "half_a_thousand")]
    length: usize,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn thousand() -> usize {
    1000
}

fn half_a_thousand() -> usize {
    512
}

const PORTS: &[Port] = &[MODELS, Port::one("tokens", &[Kind::Tokens], "The rows whose last tokens are looked at.")];

const HEADS: [&str; 11] = [
    "model",
    "layer",
    "head",
    "n",
    "nmae",
    "nmae_low",
    "nmae_high",
    "mean_error_size",
    "mean_direct_effect_size",
    "mean_attribution",
    "mean_direct_effect",
];

impl Stage for DlaVsDirectEffect {
    type Config = Config;
    const NAME: &'static str = "dla_vs_direct_effect";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Direct logit attribution of heads beside their direct effects, and how far the two are apart",
            details: DETAILS,
            example: "attribution:\n  uses: dla_vs_direct_effect\n  inputs: { models: { original: model, ln_free: ln_free }, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("metrics", Kind::Metrics, "`nmae` of every model, in percent."),
            Output::new("heads", Kind::Table, "The same of every head, with attribution and direct effect."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        for (field, value) in [("sequences", config.sequences), ("length", config.length)] {
            if value == 0 {
                problems.push(Problems::config(field, "must be at least 1"));
            }
        }
        problems.finish()
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_apart(inputs, "models"));
        problems.check(check_tokens(inputs, "models", "tokens"));
        problems.check(check_no_norm_between(inputs, "ln1_post", "a head"));
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("heads".to_owned(), table_facts(&HEADS))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { sequences, length, seed } = cx.config();
        let (models, corpora) = (named(cx, "models")?, named(cx, "tokens")?);
        let (tokens, documents) = corpus(&corpora[0])?;
        let (tokens, documents) = beginning(&tokens, &documents, sequences, length);
        let (mut metrics, mut rows) = (Vec::new(), Vec::new());
        on_device!(compute_device(cx.device()), C, device => {
            let mut passes = Passes::of(cx, models.len(), tokens.meta.tokens);
            for model in &models {
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                if let Some(cap) = loaded.config().logit_softcap {
                    cx.note(format!("logits are taken before their soft cap of {cap}: nothing linear goes through it"));
                }
                let found = direct_effects(&loaded, &tokens, &documents, passes.step())?;
                passes.passed(tokens.meta.tokens);
                let (nmae, error, size) = found.overall(seed);
                metrics.push(MetricRow {
                    numerator: Some(error),
                    denominator: Some(size),
                    split: Some(tokens.meta.split.clone()),
                    tags: tags([("model", model.label.as_str())]),
                    ..metric("nmae", "percent", found.sequences(), nmae, seed)
                });
                let heads = found.of_heads(seed).into_iter();
                rows.extend(heads.map(|head| (&model.label, found.sequences(), head)));
            }
            Ok::<_, StageError>(())
        })?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        let number = |of: fn(&HeadEffects) -> f64| rows.iter().map(move |(.., head)| of(head));
        Columns::default()
            .text("model", rows.iter().map(|(model, ..)| model))
            .count("layer", rows.iter().map(|(.., head)| head.layer as u64))
            .count("head", rows.iter().map(|(.., head)| head.head as u64))
            .count("n", rows.iter().map(|(_, n, _)| *n))
            .estimate("nmae", rows.iter().map(|(.., head)| Some(head.nmae)))
            .number("mean_error_size", number(|head| head.error))
            .number("mean_direct_effect_size", number(|head| head.size))
            .number("mean_attribution", number(|head| head.attributed))
            .number("mean_direct_effect", number(|head| head.direct))
            .write(
                cx.output("heads")?,
                "Attribution and direct effect",
                "Every head's error of direct logit attribution, in percent",
            )
    }
}

const DETAILS: &str = "\
At the last position of each row, with r the residual stream after the last block, a what a head adds to it (z W_O, without the bias), y the row's last token, u what the \
unembedding reads for y, γ and σ the last norm's gain and scale, and c taking the mean away (LayerNorm):

- direct logit attribution holds the scale of the run itself: DLA = c(a) · γu / σ(r);
- the direct effect takes the head's output away and computes the scale again: DE = logit_y(r) − logit_y(r − a);
- `nmae` of a head is 100 · mean |DLA − DE| / (mean |DE| + 1e-10) in percent, means over rows; of a model, both means are over rows and heads.

In a model whose last norm is frozen or removed the two are the same but for rounding. Where the norm is live, a head that changes the length of the residual stream changes every \
logit through σ, which attribution does not see.

y is the token that stands at the position itself, as in the source; any one token a row would do. Logits are relative to their mean over the vocabulary, so that it does not \
matter whether the unembedding was centred when the model was loaded; a value bias belongs to its head unless `fold_value_biases` moved it. Activations and σ are in single precision, all products \
after them in double.

Intervals hold 95 percent of 1,000 draws: of a head over documents, of a model over documents and heads, both drawn. A row belongs to the document of its last token.

Source: Baroni et al. 2025, Transformers Don't Need LayerNorm at Inference Time (arXiv:2507.02559), where GPT-2 small has 49 percent and its LayerNorm-free version 0.";
