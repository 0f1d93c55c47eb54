//! How well scores tell the mediators of a circuit from the others, where the circuit is known: the area under the ROC curve.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{MetricRow, ScoreRow};
use mediant_tensor::random::{stream, unit_f64};
use rayon::prelude::*;

use crate::bootstrap::{central, draws_of};
use crate::{Error, Result, Scored};

/// Random scores that stand beside those of methods.
const RANDOM: usize = 200;

/// What is taken of a score.
type Reading = fn(f64) -> f64;

/// What is compared: how much there is of an effect, or whether it is for or against the answer too.
const READINGS: [(&str, Reading); 2] = [("auroc_abs", f64::abs), ("auroc_signed", |value| value)];

/// For every method and every truth about the same, `auroc_abs`, of absolute values, and `auroc_signed`, of values as they are: the
/// share of pairs of a mediator of the circuit and another in which the first has the larger score; ties count half (Mann &
/// Whitney 1947). Intervals hold 95 percent of draws of mediators, those of the circuit and the others each among themselves.
///
/// The method `random` is the mean over 200 vectors of uniform numbers in [−1, 1), its interval their central 95 percent.
///
/// # Errors
/// [`Error::Data`] if a method has no truth or several, a truth no method; if a method has other mediators than its truth, or a score that is not a number; if a truth is not
/// of zeros and ones, or all of it the same.
pub fn auroc(methods: &[Scored], truths: &[Scored], seed: u64) -> Result<Vec<MetricRow>> {
    let mut rows = Vec::new();
    let mut used = vec![false; truths.len()];
    for method in methods {
        let (index, truth) = truth_of(method, truths)?;
        let split = Split::new(truth)?;
        let values = aligned(method, truth)?;
        used[index] = true;
        for (name, reading) in READINGS {
            let values: Vec<f64> = values.iter().map(|value| reading(*value)).collect();
            let order = Order::new(&values);
            let drawn = split.draws(seed);
            let drawn: Vec<f64> = drawn.par_iter().map(|(p, n)| order.area(p, n) / split.pairs()).collect();
            let area = order.area(&split.positives, &split.negatives);
            let interval = central(drawn.into_iter());
            rows.push(split.row(name, area / split.pairs(), Some(area), interval, method, seed));
        }
    }
    for (truth, used) in truths.iter().zip(used) {
        if !used {
            return Err(Error::Data(format!("there are no scores about what the truth {} is of", called(truth))));
        }
        rows.extend(random(truth, seed)?);
    }
    Ok(rows)
}

/// The one truth about what a method scored.
fn truth_of<'t>(method: &Scored, truths: &'t [Scored]) -> Result<(usize, &'t Scored)> {
    let of_same = |truth: &&Scored| truth.of.iter().all(|(axis, label)| method.of.get(axis) == Some(label));
    let found: Vec<_> = truths.iter().enumerate().filter(|(_, truth)| of_same(truth)).collect();
    match found[..] {
        [one] => Ok(one),
        _ => Err(Error::Data(format!("there are {} truths about the scores {}, not one", found.len(), called(method)))),
    }
}

/// A method's name with what its scores are of.
fn called(method: &Scored) -> String {
    let of: Vec<String> = method.of.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
    if of.is_empty() { format!("`{}`", method.name) } else { format!("`{}[{}]`", method.name, of.join(",")) }
}

/// A method's scores in the order of the truth.
fn aligned(method: &Scored, truth: &Scored) -> Result<Vec<f64>> {
    let names = |rows: &[ScoreRow]| rows.iter().map(|row| row.mediator.name.clone()).collect::<BTreeSet<_>>();
    let (theirs, known) = (names(&method.rows), names(&truth.rows));
    let some = |names: Vec<&String>| {
        let shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
        let more = names.len().saturating_sub(3);
        if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
    };
    let (without, beyond): (Vec<_>, Vec<_>) =
        (known.difference(&theirs).collect(), theirs.difference(&known).collect());
    if !without.is_empty() || !beyond.is_empty() {
        let lacks = (!without.is_empty()).then(|| format!("it has no {}", some(without)));
        let has = (!beyond.is_empty()).then(|| format!("the truth has no {}", some(beyond)));
        let what: Vec<String> = lacks.into_iter().chain(has).collect();
        return Err(Error::Data(format!(
            "{} does not score the mediators of the truth: {}",
            called(method),
            what.join("; ")
        )));
    }
    let by_name: BTreeMap<&str, f64> = method.rows.iter().map(|row| (row.mediator.name.as_str(), row.value)).collect();
    let value = |row: &ScoreRow| match by_name.get(row.mediator.name.as_str()) {
        Some(value) if !value.is_nan() => Ok(*value),
        _ => Err(Error::Data(format!("the score of `{}` by {} is not a number", row.mediator.name, called(method)))),
    };
    truth.rows.iter().map(value).collect()
}

