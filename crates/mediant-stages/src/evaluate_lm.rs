//! `evaluate_lm`: how well do models predict corpora?

use std::collections::BTreeMap;

use mediant_artifact::{Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Hooks;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::corpus_loss::{CorpusLoss, Part, Parts, QUANTILES};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::against::{Against, MODEL, MODELS, named_models};
use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::model_input::check_tokens;
use crate::named::{CORPORA, Passes, check_apart, corpus, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateLm;

/// Options of `evaluate_lm`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// With `models`: the one that the others are compared with, trained as they were with its norms kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control: Option<String>,
    /// Instead of `control`: the one that the others are compared with, which is no control for them. What a model without live norms
    /// loses against it is then more than what its norms did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without_control: Option<String>,
    /// Changes of activations on the way: `[{ at: blocks.2.hook_resid_post, do: zero, positions: { exclude_first: 1 } }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interventions: Vec<Intervention>,
    /// Of the bootstrap, and of interventions.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[MODEL, MODELS, CORPORA, ACTIVATIONS, DICTIONARY];

const BREAKDOWN: [&str; 12] = [
    "model",
    "corpus",
    "part",
    "at_least",
    "below",
    "n",
    "ce_loss",
    "ce_loss_low",
    "ce_loss_high",
    "delta",
    "delta_low",
    "delta_high",
];

impl Config {
    fn against(&self) -> Against<'_> {
        Against { control: &self.control, without_control: &self.without_control }
    }
}

impl Stage for EvaluateLm {
    type Config = Config;
    const NAME: &'static str = "evaluate_lm";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Cross-entropy of language models on corpora: mean, distribution, by position and token frequency, against a control",
            details: DETAILS,
            example: "quality:\n  uses: evaluate_lm\n  inputs:\n    models: { original: model, control: finetuned, ln_free: ln_free }\n    tokens: { held_out: tokens.test, other: other.test }\n  with: { control: control }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new(
                "metrics",
                Kind::Metrics,
                "`ce_loss`, `perplexity`, `ce_loss_p50` and other quantiles over tokens, `ce_loss_max`, `ce_loss_non_finite`, `ce_loss_delta`.",
            ),
            Output::new(
                "breakdown",
                Kind::Table,
                "Mean loss, and its difference from the control's, by position and by token frequency.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.against().check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.against().check_models(inputs, &config.interventions);
        problems.check(check_apart(inputs, "tokens"));
        problems.check(check_tokens(inputs, "model", "tokens"));
        problems.check(check_tokens(inputs, "models", "tokens"));
        let tokens = inputs.many("tokens").iter().filter_map(|member| member.facts.tokens());
        let scene = Scene { context: tokens.map(|tokens| tokens.context).max(), ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("breakdown".to_owned(), table_facts(&BREAKDOWN))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let models = named_models(cx)?;
        let corpora = named(cx, "tokens")?;
        let mut found = Vec::new();
        on_device!(compute_device(cx.device()), C, device => {
            let mut passes = Passes::over(cx, models.len(), &corpora)?;
            for model in &models {
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                let edits = match config.interventions.as_slice() {
                    [] => None,
                    list => Some(resolve(cx, list, &loaded, config.seed, None)?),
                };
                let hooks = || edits.as_ref().map_or_else(Hooks::none, |edits| edits.hooks());
                for of in &corpora {
                    let (tokens, documents) = corpus(of)?;
                    let losses = mediant_lm::losses(&loaded, &tokens, hooks, passes.step())?;
                    passes.passed(tokens.meta.tokens);
                    found.push(Found {
                        model: &model.label,
                        corpus: &of.label,
                        split: tokens.meta.split.clone(),
                        loss: CorpusLoss::new(&Parts::new(&tokens, &documents), losses),
                    });
                }
            }
            Ok::<_, StageError>(())
        })?;
        let mut metrics = Vec::new();
        let mut rows = Vec::new();
        for one in &found {
            let other = config.against().other_than(one.model);
            let other = other.and_then(|(tag, name)| {
                let found = found.iter().find(|other| other.model == name && other.corpus == one.corpus);
                found.map(|found| (tag, found))
            });
            one.report(other, config.seed, &mut metrics, &mut rows);
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        breakdown(&rows).write(
            cx.output("breakdown")?,
            "Losses of parts of the corpora",
            "Mean cross-entropy by position and by frequency of the predicted token",
        )
    }
}

/// A corpus under a model.
struct Found<'n> {
    model: &'n str,
    corpus: &'n str,
    split: String,
    loss: CorpusLoss,
}

/// A part of a corpus under a model.
struct PartRow<'n> {
    model: &'n str,
    corpus: &'n str,
    part: Part,
    n: u64,
    loss: Estimate,
    delta: Option<Estimate>,
}

