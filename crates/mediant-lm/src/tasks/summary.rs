//! Numbers over a task set, with their intervals.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use mediant_artifact::MetricRow;
use mediant_tensor::random::{below, stream};

use super::items::TaskItem;
use super::judge::Verdict;
use crate::{Error, Result};

const DRAWS: usize = 1000;

/// A number of every item.
struct Measure {
    name: &'static str,
    unit: &'static str,
    /// Whether it is 0 or 1, and its mean a share of the items.
    share: bool,
    values: Vec<f64>,
}

/// What [`summarize`] gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Of every task and split.
    pub tasks: Vec<MetricRow>,
    /// Of every group and condition within them.
    pub parts: Vec<MetricRow>,
}

/// For every task and split, and within them for every group and condition:
///
/// - `accuracy`: the share of items whose right continuation is more probable than the wrong one;
/// - `top1_accuracy`: the share whose right continuation begins with the most probable of all tokens;
/// - `logit_diff`: the mean of log p(right) − log p(wrong), in nats.
///
/// Intervals hold 95 percent. Of a task: a percentile bootstrap over groups (over items where there are fewer than two groups). Of one
/// group or condition: for shares Wilson's (1927) over items, which says something even where all items are right; for `logit_diff` a
/// bootstrap over items.
pub fn summarize(items: &[TaskItem], verdicts: &[Verdict], seed: u64) -> Summary {
    let share = |name, of: fn(&Verdict) -> bool| Measure {
        name,
        unit: "1",
        share: true,
        values: verdicts.iter().map(|verdict| f64::from(u8::from(of(verdict)))).collect(),
    };
    let logit_diff = Measure {
        name: "logit_diff",
        unit: "nats",
        share: false,
        values: verdicts.iter().map(Verdict::logit_diff).collect(),
    };
    let measures = [share("accuracy", Verdict::correct), share("top1_accuracy", |verdict| verdict.top1), logit_diff];
    over_sets(items, &measures, seed)
}

/// The same of each item's value less that under another model: `accuracy_delta`, `top1_accuracy_delta`, `logit_diff_delta`. The
/// groups, or items, that a draw holds are the same for both models; all intervals are bootstraps.
pub fn summarize_deltas(items: &[TaskItem], verdicts: &[Verdict], others: &[Verdict], seed: u64) -> Summary {
    let delta = |name, unit, of: fn(&Verdict) -> f64| Measure {
        name,
        unit,
        share: false,
        values: verdicts.iter().zip(others).map(|(own, other)| of(own) - of(other)).collect(),
    };
    let measures = [
        delta("accuracy_delta", "1", |verdict| f64::from(u8::from(verdict.correct()))),
        delta("top1_accuracy_delta", "1", |verdict| f64::from(u8::from(verdict.top1))),
        delta("logit_diff_delta", "nats", Verdict::logit_diff),
    ];
    over_sets(items, &measures, seed)
}

fn over_sets(items: &[TaskItem], measures: &[Measure], seed: u64) -> Summary {
    type Key<'a> = (&'a str, Option<&'a str>);
    let mut sets: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        sets.entry((&item.task, item.split.as_deref())).or_default().push(index);
    }
    let mut summary = Summary::default();
    for ((task, split), members) in sets {
        let set = Set { task, split, items, seed };
        summary.tasks.extend(measures.iter().map(|measure| set.row(measure, None, &members)));
        let mut parts: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for &index in &members {
            let (group, condition) = (items[index].group.as_deref(), items[index].condition.as_deref());
            let named = group
                .map(|group| ("group", group))
                .into_iter()
                .chain(condition.map(|condition| ("condition", condition)));
            named.for_each(|part| parts.entry(part).or_default().push(index));
        }
        for (part, members) in parts {
            summary.parts.extend(measures.iter().map(|measure| set.row(measure, Some(part), &members)));
        }
    }
    summary
}

/// The items of one task and split.
struct Set<'a> {
    task: &'a str,
    split: Option<&'a str>,
    items: &'a [TaskItem],
    seed: u64,
}

