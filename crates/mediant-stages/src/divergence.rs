//! `divergence`: how far are the predictions of models apart?

use mediant_artifact::{Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::divergence::divergences;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::named::{CORPORA, MODELS, Passes, check_models_and_corpora, corpus, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Divergence;

/// Options of `divergence`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

impl Stage for Divergence {
    type Config = Config;
    const NAME: &'static str = "divergence";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How far the predictions of every two models are apart: Jensen-Shannon and Kullback-Leibler divergence",
            details: DETAILS,
            example: "apart:\n  uses: divergence\n  inputs: { models: { original: model, control: finetuned, ln_free: ln_free }, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(&[MODELS, CORPORA])
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("metrics", Kind::Metrics, "`jsd` of every two models, and `kl` in both directions.")]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = check_models_and_corpora(inputs);
        let models = inputs.many("models");
        if models.len() < 2 {
            let one = Problems::input("models", "one model has nothing to differ from");
            problems.push(one.help("connect two or more by name: `models: { original: a, ln_free: b }`"));
        }
        let sizes: Vec<usize> = models.iter().filter_map(|model| Some(model.facts.model()?.vocab_size)).collect();
        if let Some(other) = sizes.iter().find(|size| **size != sizes[0]) {
            let message = format!("they predict {} and {other} tokens, and so not the same things", sizes[0]);
            problems.push(Problems::input("models", message));
        }
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let seed = cx.config().seed;
        let (models, corpora) = (named(cx, "models")?, named(cx, "tokens")?);
        let mut metrics = Vec::new();
        on_device!(compute_device(cx.device()), C, device => {
            let loaded = models.iter().map(|model| mediant_lm::load::<C>(&model.artifact, &device));
            let loaded = loaded.collect::<Result<Vec<_>, _>>()?;
            let loaded: Vec<_> = loaded.iter().collect();
            let mut passes = Passes::over(cx, 1, &corpora)?;
            for of in &corpora {
                let (tokens, documents) = corpus(of)?;
                let found = divergences(&loaded, &tokens, &documents, passes.step())?;
                passes.passed(tokens.meta.tokens);
                for apart in found.means(seed) {
                    let (p, q) = (models[apart.p].label.as_str(), models[apart.q].label.as_str());
                    let names = [("jsd", p, q), ("kl", p, q), ("kl", q, p)];
                    metrics.extend(names.into_iter().zip(apart.means).map(|((name, p, q), mean)| MetricRow {
                        split: Some(tokens.meta.split.clone()),
                        tags: tags([("p", p), ("q", q), ("corpus", &of.label)]),
                        ..metric(name, "nats", found.predictions(), mean, seed)
                    }));
                }
            }
            Ok::<_, StageError>(())
        })?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        Ok(())
    }
}

const DETAILS: &str = "\
At every token that is predicted and counts (as in `evaluate_lm`), with p and q the probabilities that two models give to all tokens, in nats, mean over tokens:

- `jsd`, the Jensen-Shannon divergence: ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2; the same in both directions, at most ln 2;
- `kl`: KL(p ‖ q) = Σ p ln(p/q), in both directions; tags `p` and `q` name the models.

Every two of the models are compared, on the same tokens, in double precision from the logits: a divergence is a small difference of large numbers. \
Intervals hold 95 percent of 1,000 draws of documents. All models are in memory together.

Sources: Kullback & Leibler 1951; Lin 1991, Divergence measures based on the Shannon entropy.";
