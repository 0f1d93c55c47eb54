//! `attention_sinks`: how much attention goes to the first position?

use mediant_artifact::{Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::sinks::{HeadSink, sinks};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::named::{CORPORA, MODELS, Passes, check_models_and_corpora, corpus, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct AttentionSinks;

/// Options of `attention_sinks`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A query whose attention to the first position is larger than this counts.
    #[serde(default = "three_tenths")]
    threshold: f64,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn three_tenths() -> f64 {
    0.3
}

const HEADS: [&str; 6] = ["model", "corpus", "layer", "head", "sink_rate", "sink_weight"];

impl Stage for AttentionSinks {
    type Config = Config;
    const NAME: &'static str = "attention_sinks";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How much attention goes to the first position, and how large the residual stream is there",
            details: DETAILS,
            example: "sinks:\n  uses: attention_sinks\n  inputs: { models: { original: model, ln_free: ln_free }, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(&[MODELS, CORPORA])
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new(
                "metrics",
                Kind::Metrics,
                "`sink_rate`, `sink_weight`, and `resid_norm_first` and `resid_norm_rest` before every block and after the last.",
            ),
            Output::new("heads", Kind::Table, "Rate and weight of every head."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        match config.threshold {
            threshold if threshold > 0.0 && threshold < 1.0 => Ok(()),
            _ => Err(Problems::config("threshold", "must be between 0 and 1")),
        }
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        check_models_and_corpora(inputs).finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("heads".to_owned(), table_facts(&HEADS))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { threshold, seed } = cx.config();
        let (models, corpora) = (named(cx, "models")?, named(cx, "tokens")?);
        let (mut metrics, mut rows) = (Vec::new(), Vec::new());
        on_device!(compute_device(cx.device()), C, device => {
            let mut passes = Passes::over(cx, models.len(), &corpora)?;
            for model in &models {
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                for of in &corpora {
                    let (tokens, documents) = corpus(of)?;
                    let found = sinks(&loaded, &tokens, &documents, threshold as f32, passes.step())?;
                    passes.passed(tokens.meta.tokens);
                    let row = |name: &str, hook: &str, estimate| MetricRow {
                        split: Some(tokens.meta.split.clone()),
                        tags: tags([("model", model.label.as_str()), ("corpus", &of.label), ("hook", hook)]),
                        ..metric(name, "1", found.sequences(), estimate, seed)
                    };
                    let [rate, weight] = found.overall(seed);
                    metrics.extend([row("sink_rate", "", rate), row("sink_weight", "", weight)]);
                    for norm in found.norms(seed) {
                        let hook = norm.point.to_string();
                        metrics.push(row("resid_norm_first", &hook, norm.first));
                        metrics.push(row("resid_norm_rest", &hook, norm.others));
                    }
                    rows.extend(found.of_heads().into_iter().map(|head| (&model.label, &of.label, head)));
                }
            }
            Ok::<_, StageError>(())
        })?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        let count = |of: fn(&HeadSink) -> usize| rows.iter().map(move |(.., head)| of(head) as u64);
        Columns::default()
            .text("model", rows.iter().map(|(model, ..)| model))
            .text("corpus", rows.iter().map(|(_, corpus, _)| corpus))
            .count("layer", count(|head| head.layer))
            .count("head", count(|head| head.head))
            .number("sink_rate", rows.iter().map(|(.., head)| head.rate))
            .number("sink_weight", rows.iter().map(|(.., head)| head.weight))
            .write(cx.output("heads")?, "Attention sinks", "Attention of every head to the first position")
    }
}

const DETAILS: &str = "\
Over rows of two tokens or more, whose first position may be BOS or any token. The first query sees nothing but itself and is left out.

- `sink_rate`: the share of (layer, head, query) that give the first position an attention above `threshold`, taken for each row and averaged over rows; \
  `heads` has it head by head;
- `sink_weight`: the mean attention to the first position, averaged likewise;
- `resid_norm_first`: the mean length of the residual stream at the first position, before every block (`hook_resid_pre`) and after the last, tag `hook`; \
  `resid_norm_rest` the same over all other positions.

Intervals hold 95 percent of 1,000 draws of documents; a row belongs to the document of its first token.

Sources: Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks (arXiv:2309.17453); Sun et al. 2024, Massive Activations in Large Language \
Models (arXiv:2402.17762); the threshold of 0.3 is that of Gu et al. 2024 (arXiv:2410.10781).";
