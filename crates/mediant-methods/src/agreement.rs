//! How far two ways to score mediators agree.

use std::collections::BTreeMap;

use mediant_artifact::{MetricRow, ScoreRow};

use crate::bootstrap::{draws, quantile};
use crate::{Error, Result};

/// Scores of one method, under a name.
pub struct Scored {
    /// What it is called.
    pub name: String,
    /// What the scores are of, by axis: only scores of the same are compared.
    pub of: BTreeMap<String, String>,
    /// Its scores.
    pub rows: Vec<ScoreRow>,
}

impl Scored {
    fn comparable(&self, other: &Self) -> bool {
        self.name != other.name && self.of.iter().all(|(axis, label)| other.of.get(axis).is_none_or(|it| it == label))
    }
}

/// For every two methods on the same, over the mediators that both have: `spearman`, the correlation of ranks (ties share their mean
/// rank), and `pearson`, that of the values. Intervals hold 95 percent of draws of mediators.
///
/// # Errors
/// [`Error::Data`] for two methods with fewer than three mediators in common, or no two methods.
pub fn agreement(methods: &[Scored], seed: u64) -> Result<Vec<MetricRow>> {
    let mut rows = Vec::new();
    for (index, a) in methods.iter().enumerate() {
        for b in methods[index + 1..].iter().filter(|b| a.comparable(b)) {
            let of_b: BTreeMap<&str, f64> = b.rows.iter().map(|row| (row.mediator.name.as_str(), row.value)).collect();
            let pairs = a.rows.iter().filter_map(|row| Some((row.value, *of_b.get(row.mediator.name.as_str())?)));
            let pairs: Vec<(f64, f64)> = pairs.filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
            if pairs.len() < 3 {
                let why =
                    format!("{} and {} have {} mediators in common; three are needed", a.name, b.name, pairs.len());
                return Err(Error::Data(why));
            }
            let draws = draws(pairs.len(), seed);
            for (name, measure) in [("spearman", spearman as fn(&[(f64, f64)]) -> f64), ("pearson", pearson)] {
                let drawn = draws.iter().map(|draw| measure(&draw.iter().map(|&i| pairs[i]).collect::<Vec<_>>()));
                let mut drawn: Vec<f64> = drawn.filter(|value| !value.is_nan()).collect();
                drawn.sort_by(f64::total_cmp);
                let mut tags = a.of.clone();
                tags.extend(b.of.clone());
                tags.extend([("a".to_owned(), a.name.clone()), ("b".to_owned(), b.name.clone())]);
                rows.push(MetricRow {
                    name: name.to_owned(),
                    value: measure(&pairs),
                    unit: "1".to_owned(),
                    n: pairs.len() as u64,
                    low: quantile(&drawn, 0.025),
                    high: quantile(&drawn, 0.975),
                    seed: Some(seed),
                    tags,
                    ..MetricRow::default()
                });
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::Data("no two of these scores are comparable".to_owned()));
    }
    Ok(rows)
}

/// Correlation of the two.
pub(crate) fn pearson(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (a, b) = pairs.iter().fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0 / n, sums.1 + pair.1 / n));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        ab += (x - a) * (y - b);
        aa += (x - a) * (x - a);
        bb += (y - b) * (y - b);
    }
    ab / (aa * bb).sqrt()
}

fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    pearson(&ranks(&a).into_iter().zip(ranks(&b)).collect::<Vec<_>>())
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = first as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = mean);
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mediant_artifact::Mediator;

    use super::*;

    fn scored(name: &str, values: &[f64]) -> Scored {
        let row = |(i, &value): (usize, &f64)| ScoreRow {
            mediator: Mediator { name: format!("m{i}"), ..Mediator::default() },
            value,
            numerator: value,
            denominator: 1.0,
            n: 1,
            low: None,
            high: None,
        };
        Scored { name: name.to_owned(), of: BTreeMap::new(), rows: values.iter().enumerate().map(row).collect() }
    }

    #[test]
    fn correlations_as_in_the_books() {
        // Ranks 0 1.5 1.5 3 against 0 1 2 3: covariance 4.5, variances 4.5 and 5.
        let rows = agreement(&[scored("a", &[1.0, 2.0, 2.0, 9.0]), scored("b", &[0.0, 1.0, 2.0, 3.0])], 0).unwrap();
        assert!((rows[0].value - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12 && rows[0].name == "spearman");
        let opposite = agreement(&[scored("a", &[1.0, 2.0, 3.0]), scored("b", &[3.0, 2.0, 1.0])], 0).unwrap();
        assert!((opposite[0].value + 1.0).abs() < 1e-12 && (opposite[1].value + 1.0).abs() < 1e-12);
        assert!(agreement(&[scored("a", &[1.0]), scored("b", &[1.0])], 0).is_err());
    }

    #[test]
    fn scores_of_different_things_are_not_compared() {
        let of = |name: &str, task: &str| {
            let of = BTreeMap::from([("task".to_owned(), task.to_owned())]);
            Scored { of, ..scored(name, &[1.0, 2.0, 3.0]) }
        };
        let all = [of("exact", "ioi"), of("exact", "agreement"), of("eap", "ioi"), of("eap", "agreement")];
        let rows = agreement(&all, 0).unwrap();
        let tags: Vec<_> =
            rows.iter().step_by(2).map(|row| (row.tags["a"].as_str(), row.tags["task"].as_str())).collect();
        assert_eq!(tags, [("exact", "ioi"), ("exact", "agreement")]);
        assert!(agreement(&[of("exact", "ioi"), of("eap", "agreement")], 0).is_err());
    }
}