impl<'n> Found<'n> {
    /// `other` is what this is compared with, and the tag that tells so.
    fn report(
        &self,
        other: Option<(&str, &Self)>,
        seed: u64,
        metrics: &mut Vec<MetricRow>,
        rows: &mut Vec<PartRow<'n>>,
    ) {
        let n = self.loss.predicted();
        let told = tags([("model", self.model), ("corpus", self.corpus)]);
        let mut push = |row: MetricRow, more: &[(&str, &str)]| {
            let told: BTreeMap<_, _> = told.clone().into_iter().chain(tags(more.iter().copied())).collect();
            metrics.push(MetricRow { split: Some(self.split.clone()), tags: told, ..row });
        };
        let plain = |name: &str, value: f64| metric(name, "nats", n, Estimate { value, interval: None }, seed);
        let means = self.loss.means(seed);
        let deltas = other.map(|(_, other)| self.loss.deltas(&other.loss, seed));
        // The whole is the first part.
        let (_, _, mean) = means[0];
        let perplexity =
            Estimate { value: mean.value.exp(), interval: mean.interval.map(|(low, high)| (low.exp(), high.exp())) };
        push(metric("ce_loss", "nats", n, mean, seed), &[]);
        push(metric("perplexity", "1", n, perplexity, seed), &[]);
        if let (Some((tag, other)), Some(deltas)) = (other, &deltas) {
            push(metric("ce_loss_delta", "nats", n, deltas[0].2, seed), &[(tag, other.model)]);
        }
        for ((percent, share), value) in QUANTILES.iter().zip(self.loss.quantiles()) {
            push(plain(&format!("ce_loss_p{percent}"), *value), &[("quantile", &share.to_string())]);
        }
        push(plain("ce_loss_max", self.loss.largest()), &[]);
        push(
            MetricRow { unit: "tokens".to_owned(), ..plain("ce_loss_non_finite", self.loss.non_finite() as f64) },
            &[],
        );
        let (model, corpus) = (self.model, self.corpus);
        rows.extend(means.into_iter().enumerate().skip(1).map(|(place, (part, n, loss))| {
            let delta = deltas.as_ref().map(|deltas| deltas[place].2);
            PartRow { model, corpus, part, n, loss, delta }
        }));
    }
}

fn breakdown(rows: &[PartRow<'_>]) -> Columns {
    Columns::default()
        .text("model", rows.iter().map(|row| row.model))
        .text("corpus", rows.iter().map(|row| row.corpus))
        .text("part", rows.iter().map(|row| row.part.range().0))
        .number("at_least", rows.iter().map(|row| row.part.range().1))
        .number("below", rows.iter().map(|row| row.part.range().2))
        .count("n", rows.iter().map(|row| row.n))
        .estimate("ce_loss", rows.iter().map(|row| Some(row.loss)))
        .estimate("delta", rows.iter().map(|row| row.delta))
}

const DETAILS: &str = with_interventions!(
    "\
The cross-entropy of a token is −ln p(token | the tokens before it in its row), in nats. The first token of a row is not predicted; \
of the others those count whose mask is set (BOS and separators do not). Tag `corpus` names the corpus, where several are connected, \
`model` the model.

- `ce_loss` is the mean over all tokens that count, whatever document they are in; its 95 percent interval is a percentile bootstrap of \
  1,000 draws over documents, since tokens of one document are alike; a corpus of one document has none;
- `perplexity` is exp(`ce_loss`), with the interval's ends likewise;
- `ce_loss_p50` and the like are quantiles of the losses of single tokens, interpolated linearly. A mean says nothing of a heavy tail: \
  the central 95 percent lie between `ce_loss_p2.5` and `ce_loss_p97.5`, the central 99.9 between `ce_loss_p0.05` and `ce_loss_p99.95`, and \
  `ce_loss_max` is the largest;
- `ce_loss_non_finite` counts losses that are infinite or not a number. They count as infinite everywhere else, the mean included.

`breakdown` has the mean loss by position of the predicted token in its row, in octaves (`at_least` 2^k, `below` 2^(k+1); the first predicted token is at 1), and by \
the share that the predicted token has of all predicted tokens of the corpus, in decades.

**Several models** are compared on the same tokens. `ce_loss_delta` is the mean of a model's losses less those of the model \
that `control` names (tag `against`), and `delta` in `breakdown` the same of a part. Its interval is paired: each of the 1,000 draws of documents is the \
same for both models. Fine-tuning alone changes the loss, on some corpora for the better and on others for the worse, so what the \
removal of norms cost is told by a control alone, which had the same tokens and steps with its norms kept. A model whose norms are frozen or \
removed is refused without one, unless `without_control` names what it is compared with instead; the tag that names it is then `without_control`, so that \
no difference passes for one from a control.

Sums are taken in double precision in the order of the data: the number of threads and the division into batches change nothing. Memory: one model, and 13 bytes a token \
of one corpus."
);
