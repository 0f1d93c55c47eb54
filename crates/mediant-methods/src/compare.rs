//! Metrics of many instances side by side: means and spread over seeds, and which instance is best at what.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use mediant_artifact::MetricRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which values of a metric are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The larger the better.
    Higher,
    /// The smaller the better.
    Lower,
}

impl Direction {
    /// The direction of a metric by its name, where that is beyond doubt. How sparse a code should be is not.
    pub fn of(metric: &str) -> Option<Self> {
        let name = metric.split('[').next().unwrap_or(metric);
        match name {
            "ev_mc" | "cossim" | "ce_score" | "ce_score_mean" | "kl_score" | "kl_score_mean" | "accuracy" | "auc"
            | "mcc" | "f1" | "uniqueness" => Some(Self::Higher),
            "mse" | "nmse" | "dead_fraction" | "ce_sae" | "kl_sae" | "ce_loss" | "perplexity" => Some(Self::Lower),
            _ => None,
        }
    }

    /// `higher` or `lower`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }

    fn better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Higher => a > b,
            Self::Lower => a < b,
        }
    }
}

/// The metrics of one instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// The axes it stands on and its labels there.
    pub labels: Vec<(String, String)>,
    /// What it was measured to have.
    pub metrics: Vec<MetricRow>,
}

/// What to compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Axes whose instances are taken together: seeds.
    pub average_over: Vec<String>,
    /// The metrics in the order wanted; all, if there are none.
    pub metrics: Vec<String>,
    /// Directions of metrics that are not known here, or that are meant otherwise.
    pub directions: BTreeMap<String, Direction>,
}

/// Instances side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The axes that tell the groups apart.
    pub axes: Vec<String>,
    /// The metrics, in order.
    pub metrics: Vec<String>,
    /// The groups, in the order in which the instances first name them.
    pub groups: Vec<Group>,
}

/// The instances that differ only on the axes averaged over.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// One label an axis; `None` where the instances do not stand on it.
    pub labels: Vec<Option<String>>,
    /// One cell a metric; `None` where no instance has it.
    pub cells: Vec<Option<Cell>>,
}

/// One metric of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The metric's unit.
    pub unit: String,
    /// Instances.
    pub runs: u64,
    /// Mean over them.
    pub mean: f64,
    /// Sample standard deviation; of one instance there is none.
    pub sd: Option<f64>,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Items (tokens, …) that the metric was computed from, over all instances.
    pub items: u64,
    /// The interval, of a single instance that has one.
    pub interval: Option<(f64, f64)>,
    /// Whether no group has a better mean; false where better has no meaning.
    pub best: bool,
}

/// Compares instances.
///
/// A metric that occurs several times in one instance is told apart by the tags in which its rows differ:
/// `accuracy[task=agreement]`.
///
/// # Errors
/// When a metric that was asked for, or given a direction, is found nowhere.
pub fn compare(instances: &[Instance], options: &Options) -> Result<Comparison> {
    let named: Vec<(&Instance, Vec<(String, &MetricRow)>)> =
        instances.iter().map(|instance| (instance, names(&instance.metrics))).collect();
    let found = distinct(named.iter().flat_map(|(_, rows)| rows.iter().map(|(name, _)| name)));
    for asked in options.metrics.iter().chain(options.directions.keys()) {
        if !found.contains(asked) {
            return Err(Error::Data(format!("no instance has a metric `{asked}`; there are {}", found.join(", "))));
        }
    }
    let metrics = if options.metrics.is_empty() { found } else { options.metrics.clone() };
    let kept = |axis: &&String| !options.average_over.contains(*axis);
    let axes =
        distinct(instances.iter().flat_map(|instance| instance.labels.iter().map(|(axis, _)| axis)).filter(kept));

    let mut members: Vec<(Vec<Option<String>>, Vec<usize>)> = Vec::new();
    for (index, instance) in instances.iter().enumerate() {
        let label = |axis| instance.labels.iter().find(|(own, _)| own == axis).map(|(_, label)| label.clone());
        let labels: Vec<Option<String>> = axes.iter().map(label).collect();
        match members.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, group)) => group.push(index),
            None => members.push((labels, vec![index])),
        }
    }
    members.sort_by(|(a, _), (b, _)| in_order(a, b));
    let mut groups: Vec<Group> = members
        .into_iter()
        .map(|(labels, group)| {
            let rows = |metric: &String| {
                let rows = group.iter().flat_map(|&index| &named[index].1);
                rows.filter(|(name, _)| name == metric).map(|(_, row)| *row).collect::<Vec<_>>()
            };
            Group { labels, cells: metrics.iter().map(|metric| cell(&rows(metric))).collect() }
        })
        .collect();
    for (place, metric) in metrics.iter().enumerate() {
        if let Some(direction) = options.direction(metric) {
            mark_best(&mut groups, place, direction);
        }
    }
    Ok(Comparison { axes, metrics, groups })
}

