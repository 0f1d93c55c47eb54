//! `calibration`: are models as often right as they are sure?

use mediant_artifact::{Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::calibration::{Bin, calibration};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::named::{CORPORA, MODELS, Passes, check_models_and_corpora, corpus, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Calibration;

/// Options of `calibration`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Bins of equal width that confidences are sorted into.
    #[serde(default = "fifteen")]
    bins: usize,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn fifteen() -> usize {
    15
}

const BINS: [&str; 7] = ["model", "corpus", "above", "up_to", "n", "confidence", "accuracy"];

impl Stage for Calibration {
    type Config = Config;
    const NAME: &'static str = "calibration";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Entropy of predictions, and whether their confidence is the share in which they are right",
            details: DETAILS,
            example: "calibration:\n  uses: calibration\n  inputs: { models: { original: model, ln_free: ln_free }, tokens: tokens.test }\n",
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
                "`entropy`, `confidence`, `accuracy` and `ece` of every model and corpus.",
            ),
            Output::new("bins", Kind::Table, "The reliability diagram: a row a bin that holds predictions."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        match config.bins {
            1..=10_000 => Ok(()),
            _ => Err(Problems::config("bins", "must be between 1 and 10000")),
        }
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        check_models_and_corpora(inputs).finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("bins".to_owned(), table_facts(&BINS))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { bins, seed } = cx.config();
        let (models, corpora) = (named(cx, "models")?, named(cx, "tokens")?);
        let (mut metrics, mut rows) = (Vec::new(), Vec::new());
        on_device!(compute_device(cx.device()), C, device => {
            let mut passes = Passes::over(cx, models.len(), &corpora)?;
            for model in &models {
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                for of in &corpora {
                    let (tokens, documents) = corpus(of)?;
                    let found = calibration(&loaded, &tokens, &documents, bins, passes.step())?;
                    passes.passed(tokens.meta.tokens);
                    metrics.extend(found.metrics(seed).map(|(name, estimate)| {
                        let unit = if name == "entropy" { "nats" } else { "1" };
                        let bins = if name == "ece" { bins.to_string() } else { String::new() };
                        MetricRow {
                            split: Some(tokens.meta.split.clone()),
                            tags: tags([("model", model.label.as_str()), ("corpus", &of.label), ("bins", &bins)]),
                            ..metric(name, unit, found.predictions(), estimate, seed)
                        }
                    }));
                    rows.extend(found.bins().into_iter().map(|bin| (&model.label, &of.label, bin)));
                }
            }
            Ok::<_, StageError>(())
        })?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        let number = |of: fn(&Bin) -> f64| rows.iter().map(move |(.., bin)| of(bin));
        Columns::default()
            .text("model", rows.iter().map(|(model, ..)| model))
            .text("corpus", rows.iter().map(|(_, corpus, _)| corpus))
            .number("above", number(|bin| bin.low))
            .number("up_to", number(|bin| bin.high))
            .count("n", rows.iter().map(|(.., bin)| bin.n))
            .number("confidence", number(|bin| bin.confidence))
            .number("accuracy", number(|bin| bin.accuracy))
            .write(cx.output("bins")?, "Reliability", "Confidence and accuracy of predictions by confidence")
    }
}

const DETAILS: &str = "\
At every token that is predicted and counts (as in `evaluate_lm`), with p the model's probabilities of all tokens:

- `entropy` is the mean of −Σ p ln p, in nats;
- `confidence` is the mean of the largest p, `accuracy` the share in which the token that has it is the one that came;
- `ece`, the expected calibration error, sorts predictions by their largest p into `bins` of equal width: bin b holds those above b/bins up to \
  (b + 1)/bins. It is Σ_b n_b/n |accuracy_b − confidence_b|, with the means of the bin. A model that is surer than it is right has a confidence above its accuracy.

Intervals hold 95 percent of 1,000 draws of documents. `ece` is a sum of sizes, so that chance alone makes it larger than 0, the more so the more bins there are \
and the fewer tokens; compare models at the same number of both. `bins` holds confidence and accuracy of each bin that has predictions.

Computed in double precision from the logits. Source: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv:1706.04599), whose 15 bins are the default.";