impl Set<'_> {
    fn row(&self, measure: &Measure, part: Option<(&str, &str)>, members: &[usize]) -> MetricRow {
        let values: Vec<f64> = members.iter().map(|&index| measure.values[index]).collect();
        let (sum, n) = (values.iter().sum::<f64>(), values.len() as f64);
        let wilson = (measure.share && part.is_some()).then(|| wilson(sum, n));
        let (low, high) = wilson.unwrap_or_else(|| bootstrap(&self.clusters(&values, part, members), self.seed));
        let mut tags = BTreeMap::from([("task".to_owned(), self.task.to_owned())]);
        tags.extend(part.map(|(name, value)| (name.to_owned(), value.to_owned())));
        MetricRow {
            name: measure.name.to_owned(),
            value: sum / n,
            unit: measure.unit.to_owned(),
            n: values.len() as u64,
            numerator: measure.share.then_some(sum),
            denominator: measure.share.then_some(n),
            low: Some(low),
            high: Some(high),
            seed: wilson.is_none().then_some(self.seed),
            split: self.split.map(str::to_owned),
            tags,
        }
    }

    /// What a bootstrap draws from: groups, or items where these are a part, or of one group.
    fn clusters(&self, values: &[f64], part: Option<(&str, &str)>, members: &[usize]) -> Vec<(f64, u64)> {
        let mut groups: BTreeMap<Option<&str>, (f64, u64)> = BTreeMap::new();
        for (&index, value) in members.iter().zip(values) {
            let (sum, n) = groups.entry(self.items[index].group.as_deref()).or_default();
            *sum += value;
            *n += 1;
        }
        if part.is_none() && groups.len() > 1 {
            groups.into_values().collect()
        } else {
            values.iter().map(|&value| (value, 1)).collect()
        }
    }
}

/// The central 95 percent of the mean over clusters drawn with replacement, each a (sum, number of items).
fn bootstrap(clusters: &[(f64, u64)], seed: u64) -> (f64, f64) {
    let mut rng = stream(seed, "bootstrap");
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let (mut sum, mut n) = (0.0, 0);
            for _ in clusters {
                let (part, count) = clusters[below(&mut rng, clusters.len() as u64) as usize];
                sum += part;
                n += count;
            }
            sum / n as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    (means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40])
}

