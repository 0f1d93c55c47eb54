//! Paired differences between searches, with p-values corrected for their number.

use super::standing::Standing;
use crate::bootstrap::{DRAWS, central};
use crate::mediators::Selection;

/// How much higher the CPR of one is than that of another, on the same model and prompts.
pub struct Difference {
    /// Which, by its place.
    pub a: usize,
    /// Than which.
    pub b: usize,
    /// CPR of `a` less that of `b`, by signed selection.
    pub value: f64,
    /// The central 95 percent over draws of groups of prompts, the same for both.
    pub interval: Option<(f64, f64)>,
    /// Two-sided: twice the smaller share of draws on one side of 0.
    pub p: f64,
    /// The same after Holm's correction over all differences (Holm 1979).
    pub p_holm: f64,
}

/// The differences of every two standings of one model and the same prompts.
pub fn differences(standings: &[Standing<'_>]) -> Vec<Difference> {
    let mut all = Vec::new();
    for (a, of_a) in standings.iter().enumerate() {
        for (b, of_b) in standings.iter().enumerate().skip(a + 1) {
            let same = |x: &Standing<'_>| (x.entry.model, x.entry.prompts, x.entry.metric.clone());
            if same(of_a) != same(of_b) {
                continue;
            }
            let (Some(x), Some(y)) = (of_a.areas_of(Selection::Signed), of_b.areas_of(Selection::Signed)) else {
                continue;
            };
            let drawn: Vec<f64> = x.drawn.iter().zip(&y.drawn).map(|(x, y)| x - y).collect();
            let p = two_sided(&drawn);
            let (value, interval) = (x.cpr.value - y.cpr.value, central(drawn.into_iter()));
            all.push(Difference { a, b, value, interval, p, p_holm: p });
        }
    }
    let corrected = holm(&all.iter().map(|difference| difference.p).collect::<Vec<_>>());
    all.iter_mut().zip(corrected).for_each(|(difference, p)| difference.p_holm = p);
    all
}

/// With one added to both counts, so that no p is 0 (Davison & Hinkley 1997, section 4.2). NaN without draws.
fn two_sided(drawn: &[f64]) -> f64 {
    if drawn.is_empty() {
        return f64::NAN;
    }
    let side = |holds: fn(f64) -> bool| drawn.iter().filter(|value| holds(**value)).count();
    let least = side(|value| value <= 0.0).min(side(|value| value >= 0.0));
    (2.0 * (least as f64 + 1.0) / (DRAWS as f64 + 1.0)).min(1.0)
}

/// Holm's step-down correction: the i-th smallest of m is multiplied by m − i + 1, and none falls below one before it. NaN stays, and
/// counts for nothing.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|i| !p[*i].is_nan()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut corrected = p.to_vec();
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(p[i] * (order.len() - rank) as f64).min(1.0);
        corrected[i] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_as_in_the_books() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        let with_nan = holm(&[f64::NAN, 0.02]);
        assert!(with_nan[0].is_nan() && with_nan[1] == 0.02);
    }

    #[test]
    fn a_difference_on_one_side_has_a_small_p() {
        assert!((two_sided(&vec![1.0; DRAWS]) - 2.0 / 1001.0).abs() < 1e-12);
        let both: Vec<f64> = (0..DRAWS).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(two_sided(&both), 1.0);
    }
}
