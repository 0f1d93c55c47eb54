//! Percentile bootstrap intervals of metrics that are functions of sums (Efron & Tibshirani 1993, chapter 13).

use mediant_tensor::random::{below, stream};
use rayon::prelude::*;

/// Draws of an interval.
pub const DRAWS: usize = 1000;

/// Draws that are in memory at once.
const HELD: usize = 64;

/// Sums over a group of items; those of two groups together are the merged sums.
pub trait Sums: Default + Clone + Send + Sync {
    /// Adds the sums of another group.
    fn merge(&mut self, other: &Self);
}

/// Sums that are told apart by their place. Merging adds place by place; what is not there yet is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals(pub Vec<f64>);

impl Totals {
    /// Adds to the sum at a place.
    pub fn add(&mut self, place: usize, value: f64) {
        if self.0.len() <= place {
            self.0.resize(place + 1, 0.0);
        }
        self.0[place] += value;
    }

    /// The sum at a place.
    pub fn at(&self, place: usize) -> f64 {
        self.0.get(place).copied().unwrap_or(0.0)
    }

    /// One sum over another.
    pub fn ratio(&self, above: usize, below: usize) -> f64 {
        self.at(above) / self.at(below)
    }
}

impl Sums for Totals {
    fn merge(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0.0);
        self.0.iter_mut().zip(&other.0).for_each(|(sum, other)| *sum += other);
    }
}

/// The sums of all groups together.
pub fn merged<S: Sums>(groups: &[S]) -> S {
    let mut all = S::default();
    groups.iter().for_each(|group| all.merge(group));
    all
}

/// A number with its interval, where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Over all groups.
    pub value: f64,
    /// The 95 percent interval.
    pub interval: Option<(f64, f64)>,
}

/// Each metric over all groups, with its interval as [`intervals`] takes it.
pub fn estimates<S: Sums, M: Fn(&S) -> f64 + Sync>(groups: &[S], metrics: &[M], seed: u64) -> Vec<Estimate> {
    let all = merged(groups);
    let intervals = intervals(groups, metrics, seed).into_iter();
    metrics.iter().zip(intervals).map(|(metric, interval)| Estimate { value: metric(&all), interval }).collect()
}

/// The 95 percent interval of each metric, over groups: [`DRAWS`] times as many groups as there are, drawn with
/// replacement, all metrics on the same draws. Draws in which a metric is NaN do not count for it; `None` where there are
/// fewer than two groups or nothing counts.
///
/// The draws come from the stream (`seed`, "bootstrap").
pub fn intervals<S: Sums, M: Fn(&S) -> f64 + Sync>(groups: &[S], metrics: &[M], seed: u64) -> Vec<Option<(f64, f64)>> {
    if groups.len() < 2 {
        return vec![None; metrics.len()];
    }
    let values: Vec<Vec<f64>> = over_draws(groups.len(), seed, DRAWS, |draw| {
        let mut sums = S::default();
        draw.iter().for_each(|&group| sums.merge(&groups[group]));
        metrics.iter().map(|metric| metric(&sums)).collect()
    });
    (0..metrics.len()).map(|metric| central(values.iter().map(|draw| draw[metric]))).collect()
}

/// A function of the groups that each of `count` draws holds, a few draws in memory at once. The first are those of [`draws`].
pub(crate) fn over_draws<T: Send>(groups: usize, seed: u64, count: usize, of: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
    let mut draw = drawing(groups, seed, "bootstrap");
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let draws: Vec<_> = (0..HELD.min(count - all.len())).map(|_| draw()).collect();
        all.par_extend(draws.par_iter().map(|draw| of(draw)));
    }
    all
}

/// Which groups each draw holds, from the stream (`seed`, "bootstrap").
pub(crate) fn draws(groups: usize, seed: u64) -> Vec<Vec<usize>> {
    draws_of(groups, seed, "bootstrap")
}

/// Which groups each draw holds, from the stream of a purpose.
pub(crate) fn draws_of(groups: usize, seed: u64, purpose: &str) -> Vec<Vec<usize>> {
    let mut draw = drawing(groups, seed, purpose);
    (0..DRAWS).map(|_| draw()).collect()
}

/// One draw after the other: as many groups as there are, with replacement.
fn drawing(groups: usize, seed: u64, purpose: &str) -> impl FnMut() -> Vec<usize> {
    let mut rng = stream(seed, purpose);
    move || (0..groups).map(|_| below(&mut rng, groups as u64) as usize).collect()
}

/// The central 95 percent of some values; NaN does not count. `None` if nothing does.
pub(crate) fn central(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    Some((quantile(&values, 0.025)?, quantile(&values, 0.975)?))
}

/// The value at a share of a sorted list, between neighbours by linear interpolation (NumPy's default).
pub(crate) fn quantile<T: Copy + Into<f64>>(sorted: &[T], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize].into(), sorted[place.ceil() as usize].into());
    // Two infinities have no difference.
    Some(if low == high { low } else { low + (high - low) * place.fract() })
}

#[cfg(test)]
mod tests {
    use super::{Sums, intervals};

    #[derive(Clone, Default)]
    struct Mean {
        sum: f64,
        n: f64,
    }

    impl Sums for Mean {
        fn merge(&mut self, other: &Self) {
            self.sum += other.sum;
            self.n += other.n;
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors_to_each_side() {
        let groups: Vec<Mean> = (0..400).map(|i| Mean { sum: f64::from(i % 20), n: 1.0 }).collect();
        let mean = |sums: &Mean| sums.sum / sums.n;
        let [Some((low, high))] = intervals(&groups, &[mean], 0)[..] else { panic!() };
        // Mean 9.5, standard deviation 5.77, standard error 0.288; 1,000 draws place an end to about 5 percent of that.
        assert!((low - (9.5 - 0.565)).abs() < 0.06 && (high - (9.5 + 0.565)).abs() < 0.06, "{low} {high}");
        assert_eq!(intervals(&groups, &[mean], 0), intervals(&groups, &[mean], 0));
        assert_ne!(intervals(&groups, &[mean], 0), intervals(&groups, &[mean], 1));
    }

    #[test]
    fn nothing_to_draw_from_gives_no_interval() {
        let mean = |sums: &Mean| sums.sum / sums.n;
        let undefined = |_: &Mean| f64::NAN;
        let one = Mean { sum: 1.0, n: 1.0 };
        assert_eq!(intervals(std::slice::from_ref(&one), &[mean], 0), [None]);
        assert_eq!(intervals(&[one.clone(), one], &[undefined], 0), [None]);
    }
}