/// Labels that are numbers by their size, then others as they come.
fn in_order(a: &[Option<String>], b: &[Option<String>]) -> Ordering {
    let number = |label: &Option<String>| label.as_ref()?.parse::<f64>().ok();
    let pairs = a.iter().zip(b).map(|(a, b)| match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    pairs.fold(Ordering::Equal, Ordering::then)
}

impl Options {
    /// The direction of a metric under these options.
    pub fn direction(&self, metric: &str) -> Option<Direction> {
        self.directions.get(metric).copied().or_else(|| Direction::of(metric))
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// The rows of an instance under names that tell them apart.
fn names(rows: &[MetricRow]) -> Vec<(String, &MetricRow)> {
    let name = |row: &MetricRow| {
        let same: Vec<&MetricRow> = rows.iter().filter(|other| other.name == row.name).collect();
        let differs = |tag: &&String| same.iter().any(|other| other.tags.get(*tag) != row.tags.get(*tag));
        let tags: Vec<String> = row.tags.keys().filter(differs).map(|tag| format!("{tag}={}", row.tags[tag])).collect();
        if tags.is_empty() { row.name.clone() } else { format!("{}[{}]", row.name, tags.join(",")) }
    };
    rows.iter().map(|row| (name(row), row)).collect()
}

fn cell(rows: &[&MetricRow]) -> Option<Cell> {
    let first = rows.first()?;
    let n = rows.len() as f64;
    let values = || rows.iter().map(|row| row.value);
    let mean = values().sum::<f64>() / n;
    let sd = (rows.len() > 1).then(|| (values().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    Some(Cell {
        unit: first.unit.clone(),
        runs: rows.len() as u64,
        mean,
        sd,
        min: values().fold(f64::INFINITY, f64::min),
        max: values().fold(f64::NEG_INFINITY, f64::max),
        items: rows.iter().map(|row| row.n).sum(),
        interval: if rows.len() == 1 { first.low.zip(first.high) } else { None },
        best: false,
    })
}

fn mark_best(groups: &mut [Group], place: usize, direction: Direction) {
    let means: Vec<f64> = groups.iter().filter_map(|group| group.cells[place].as_ref()).map(|cell| cell.mean).collect();
    // One group is not better than others; NaN is neither better nor best.
    if means.len() < 2 {
        return;
    }
    for cell in groups.iter_mut().filter_map(|group| group.cells[place].as_mut()) {
        cell.best = !cell.mean.is_nan() && !means.iter().any(|&other| direction.better(other, cell.mean));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(name: &str, value: f64) -> MetricRow {
        MetricRow { name: name.to_owned(), value, unit: "1".to_owned(), n: 10, ..MetricRow::default() }
    }

    fn instance(name: &str, seed: &str, metrics: &[(&str, f64)]) -> Instance {
        let labels = vec![("name".to_owned(), name.to_owned()), ("seed".to_owned(), seed.to_owned())];
        Instance { labels, metrics: metrics.iter().map(|(name, value)| row(name, *value)).collect() }
    }

    fn sweep() -> Vec<Instance> {
        vec![
            instance("a", "0", &[("ev_mc", 0.5), ("mse", 4.0), ("l0", 16.0)]),
            instance("a", "1", &[("ev_mc", 0.7), ("mse", 2.0), ("l0", 16.0)]),
            instance("b", "0", &[("ev_mc", 0.5), ("mse", 1.0), ("l0", 8.0)]),
            instance("b", "1", &[("ev_mc", f64::NAN), ("mse", 1.0), ("l0", 8.0)]),
        ]
    }

    fn seeds() -> Options {
        Options { average_over: vec!["seed".to_owned()], ..Options::default() }
    }

    #[test]
    fn seeds_become_means_and_spread_and_the_best_is_marked() {
        let found = compare(&sweep(), &seeds()).unwrap();
        assert_eq!(
            (found.axes, found.metrics),
            (vec!["name".to_owned()], ["ev_mc", "mse", "l0"].map(str::to_owned).to_vec())
        );
        let [a, b] = &found.groups[..] else { panic!() };
        let cell = |group: &Group, place: usize| group.cells[place].clone().unwrap();
        let mse = cell(a, 1);
        assert_eq!(
            (mse.mean, mse.sd, mse.runs, mse.min, mse.max, mse.items),
            (3.0, Some(2f64.sqrt()), 2, 2.0, 4.0, 20)
        );
        assert_eq!([cell(a, 0).best, cell(b, 0).best], [true, false]);
        assert_eq!([cell(a, 1).best, cell(b, 1).best], [false, true]);
        // Fewer active latents are not better by themselves, unless somebody says so.
        assert_eq!([cell(a, 2).best, cell(b, 2).best], [false, false]);
        let lower = Options { directions: BTreeMap::from([("l0".to_owned(), Direction::Lower)]), ..seeds() };
        assert!(cell(&compare(&sweep(), &lower).unwrap().groups[1], 2).best);
    }

    #[test]
    fn without_averaging_every_instance_is_a_group() {
        let found = compare(&sweep(), &Options::default()).unwrap();
        assert_eq!(found.axes, ["name", "seed"]);
        assert_eq!(found.groups.len(), 4);
        assert!(found.groups.iter().all(|group| group.cells[1].as_ref().unwrap().sd.is_none()));
    }

    #[test]
    fn rows_of_one_name_are_told_apart_by_their_tags() {
        let tagged = |task: &str, value| MetricRow {
            tags: BTreeMap::from([("task".to_owned(), task.to_owned()), ("split".to_owned(), "test".to_owned())]),
            ..row("accuracy", value)
        };
        let metrics = vec![tagged("agreement", 0.9), tagged("capitals", 1.0), row("ce_loss", 2.0)];
        let found = compare(&[Instance { metrics, ..Instance::default() }], &Options::default()).unwrap();
        assert_eq!(found.metrics, ["accuracy[task=agreement]", "accuracy[task=capitals]", "ce_loss"]);
        assert_eq!(Direction::of("accuracy[task=capitals]"), Some(Direction::Higher));
    }

    #[test]
    fn asking_for_what_is_not_there_is_an_error() {
        let wanted =
            |metrics: &[&str]| Options { metrics: metrics.iter().map(|m| (*m).to_owned()).collect(), ..seeds() };
        assert_eq!(compare(&sweep(), &wanted(&["l0", "mse"])).unwrap().metrics, ["l0", "mse"]);
        let error = compare(&sweep(), &wanted(&["ev"])).unwrap_err().to_string();
        assert!(error.contains("`ev`; there are ev_mc, mse, l0"), "{error}");
    }
}
