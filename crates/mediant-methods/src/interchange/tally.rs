use std::collections::BTreeMap;

use super::judge::Side;
use super::run::Exchanged;
use crate::Pairs;
use crate::bootstrap::{Estimate, Totals, estimates, merged};

/// Interchange-intervention accuracies of one choice of features, over groups of prompts.
#[derive(Clone, Debug)]
pub struct Tally {
    group: Vec<usize>,
    /// By group: right, exact and all of each side.
    sums: Vec<Totals>,
}

/// The places of a side's sums.
const fn places(side: Side) -> [usize; 3] {
    match side {
        Side::Cause => [0, 1, 2],
        Side::Isolate => [3, 4, 5],
    }
}

/// A share, NaN of nothing.
fn over(sums: &Totals, above: &[usize], below: &[usize]) -> f64 {
    let sum = |places: &[usize]| places.iter().map(|&place| sums.at(place)).sum::<f64>();
    sum(above) / sum(below)
}

/// An accuracy with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// `iia`, `iia_exact`, `cause`, `isolate`, `disentangle`.
    pub name: &'static str,
    /// The share and its 95 percent interval over groups.
    pub estimate: Estimate,
    /// Number of prompts.
    pub n: u64,
}

/// A share of the prompts, from their counts.
type Share = fn(&Totals) -> f64;

impl Tally {
    /// Of these prompts, none of which has been counted.
    pub fn new(pairs: &Pairs) -> Self {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let groups = pairs.prompts().iter().map(|prompt| {
            let next = known.len();
            *known.entry(&prompt.group).or_insert(next)
        });
        let group: Vec<usize> = groups.collect();
        Self { sums: vec![Totals(vec![0.0; 6]); known.len()], group }
    }

    /// Counts prompts, the first of which has this number. Those that have no position of the site do not count.
    pub fn add(&mut self, first: u32, prompts: &[Exchanged]) {
        for (index, prompt) in prompts.iter().enumerate().filter(|(_, prompt)| prompt.reached) {
            let sums = &mut self.sums[self.group[first as usize + index]];
            let [right, exact, all] = places(prompt.side);
            sums.add(right, f64::from(u8::from(prompt.right)));
            sums.add(exact, f64::from(u8::from(prompt.top)));
            sums.add(all, 1.0);
        }
    }

    /// `iia`: the share of all prompts that answer as expected. `iia_exact`: the same by the largest logit. Where there are prompts of both
    /// sides also `cause` and `isolate`, the share of each, and `disentangle`, the mean of the two (Huang et al. 2024, arXiv:2402.17700). Nothing
    /// if no prompt counts.
    pub fn accuracies(&self, seed: u64) -> Vec<Accuracy> {
        let all = merged(&self.sums);
        let (cause, isolate) = (all.at(2), all.at(5));
        let n = cause + isolate;
        if n == 0.0 {
            return Vec::new();
        }
        let of: [(&'static str, f64, Share); 5] = [
            ("iia", n, |sums| over(sums, &[0, 3], &[2, 5])),
            ("iia_exact", n, |sums| over(sums, &[1, 4], &[2, 5])),
            ("cause", cause, |sums| over(sums, &[0], &[2])),
            ("isolate", isolate, |sums| over(sums, &[3], &[5])),
            ("disentangle", n, |sums| (over(sums, &[0], &[2]) + over(sums, &[3], &[5])) / 2.0),
        ];
        let shown = if cause > 0.0 && isolate > 0.0 { of.len() } else { 2 };
        let found = estimates(&self.sums, &of.map(|(_, _, share)| share), seed);
        let named = of.into_iter().zip(found).take(shown);
        named.map(|((name, n, _), estimate)| Accuracy { name, estimate, n: n as u64 }).collect()
    }
}
