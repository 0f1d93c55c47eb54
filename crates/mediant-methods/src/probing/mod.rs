//! Sparse probing (Gurnee et al. 2023, arXiv:2305.01610; SAEBench): can k latents tell whether a text has a property?

mod examples;
mod logistic;
mod pooled;
mod score;

use std::collections::BTreeMap;

use mediant_artifact::{Labels, MetricRow, TokenSpans, Tokens};
use mediant_dict::Sae;
use mediant_lm::{HookPoint, Model};
use mediant_tensor::Compute;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::examples::{Examples, Task, examples};
use self::pooled::{Pooled, pooled};
use self::score::Judged;
use crate::bootstrap::{self, intervals};
use crate::{Error, Result};

pub use logistic::{Classifier, fit};

/// Groups of documents that the bootstrap draws from, at most.
const GROUPS: usize = 200;

/// C of scikit-learn's `LogisticRegression`, as SAEBench has it.
const C: f64 = 1.0;

/// How the tokens of a span make one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Their mean (SAEBench).
    #[default]
    Mean,
    /// Their largest value, number by number.
    Max,
    /// The last token.
    Last,
}

impl Pool {
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Last => "last",
        }
    }
}

/// What is asked, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The variables; all if none is listed.
    pub variables: Vec<String>,
    /// Values of a variable that are asked for, the most frequent.
    pub values: usize,
    /// Examples of a question at most, training and test together.
    pub examples: usize,
    /// Positive and negative examples that a question needs in training and test each.
    pub least: usize,
    /// Share of the documents that are for testing.
    pub test_fraction: f64,
    /// How spans are pooled.
    pub pool: Pool,
    /// Numbers of features, rising.
    pub k: Vec<usize>,
    /// Of the split, the choice of examples, and the bootstrap.
    pub seed: u64,
}

/// A fitted probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The variable.
    pub variable: String,
    /// The value that it tells from the others.
    pub value: String,
    /// `latents`, `activations` or `neurons`.
    pub features: &'static str,
    /// The features by index, that of the largest difference first, each with the difference of its means over positive and
    /// negative training examples.
    pub chosen: Vec<(usize, f64)>,
    /// What was fitted to them.
    pub classifier: Classifier,
    /// Training examples.
    pub train: usize,
    /// On test examples, by document.
    judged: Vec<Judged>,
}

/// What probing found.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// By question, kind of features and k.
    pub probes: Vec<Probe>,
    /// Values of variables that had too few examples.
    pub skipped: usize,
    hooks: Vec<HookPoint>,
    pool: Pool,
}

/// What a classifier may choose from, in the order of [`pooled`].
const FEATURES: [&str; 3] = ["latents", "activations", "neurons"];

