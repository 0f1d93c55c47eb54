//! Whether dictionaries trained alike found the same latents.

use std::collections::BTreeMap;

use mediant_artifact::MetricRow;
use mediant_dict::{Alike, Sae, match_decoders};

use crate::Result;
use crate::bootstrap::{self, intervals};

/// A cosine above which two latents count as one (Paulo & Belrose 2025, arXiv:2501.16615).
pub const SAME: f32 = 0.7;

/// Groups of latents that the bootstrap draws from, at most.
const GROUPS: usize = 1000;

/// Two dictionaries by their places, and their latents side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The first.
    pub a: usize,
    /// The second, of a later place.
    pub b: usize,
    /// Their latents.
    pub alike: Alike,
}

/// Compares every two of some dictionaries. `each` gets them one after the other, and may end the work.
///
/// # Errors
/// If two are of vectors of different widths; whatever `each` gives.
pub fn compare_dictionaries<E: From<crate::Error>>(
    saes: &[Sae],
    mut each: impl FnMut(Compared) -> Result<(), E>,
) -> Result<(), E> {
    for b in 1..saes.len() {
        for a in 0..b {
            let alike = match_decoders(&saes[a], &saes[b]).map_err(crate::Error::from)?;
            each(Compared { a, b, alike })?;
        }
    }
    Ok(())
}

/// Sums over some matched latents.
#[derive(Clone, Default)]
struct Cosines {
    sum: f64,
    same: f64,
    n: f64,
}

impl Cosines {
    fn of(cosines: impl Iterator<Item = f32>) -> Self {
        let mut all = Self::default();
        for cosine in cosines {
            all.sum += f64::from(cosine);
            all.same += f64::from(u8::from(cosine > SAME));
            all.n += 1.0;
        }
        all
    }
}

impl bootstrap::Sums for Cosines {
    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.same += other.same;
        self.n += other.n;
    }
}

impl Compared {
    /// How alike the two are; `names` of all dictionaries tell which they are.
    pub fn metrics(&self, names: &[String], seed: u64) -> Vec<MetricRow> {
        let tags = |a: usize, b: usize| {
            BTreeMap::from([("a", &names[a]), ("b", &names[b])].map(|(tag, name)| (tag.to_owned(), name.clone())))
        };
        let matched: Vec<f32> = self.alike.matched.iter().map(|one| one.cosine).collect();
        let groups: Vec<Cosines> = matched
            .chunks(matched.len().div_ceil(GROUPS).max(1))
            .map(|some| Cosines::of(some.iter().copied()))
            .collect();
        let all = Cosines::of(matched.iter().copied());
        let functions: [fn(&Cosines) -> f64; 2] = [|sums| sums.sum / sums.n, |sums| sums.same / sums.n];
        let intervals = intervals(&groups, &functions, seed);
        let row = |index: usize, name: &str| MetricRow {
            name: name.to_owned(),
            value: functions[index](&all),
            unit: "1".to_owned(),
            n: matched.len() as u64,
            low: intervals[index].map(|(low, _)| low),
            high: intervals[index].map(|(_, high)| high),
            seed: Some(seed),
            tags: tags(self.a, self.b),
            ..MetricRow::default()
        };
        let shared = MetricRow { numerator: Some(all.same), denominator: Some(all.n), ..row(1, "matched_above_0.7") };
        let nearest = |cosines: &[f32], a: usize, b: usize| MetricRow {
            name: "mean_max_cosine".to_owned(),
            value: cosines.iter().map(|x| f64::from(*x)).sum::<f64>() / cosines.len() as f64,
            unit: "1".to_owned(),
            n: cosines.len() as u64,
            tags: tags(a, b),
            ..MetricRow::default()
        };
        vec![
            row(0, "matched_cosine"),
            shared,
            nearest(&self.alike.nearest_in_b, self.a, self.b),
            nearest(&self.alike.nearest_in_a, self.b, self.a),
        ]
    }
}

/// Means over all pairs: `stability` of `matched_cosine`, `stability_above_0.7` of `matched_above_0.7`.
pub fn stability(metrics: &[MetricRow]) -> Vec<MetricRow> {
    let mean = |name: &str, as_name: &str| {
        let values: Vec<f64> = metrics.iter().filter(|row| row.name == name).map(|row| row.value).collect();
        MetricRow {
            name: as_name.to_owned(),
            value: values.iter().sum::<f64>() / values.len() as f64,
            unit: "1".to_owned(),
            n: values.len() as u64,
            ..MetricRow::default()
        }
    };
    vec![mean("matched_cosine", "stability"), mean("matched_above_0.7", "stability_above_0.7")]
}