/// Which mediators are of the circuit.
struct Split {
    positives: Vec<usize>,
    negatives: Vec<usize>,
}

impl Split {
    fn new(truth: &Scored) -> Result<Self> {
        if let Some(row) = truth.rows.iter().find(|row| row.value != 0.0 && row.value != 1.0) {
            let why = format!("the truth about `{}` is {}, neither 0 nor 1", row.mediator.name, row.value);
            return Err(Error::Data(why));
        }
        let (positives, negatives): (Vec<_>, Vec<_>) = (0..truth.rows.len()).partition(|&i| truth.rows[i].value == 1.0);
        if positives.is_empty() || negatives.is_empty() {
            return Err(Error::Data(
                "the truth says the same of all mediators: there is nothing to tell apart".to_owned(),
            ));
        }
        Ok(Self { positives, negatives })
    }

    fn pairs(&self) -> f64 {
        self.positives.len() as f64 * self.negatives.len() as f64
    }

    /// Draws of both, with replacement.
    fn draws(&self, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
        let of = |items: &[usize], purpose| {
            let draws = draws_of(items.len(), seed, purpose).into_iter();
            draws.map(|draw| draw.into_iter().map(|i| items[i]).collect()).collect::<Vec<Vec<usize>>>()
        };
        of(&self.positives, "auroc, circuit").into_iter().zip(of(&self.negatives, "auroc, others")).collect()
    }

    fn row(
        &self,
        name: &str,
        value: f64,
        area: Option<f64>,
        interval: Option<(f64, f64)>,
        method: &Scored,
        seed: u64,
    ) -> MetricRow {
        let mut tags = method.of.clone();
        tags.insert("method".to_owned(), method.name.clone());
        MetricRow {
            name: name.to_owned(),
            value,
            unit: "1".to_owned(),
            n: (self.positives.len() + self.negatives.len()) as u64,
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
            numerator: area,
            denominator: area.map(|_| self.pairs()),
            seed: Some(seed),
            tags,
            ..MetricRow::default()
        }
    }
}

/// Scores that know nothing.
fn random(truth: &Scored, seed: u64) -> Result<Vec<MetricRow>> {
    let split = Split::new(truth)?;
    let mut rng = stream(seed, "random scores");
    let vectors: Vec<Vec<f64>> =
        (0..RANDOM).map(|_| truth.rows.iter().map(|_| 2.0 * unit_f64(&mut rng) - 1.0).collect()).collect();
    let rows = READINGS.into_iter().map(|(name, reading)| {
        let area = |values: &Vec<f64>| {
            let values: Vec<f64> = values.iter().map(|value| reading(*value)).collect();
            Order::new(&values).area(&split.positives, &split.negatives) / split.pairs()
        };
        let areas: Vec<f64> = vectors.iter().map(area).collect();
        let mean = areas.iter().sum::<f64>() / RANDOM as f64;
        let method = Scored { name: "random".to_owned(), of: truth.of.clone(), rows: Vec::new() };
        split.row(name, mean, None, central(areas.into_iter()), &method, seed)
    });
    Ok(rows.collect())
}

/// Items in groups of equal value, from the smallest on: of each item, the number of its group.
struct Order {
    group: Vec<usize>,
    groups: usize,
}

