//! Percentile bootstrap intervals of metrics that are functions of sums (Efron & Tibshirani 1993, chapter 13).

use mediant_tensor::random::{below, stream};
use rayon::prelude::*;

/// Draws of an interval.
pub const DRAWS: usize = 1000;

/// Sums over a group of items; those of two groups together are the merged sums.
pub trait Sums: Default + Clone + Send + Sync {
    /// Adds the sums of another group.
    fn merge(&mut self, other: &Self);
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
    let draws = draws(groups.len(), seed);
    let values: Vec<Vec<f64>> = draws
        .par_iter()
        .map(|draw| {
            let mut sums = S::default();
            draw.iter().for_each(|&group| sums.merge(&groups[group]));
            metrics.iter().map(|metric| metric(&sums)).collect()
        })
        .collect();
    let interval = |metric: usize| {
        let mut values: Vec<f64> = values.iter().map(|draw| draw[metric]).filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        Some((quantile(&values, 0.025)?, quantile(&values, 0.975)?))
    };
    (0..metrics.len()).map(interval).collect()
}

/// Which groups each draw holds, from the stream (`seed`, "bootstrap").
pub(crate) fn draws(groups: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = stream(seed, "bootstrap");
    (0..DRAWS).map(|_| (0..groups).map(|_| below(&mut rng, groups as u64) as usize).collect()).collect()
}

/// The value at a share of a sorted list, between neighbours by linear interpolation.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
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
