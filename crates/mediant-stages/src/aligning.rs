//! What the stages that train features to carry a causal variable do alike.

use std::collections::BTreeMap;

use mediant_artifact::MetricRow;
use mediant_engine::{Problems, RunContext, StageError};
use mediant_lm::Model;
use mediant_methods::align::{Loss, Training};
use mediant_methods::interchange::{Exchange, Tally, interchange};
use mediant_methods::subspace::Site;
use mediant_methods::{Metric, Pairs, split};
use mediant_tensor::Compute;

use crate::sites::positions_json;

/// The options of a training.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) lr: f64,
    pub(crate) loss: Loss,
    pub(crate) test_fraction: f64,
    pub(crate) shuffle_labels: bool,
    pub(crate) seed: u64,
}

pub(crate) fn three() -> usize {
    3
}

pub(crate) fn batch() -> usize {
    32
}

pub(crate) fn lr() -> f64 {
    0.01
}

pub(crate) fn fifth() -> f64 {
    0.2
}

/// Whether a share of the prompts can be held out.
pub(crate) fn check_test_fraction(test_fraction: f64) -> Result<(), Problems> {
    if (0.0..1.0).contains(&test_fraction) {
        Ok(())
    } else {
        Err(Problems::config("test_fraction", "`test_fraction` must be at least 0 and below 1"))
    }
}

impl Schedule {
    pub(crate) fn check(self) -> Problems {
        let mut problems = Problems::none();
        for (field, count) in [("epochs", self.epochs), ("batch", self.batch)] {
            if count == 0 {
                problems.push(Problems::config(field, format!("`{field}` must be at least 1")));
            }
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            problems.push(Problems::config("lr", "`lr` must be above 0"));
        }
        problems.check(check_test_fraction(self.test_fraction));
        problems
    }

    pub(crate) fn training(self) -> Training {
        Training {
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            loss: self.loss,
            shuffle_labels: self.shuffle_labels,
            seed: self.seed,
        }
    }

    /// What another run needs to be comparable.
    pub(crate) fn settings(self) -> Vec<(&'static str, String)> {
        vec![
            ("epochs", self.epochs.to_string()),
            ("batch", self.batch.to_string()),
            ("lr", self.lr.to_string()),
            ("loss", self.loss.name().to_owned()),
            ("test_fraction", self.test_fraction.to_string()),
            ("shuffle_labels", self.shuffle_labels.to_string()),
        ]
    }

    /// The prompts that are trained on, and those that are held out if any are.
    pub(crate) fn parts(self, pairs: &Pairs) -> Result<(Pairs, Option<Pairs>), StageError> {
        let (train, test) = split(pairs, self.test_fraction, self.seed)?;
        Ok((pairs.rearranged(&train), (!test.is_empty()).then(|| pairs.rearranged(&test))))
    }
}

/// Sites by hook point, in order: what lies before a hook point is computed once for all of a run.
pub(crate) fn by_point(sites: &[Site]) -> Vec<&[Site]> {
    sites.chunk_by(|a, b| a.point == b.point).collect()
}

/// A metric of something trained.
pub(crate) fn metric(
    name: &str,
    value: f64,
    unit: &str,
    n: u64,
    seed: u64,
    tags: &BTreeMap<String, String>,
) -> MetricRow {
    MetricRow {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        n,
        seed: Some(seed),
        split: Some("train".to_owned()),
        tags: tags.clone(),
        ..MetricRow::default()
    }
}

/// The tags of a site.
pub(crate) fn site_tags(site: &Site) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([("hook".to_owned(), site.point.to_string())]);
    match site.positions.span() {
        Some(span) if matches!(site.positions, mediant_lm::Positions::Span(_)) => {
            tags.insert("span".to_owned(), span.to_owned());
        }
        _ => {
            // A word is one without the quotes that JSON puts around it.
            tags.insert("positions".to_owned(), positions_json(&site.positions).trim_matches('"').to_owned());
        }
    }
    tags
}

/// Interchange-intervention accuracies of exchanges of one choice each, on prompts of training and those held out.
pub(crate) fn accuracies<C: Compute, O>(
    cx: &RunContext<'_, O>,
    model: &Model<C>,
    (train, test): (&Pairs, Option<&Pairs>),
    exchanges: &[(Exchange<'_>, BTreeMap<String, String>)],
    seed: u64,
) -> Result<Vec<MetricRow>, StageError> {
    let mut rows = Vec::new();
    let list: Vec<Exchange<'_>> = exchanges.iter().map(|(exchange, _)| exchange.clone()).collect();
    for (name, pairs) in [("train", Some(train)), ("test", test)] {
        let Some(pairs) = pairs else { continue };
        let mut tallies = vec![Tally::new(pairs); list.len()];
        interchange(
            model,
            pairs,
            &list,
            Metric::LogProb,
            |outcome| {
                tallies[outcome.exchange].add(outcome.first, outcome.prompts);
                Ok::<_, StageError>(())
            },
            |done, total| {
                cx.progress(done as u64, total as u64, "prompts");
                cx.check_cancelled()
            },
        )?;
        for (tally, (_, tags)) in tallies.iter().zip(exchanges) {
            rows.extend(tally.accuracies(seed).into_iter().map(|accuracy| MetricRow {
                split: Some(name.to_owned()),
                low: accuracy.estimate.interval.map(|(low, _)| low),
                high: accuracy.estimate.interval.map(|(_, high)| high),
                ..metric(accuracy.name, accuracy.estimate.value, "1", accuracy.n, seed, tags)
            }));
        }
    }
    Ok(rows)
}