impl Order {
    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut group = vec![0; values.len()];
        let mut groups = 0;
        for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
            equal.iter().for_each(|&i| group[i] = groups);
            groups += 1;
        }
        Self { group, groups }
    }

    /// Mann and Whitney's U: how many pairs have the first the larger; ties count half.
    fn area(&self, positives: &[usize], negatives: &[usize]) -> f64 {
        let count = |items: &[usize]| {
            let mut counts = vec![0u64; self.groups];
            items.iter().for_each(|&i| counts[self.group[i]] += 1);
            counts
        };
        let (mut below, mut area) = (0.0, 0.0);
        for (positive, negative) in count(positives).into_iter().zip(count(negatives)) {
            area += positive as f64 * (below + negative as f64 / 2.0);
            below += negative as f64;
        }
        area
    }
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
            ..ScoreRow::default()
        };
        Scored { name: name.to_owned(), of: BTreeMap::new(), rows: values.iter().enumerate().map(row).collect() }
    }

    fn about(scored: Scored, label: &str) -> Scored {
        Scored { of: BTreeMap::from([("circuit".to_owned(), label.to_owned())]), ..scored }
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let truth = [scored("truth", &[1.0, 1.0, 0.0, 0.0, 0.0])];
        let rows = auroc(&[scored("a", &[-0.9, 0.2, 0.2, 0.1, 0.0])], &truth, 0).unwrap();
        // Absolute: 0.9 above all three, 0.2 above two and tied with one. Signed: -0.9 below all.
        assert_eq!((rows[0].name.as_str(), rows[0].value, rows[0].numerator), ("auroc_abs", 5.5 / 6.0, Some(5.5)));
        assert_eq!((rows[1].name.as_str(), rows[1].value, rows[1].denominator), ("auroc_signed", 2.5 / 6.0, Some(6.0)));
        assert!(rows[0].low <= Some(rows[0].value) && Some(rows[0].value) <= rows[0].high);
        let all_equal = auroc(&[scored("a", &[0.0; 5])], &truth, 0).unwrap();
        assert_eq!((all_equal[0].value, all_equal[0].low, all_equal[0].high), (0.5, Some(0.5), Some(0.5)));
    }

    #[test]
    fn random_scores_are_right_half_of_the_time() {
        let truth: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i % 10 == 0))).collect();
        let truth = [scored("truth", &truth)];
        let rows = auroc(&[scored("a", &truth[0].rows.iter().map(|row| row.value).collect::<Vec<_>>())], &truth, 5);
        let rows = rows.unwrap();
        assert_eq!((rows[0].value, rows[0].low), (1.0, Some(1.0)));
        for row in &rows[2..] {
            // Standard deviation of one area: sqrt(101 / (12 · 10 · 90)) = 0.097; of the mean of 200 it is 0.007.
            assert!(row.tags["method"] == "random" && (row.value - 0.5).abs() < 0.03, "{row:?}");
            assert!((row.low.unwrap() - 0.31).abs() < 0.06 && (row.high.unwrap() - 0.69).abs() < 0.06, "{row:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let truth = scored("truth", &[1.0, 0.0, 0.0]);
        let why = |methods: &[Scored], truths: &[Scored]| auroc(methods, truths, 0).unwrap_err().to_string();
        let truths = std::slice::from_ref(&truth);
        assert_eq!(
            why(&[scored("eap", &[1.0, 0.0])], truths),
            "`eap` does not score the mediators of the truth: it has no `m2`"
        );
        assert!(why(&[scored("eap", &[0.0; 8])], truths).ends_with("the truth has no `m3`, `m4`, `m5` and 2 more"));
        assert!(why(&[scored("eap", &[1.0, f64::NAN, 0.0])], truths).contains("`m1`"));
        assert!(why(&[scored("eap", &[0.0; 3])], &[scored("truth", &[0.5, 0.0, 1.0])]).contains("neither 0 nor 1"));
        assert!(why(&[scored("eap", &[0.0; 3])], &[scored("truth", &[0.0; 3])]).contains("the same of all"));
        let other = about(scored("eap", &[0.0; 3]), "induction");
        let truths = [about(scored("truth", &[1.0, 0.0, 0.0]), "ioi")];
        assert_eq!(why(&[other], &truths), "there are 0 truths about the scores `eap[circuit=induction]`, not one");
    }
}
