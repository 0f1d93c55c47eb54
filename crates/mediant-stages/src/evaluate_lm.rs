//! `evaluate_lm`: how well does the model predict a corpus?

use std::collections::BTreeMap;

use mediant_artifact::{Facts, Kind, MetricRow, TokenSpans, Tokens, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Losses;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::model_input::check_tokens;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateLm;

/// Options of `evaluate_lm`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Changes of activations on the way: `[{ at: blocks.2.hook_resid_post, do: zero, positions: { exclude_first: 1 } }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interventions: Vec<Intervention>,
    /// Of the bootstrap, and of interventions.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model."),
    Port::one("tokens", &[Kind::Tokens], "What it predicts."),
    ACTIVATIONS,
    DICTIONARY,
];

/// The quantiles of the losses of single tokens that are reported, in percent.
const QUANTILES: [u32; 8] = [1, 5, 25, 50, 75, 90, 95, 99];

impl Stage for EvaluateLm {
    type Config = Config;
    const NAME: &'static str = "evaluate_lm";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Cross-entropy, its quantiles and perplexity of a language model on a corpus",
            details: DETAILS,
            example: "quality:\n  uses: evaluate_lm\n  inputs: { model: model, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new(
            "metrics",
            Kind::Metrics,
            "`ce_loss`, `perplexity`, and `ce_loss_p50` and other quantiles over tokens.",
        )]
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        let context = inputs.tokens("tokens").map(|tokens| tokens.context);
        let scene = Scene { context, ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let artifact = cx.input("tokens")?;
        let (tokens, spans) = (Tokens::read(&artifact)?, TokenSpans::read(&artifact)?);
        let losses = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&cx.input("model")?, &device)?;
            let edits = resolve(cx, &cx.config().interventions, &model, cx.config().seed, None)?;
            mediant_lm::losses(&model, &tokens, &spans, || edits.hooks(), |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })
        })?;
        if losses.loss.is_empty() {
            return Err(StageError::new("the corpus has no token that is predicted and counts"));
        }
        write_metrics(cx.output("metrics")?, &metrics(&losses, cx.config().seed, &tokens.meta.split))?;
        Ok(())
    }
}

fn metrics(losses: &Losses, seed: u64, split: &str) -> Vec<MetricRow> {
    let row = |name: String, value: f64, unit: &str| MetricRow {
        name,
        value,
        unit: unit.to_owned(),
        n: losses.loss.len() as u64,
        split: Some(split.to_owned()),
        ..MetricRow::default()
    };
    let mean = losses.mean(seed);
    let interval =
        |row: MetricRow, low: f64, high: f64| MetricRow { low: Some(low), high: Some(high), seed: Some(seed), ..row };
    let mut rows = vec![
        interval(row("ce_loss".to_owned(), mean.value, "nats"), mean.low, mean.high),
        interval(row("perplexity".to_owned(), mean.value.exp(), "1"), mean.low.exp(), mean.high.exp()),
    ];
    let shares = QUANTILES.map(|percent| f64::from(percent) / 100.0);
    rows.extend(losses.quantiles(&shares).into_iter().zip(QUANTILES).map(|(value, percent)| MetricRow {
        tags: BTreeMap::from([("quantile".to_owned(), format!("{}", f64::from(percent) / 100.0))]),
        ..row(format!("ce_loss_p{percent}"), value, "nats")
    }));
    rows
}

const DETAILS: &str = with_interventions!(
    "\
The cross-entropy of a token is −ln p(token | the tokens before it in its row), in nats. The first token of a row is not predicted; \
of the others those count whose mask is set (BOS and separators do not).

- `ce_loss` is the mean over all tokens that count, whatever document they are in; its 95 percent interval is a percentile bootstrap of \
  1,000 draws over documents, since tokens of one document are alike;
- `perplexity` is exp(`ce_loss`), with the interval's ends likewise;
- `ce_loss_p50` and the like are quantiles of the losses of single tokens, interpolated linearly.

Sums are taken in double precision in the order of the data: the number of threads and the division into batches change nothing."
);