/// Wilson's score interval of a share, for 95 percent.
fn wilson(right: f64, n: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let share = right / n;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// The columns of [`judged_rows`].
pub const JUDGED_COLUMNS: [&str; 12] = [
    "model",
    "task",
    "split",
    "group",
    "condition",
    "prompt",
    "right",
    "wrong",
    "log_prob_right",
    "log_prob_wrong",
    "correct",
    "top1",
];

/// Items and a model's verdicts as a table, a row an item.
///
/// # Errors
/// If Arrow cannot hold it.
pub fn judged_rows(model: &str, items: &[TaskItem], verdicts: &[Verdict]) -> Result<RecordBatch> {
    fn text<'a>(of: impl Iterator<Item = &'a str>) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(of))
    }
    fn nullable<'a>(of: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(of.collect::<StringArray>())
    }
    let columns: [ArrayRef; 12] = [
        text(items.iter().map(|_| model)),
        text(items.iter().map(|item| item.task.as_str())),
        nullable(items.iter().map(|item| item.split.as_deref())),
        nullable(items.iter().map(|item| item.group.as_deref())),
        nullable(items.iter().map(|item| item.condition.as_deref())),
        text(items.iter().map(|item| item.prompt.as_str())),
        text(items.iter().map(|item| item.right.as_str())),
        text(items.iter().map(|item| item.wrong.as_str())),
        Arc::new(Float64Array::from_iter_values(verdicts.iter().map(|verdict| verdict.right))),
        Arc::new(Float64Array::from_iter_values(verdicts.iter().map(|verdict| verdict.wrong))),
        Arc::new(BooleanArray::from_iter(verdicts.iter().map(|verdict| Some(verdict.correct())))),
        Arc::new(BooleanArray::from_iter(verdicts.iter().map(|verdict| Some(verdict.top1)))),
    ];
    let named = JUDGED_COLUMNS.into_iter().zip(columns);
    let nullable = ["split", "group", "condition"];
    RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, nullable.contains(&name))))
        .map_err(|error| Error::Tokens(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(task: &str, group: &str) -> TaskItem {
        TaskItem { task: task.to_owned(), group: Some(group.to_owned()), ..TaskItem::default() }
    }

    fn verdict(diff: f64) -> Verdict {
        Verdict { right: diff, wrong: 0.0, top1: diff > 1.0 }
    }

    fn find<'a>(rows: &'a [MetricRow], name: &str, tags: &[(&str, &str)]) -> &'a MetricRow {
        let tags: BTreeMap<_, _> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        rows.iter().find(|row| row.name == name && row.tags == tags).expect("a row of this name")
    }

    #[test]
    fn shares_and_means_by_task_and_group() {
        let items = [item("ioi", "a"), item("ioi", "a"), item("ioi", "b"), item("sums", "a")];
        let Summary { tasks, parts } = summarize(&items, &[2.0, -1.0, 0.5, 3.0].map(verdict), 0);
        let rows = [tasks, parts].concat();
        let accuracy = find(&rows, "accuracy", &[("task", "ioi")]);
        assert_eq!((accuracy.value, accuracy.n, accuracy.numerator), (2.0 / 3.0, 3, Some(2.0)));
        assert_eq!(find(&rows, "top1_accuracy", &[("task", "ioi")]).value, 1.0 / 3.0);
        assert_eq!(find(&rows, "logit_diff", &[("task", "ioi")]).value, 0.5);
        assert_eq!(find(&rows, "accuracy", &[("task", "ioi"), ("group", "b")]).value, 1.0);
    }

    #[test]
    fn intervals_are_over_groups() {
        // Two groups, one all right and one all wrong: however many items, the interval reaches from 0 to 1.
        let items: Vec<_> = (0..400).map(|i| item("t", if i % 2 == 0 { "a" } else { "b" })).collect();
        let verdicts: Vec<_> = (0..400).map(|i| verdict(if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        let rows = summarize(&items, &verdicts, 0).tasks;
        let accuracy = find(&rows, "accuracy", &[("task", "t")]);
        assert_eq!((accuracy.low, accuracy.high), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn differences_are_paired() {
        // Two models that are right on the same half of the items, but for one item in a hundred, on which the second is wrong.
        let items: Vec<_> = (0..400).map(|_| item("t", "a")).collect();
        let own: Vec<_> = (0..400).map(|i| verdict(if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        let other: Vec<_> = (0..400).map(|i| verdict(if i % 2 == 0 && i % 100 != 0 { 0.5 } else { -1.0 })).collect();
        let rows = summarize_deltas(&items, &own, &other, 0).tasks;
        let delta = find(&rows, "accuracy_delta", &[("task", "t")]);
        assert_eq!((delta.value, delta.n, delta.numerator), (0.01, 400, None));
        let (Some(low), Some(high)) = (delta.low, delta.high) else { panic!() };
        // The standard error of the mean of 400 values that are 1 with probability 0.01 is 0.005, where 0.035 is that of two models apart.
        assert!((0.0..0.01).contains(&low) && (0.015..0.025).contains(&high), "{low} {high}");
        // 196 items are half a nat apart, 4 two nats.
        let logit_diff = find(&rows, "logit_diff_delta", &[("task", "t")]).value;
        assert!((logit_diff - (196.0 * 0.5 + 4.0 * 2.0) / 400.0).abs() < 1e-12, "{logit_diff}");
        // A model does not differ from itself.
        let same = summarize_deltas(&items, &own, &own, 0);
        assert!(
            same.tasks
                .iter()
                .chain(&same.parts)
                .all(|row| (row.value, row.low, row.high) == (0.0, Some(0.0), Some(0.0)))
        );
    }

    #[test]
    fn wilson_as_in_the_books() {
        // 10 of 10: Agresti and Coull 1998 give (0.722, 1.000); 81 of 263 (Newcombe 1998, his case a): (0.2553, 0.3662).
        let (low, high) = wilson(10.0, 10.0);
        assert!((low - 0.7225).abs() < 5e-4 && (high - 1.0).abs() < 1e-12);
        let (low, high) = wilson(81.0, 263.0);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5);
    }
}
