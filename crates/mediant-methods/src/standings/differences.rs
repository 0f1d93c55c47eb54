//! Paired differences between searches, with p-values corrected for their number.

use std::collections::BTreeMap;

use mediant_artifact::Digest;
use rayon::prelude::*;

use super::exchanged::Exchange;
use super::origin::Origin;
use super::standing::Standing;
use crate::bootstrap::{central, over_draws};

/// Draws of a p-value: enough that correction for some hundreds of differences leaves something to see.
const DRAWS: usize = 100_000;

/// What is compared: a ratio of sums over groups of prompts.
pub struct Contender<'e> {
    /// Where it comes from.
    pub origin: &'e Origin,
    /// `cpr_signed` or `iia`.
    pub measure: &'static str,
    /// Of `iia`, where, and how many features; empty of `cpr_signed`.
    pub site: String,
    /// How many features; none of sets, and of a mask, which chooses.
    pub size: Option<u32>,
    /// What becomes of what is outside the family; empty of features.
    pub outside: &'e str,
    /// The number itself.
    pub value: f64,
    /// Numerator and denominator by group.
    ratio: Vec<[f64; 2]>,
}

/// How much higher the number of one is than that of another, on the same model and prompts.
pub struct Difference {
    /// Which, by its place.
    pub a: usize,
    /// Than which.
    pub b: usize,
    /// That of `a` less that of `b`.
    pub value: f64,
    /// The central 95 percent over draws of groups of prompts, the same for both.
    pub interval: Option<(f64, f64)>,
    /// Two-sided: twice the smaller share of draws on one side of 0, and at least that of a sign test in which all groups agree.
    pub p: f64,
    /// The same after Holm's correction over all differences (Holm 1979).
    pub p_holm: f64,
}

impl<'e> Contender<'e> {
    /// The CPR of a search, by signed selection.
    pub fn of_sets(standing: &Standing<'e>) -> Self {
        let ratio = standing.cpr_by_group();
        Self {
            origin: &standing.entry.origin,
            measure: "cpr_signed",
            site: String::new(),
            size: None,
            outside: standing.entry.origin.search.outside.as_deref().unwrap_or_default(),
            value: over(ratio.iter()),
            ratio,
        }
    }

    /// The interchange-intervention accuracy of features at a site.
    pub fn of_exchange(exchange: &Exchange<'e>) -> Self {
        Self {
            origin: &exchange.of.origin,
            measure: "iia",
            site: exchange.site().to_owned(),
            size: (!exchange.is_masked()).then(|| exchange.size()),
            outside: "",
            value: exchange.iia.value,
            ratio: exchange.ratio.clone(),
        }
    }

    /// What must be the same of two that are compared.
    fn bucket(&self) -> (Digest, Digest, &'static str, &str, &str) {
        (self.origin.model, self.origin.prompts, self.measure, &self.origin.search.metric, &self.site)
    }
}

fn over<'r>(ratio: impl Iterator<Item = &'r [f64; 2]>) -> f64 {
    let [above, below] = ratio.fold([0.0, 0.0], |[a, b], [above, below]| [a + above, b + below]);
    above / below
}

/// The differences of every two of one measure, model and site, on the same prompts. The draws are those of the stream (`seed`, "bootstrap").
pub fn differences(contenders: &[Contender<'_>], seed: u64) -> Vec<Difference> {
    let mut buckets: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, contender) in contenders.iter().enumerate() {
        buckets.entry(contender.bucket()).or_default().push(place);
    }
    let mut all: Vec<Difference> = buckets.values().flat_map(|places| within(contenders, places, seed)).collect();
    all.sort_by_key(|difference| (difference.a, difference.b));
    let corrected = holm(&all.iter().map(|difference| difference.p).collect::<Vec<_>>());
    all.iter_mut().zip(corrected).for_each(|(difference, p)| difference.p_holm = p);
    all
}

/// The differences of every two of these.
fn within(contenders: &[Contender<'_>], places: &[usize], seed: u64) -> Vec<Difference> {
    let pairs = places.iter().enumerate().flat_map(|(i, &a)| places[i + 1..].iter().map(move |&b| (a, b)));
    let pairs: Vec<(usize, usize)> = pairs.collect();
    let groups = places.first().map_or(0, |place| contenders[*place].ratio.len());
    let drawn: Vec<Vec<f64>> = match groups {
        0 | 1 => Vec::new(),
        _ => over_draws(groups, seed, DRAWS, |draw| {
            places.iter().map(|place| over(draw.iter().map(|group| &contenders[*place].ratio[*group]))).collect()
        }),
    };
    let of_place = |place: usize| places.iter().position(|known| *known == place).unwrap_or(0);
    // So few groups cannot say more, however alike they are: 2 · 2⁻ᴳ.
    let least = 2f64.powi(1 - i32::try_from(groups).unwrap_or(i32::MAX));
    let difference = |&(a, b): &(usize, usize)| {
        let (x, y) = (of_place(a), of_place(b));
        let drawn: Vec<f64> = drawn.iter().map(|draw| draw[x] - draw[y]).collect();
        let (value, p) = (contenders[a].value - contenders[b].value, two_sided(&drawn).max(least));
        Difference { a, b, value, interval: central(drawn.into_iter()), p, p_holm: p }
    };
    pairs.par_iter().map(difference).collect()
}

/// With one added to both counts, so that no p is 0 (Davison & Hinkley 1997, section 4.2). NaN without draws.
fn two_sided(drawn: &[f64]) -> f64 {
    if drawn.is_empty() {
        return f64::NAN;
    }
    let side = |holds: fn(f64) -> bool| drawn.iter().filter(|value| holds(**value)).count();
    let least = side(|value| value <= 0.0).min(side(|value| value >= 0.0));
    (2.0 * (least as f64 + 1.0) / (drawn.len() as f64 + 1.0)).min(1.0)
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
        assert!((two_sided(&[1.0; 1000]) - 2.0 / 1001.0).abs() < 1e-12);
        let both: Vec<f64> = (0..1000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(two_sided(&both), 1.0);
    }
}