/// Fits probes of k latents, of k of the numbers that the autoencoder reads at the first of `hooks`, and, at a second, of k neurons. `progress` hears
/// how many spans of how many are done.
///
/// # Errors
/// If the labels have not what is asked for, the model refuses the tokens, or k is larger than what there is to choose from;
/// whatever `progress` gives.
pub fn sparse_probing<C: Compute, E: From<Error>>(
    model: &Model<C>,
    sae: &Sae,
    hooks: &[HookPoint],
    tokens: (&Tokens, &TokenSpans),
    labels: &Labels,
    options: &Options,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Probed, E> {
    let (tokens, spans) = tokens;
    let examples = examples(tokens, spans, labels, options)?;
    let all = pooled(model, sae, hooks, tokens, &examples.spans, options.pool, &mut progress)?;
    let most = options.k.iter().copied().max().unwrap_or(0);
    if let Some((name, few)) = FEATURES.iter().zip(&all).find(|(_, features)| features.width() < most) {
        return Err(Error::Data(format!("there are only {} {name} to choose {most} of", few.width())).into());
    }
    let work: Vec<(&Task, &'static str, &Pooled)> = examples
        .tasks
        .iter()
        .flat_map(|task| FEATURES.into_iter().zip(&all).map(move |(name, features)| (task, name, features)))
        .collect();
    let probes: Vec<Vec<Probe>> =
        work.par_iter().map(|(task, name, features)| probes(task, name, features, &examples, &options.k)).collect();
    Ok(Probed {
        probes: probes.into_iter().flatten().collect(),
        skipped: examples.skipped,
        hooks: hooks.to_vec(),
        pool: options.pool,
    })
}

/// The probes of one question on one kind of features, one a k.
fn probes(task: &Task, name: &'static str, features: &Pooled, examples: &Examples, k: &[usize]) -> Vec<Probe> {
    let differences = mean_differences(task, features);
    let mut order: Vec<usize> = (0..differences.len()).collect();
    order.sort_by(|&a, &b| differences[b].abs().total_cmp(&differences[a].abs()));
    let of_k = k.iter().map(|&k| {
        let chosen: Vec<(usize, f64)> = order[..k].iter().map(|&index| (index, differences[index])).collect();
        let values = |span: usize| chosen.iter().map(move |(index, _)| features.get(span, *index));
        let x: Vec<f64> = task.train.iter().flat_map(|(span, _)| values(*span)).collect();
        let positive: Vec<bool> = task.train.iter().map(|(_, positive)| *positive).collect();
        let classifier = fit(&x, &positive, C);
        let mut judged: BTreeMap<u32, Judged> = BTreeMap::new();
        for (span, positive) in &task.test {
            let score = classifier.score(&values(*span).collect::<Vec<f64>>());
            judged.entry(examples.documents[*span]).or_default().0.push((score, *positive));
        }
        Probe {
            variable: task.variable.clone(),
            value: task.value.clone(),
            features: name,
            chosen,
            classifier,
            train: task.train.len(),
            judged: judged.into_values().collect(),
        }
    });
    of_k.collect()
}

/// Mean over positive training examples less that over negative ones, of each feature.
fn mean_differences(task: &Task, features: &Pooled) -> Vec<f64> {
    let positives = task.train.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = task.train.len() as f64 - positives;
    let mut sums = vec![0.0; features.width()];
    for (span, positive) in &task.train {
        features.add_to(&mut sums, *span, if *positive { 1.0 / positives } else { -1.0 / negatives });
    }
    sums
}

impl Probed {
    /// `accuracy`, `f1` and `auc` of every probe on test examples, and before them their means over all questions.
    pub fn metrics(&self, seed: u64) -> Vec<MetricRow> {
        type Measure = (&'static str, fn(&Judged) -> f64);
        let functions: [Measure; 3] = [("accuracy", Judged::accuracy), ("f1", Judged::f1), ("auc", Judged::auc)];
        let of_probe = |probe: &Probe| {
            let groups = GROUPS.min(probe.judged.len());
            let mut grouped = vec![Judged::default(); groups];
            for (place, judged) in probe.judged.iter().enumerate() {
                bootstrap::Sums::merge(&mut grouped[place * groups / probe.judged.len()], judged);
            }
            let mut all = Judged::default();
            grouped.iter().for_each(|group| bootstrap::Sums::merge(&mut all, group));
            let values = functions.map(|(_, value)| value);
            let intervals = intervals(&grouped, &values, seed);
            let mut tags = self.tags(probe.features, probe.chosen.len());
            tags.insert("variable".to_owned(), probe.variable.clone());
            tags.insert("value".to_owned(), probe.value.clone());
            tags.insert("train".to_owned(), probe.train.to_string());
            let rows = functions.iter().zip(intervals).map(|((name, value), interval)| MetricRow {
                name: (*name).to_owned(),
                value: value(&all),
                unit: "1".to_owned(),
                n: all.0.len() as u64,
                low: interval.map(|(low, _)| low),
                high: interval.map(|(_, high)| high),
                seed: Some(seed),
                tags: tags.clone(),
                ..MetricRow::default()
            });
            rows.collect::<Vec<MetricRow>>()
        };
        let each: Vec<Vec<MetricRow>> = self.probes.par_iter().map(of_probe).collect();
        let each: Vec<MetricRow> = each.into_iter().flatten().collect();
        let mut rows = self.means(&each, &functions.map(|(name, _)| name));
        rows.extend(each);
        rows
    }

    /// Means over questions, by kind of features and k.
    fn means(&self, each: &[MetricRow], names: &[&str]) -> Vec<MetricRow> {
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for kind in self.probes.iter().map(|probe| (probe.features, probe.chosen.len())) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let means = kinds.into_iter().flat_map(|(features, k)| {
            let tags = self.tags(features, k);
            names.iter().map(move |name| {
                let same = |row: &&MetricRow| {
                    row.name == *name && row.tags["features"] == features && row.tags["k"] == k.to_string()
                };
                let values: Vec<f64> = each.iter().filter(same).map(|row| row.value).collect();
                MetricRow {
                    name: format!("mean_{name}"),
                    value: values.iter().sum::<f64>() / values.len() as f64,
                    unit: "1".to_owned(),
                    n: values.len() as u64,
                    tags: tags.clone(),
                    ..MetricRow::default()
                }
            })
        });
        means.collect()
    }

    fn tags(&self, features: &str, k: usize) -> BTreeMap<String, String> {
        let hook = if features == FEATURES[2] { self.hooks.get(1) } else { self.hooks.first() };
        let hook = hook.map(ToString::to_string).unwrap_or_default();
        let tags = [
            ("features", features.to_owned()),
            ("k", k.to_string()),
            ("hook", hook),
            ("pool", self.pool.name().to_owned()),
        ];
        tags.map(|(tag, value)| (tag.to_owned(), value)).into()
    }
}
