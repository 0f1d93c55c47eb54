//! Greedy forward selection: item after item, the one that brings the metric nearest to the clean run's.

use mediant_lm::Model;
use mediant_tensor::Compute;
use rayon::prelude::*;

use super::bench::Bench;
use super::{Family, ItemSet};
use crate::{Error, Metric, Pairs, Result};

/// What greedy selection found.
pub struct Greedy {
    /// The items in the order in which they were taken, each with the faithfulness of the set that it completes.
    pub taken: Vec<(usize, f64)>,
    /// Forward passes over every prompt.
    pub passes: f64,
}

/// Takes all items, at each step the one whose set has the largest faithfulness F = (m(kept) − m(counterfactual)) / (m(clean) −
/// m(counterfactual)), means over the prompts; of equal ones the first. For N items that is N(N + 1)/2 passes. Activations of all
/// prompts stay in memory. `progress` hears how many items of how many are taken.
///
/// # Errors
/// [`Error::Data`] without counterfactuals or if clean and counterfactual runs do not differ, and whatever the passes give.
pub fn greedy<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    family: &Family,
    metric: Metric,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Greedy, E> {
    let bench = |range| -> Result<Bench<'_, C>> {
        Bench::new(model, family, pairs.batch::<C>(range, model.config(), &model.device())?, metric)
    };
    let benches = pairs.ranges().into_iter().map(bench).collect::<Result<Vec<_>>>()?;
    let clean: f64 = benches.iter().flat_map(|bench| &bench.clean).sum();
    let counterfactual: f64 = benches.iter().flat_map(|bench| &bench.counterfactual).sum();
    if clean == counterfactual {
        return Err(
            Error::Data("the prompts' runs do not differ from those of their counterfactuals".to_owned()).into()
        );
    }
    let faithfulness = |set: &ItemSet| -> Result<f64> {
        let mut kept = 0.0;
        for bench in &benches {
            kept += bench.values(set)?.iter().sum::<f64>();
        }
        Ok((kept - counterfactual) / (clean - counterfactual))
    };
    let mut kept = ItemSet::none(family.len());
    let mut found = Greedy { taken: Vec::with_capacity(family.len()), passes: 2.0 };
    while found.taken.len() < family.len() {
        let left: Vec<usize> = kept.complement().items().collect();
        let tried: Result<Vec<f64>> = left
            .par_iter()
            .map(|&item| {
                let mut set = kept.clone();
                set.insert(item);
                faithfulness(&set)
            })
            .collect();
        found.passes += left.len() as f64;
        let best = left.into_iter().zip(tried?).reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((item, faithfulness)) = best else { break };
        kept.insert(item);
        found.taken.push((item, faithfulness));
        progress(found.taken.len(), family.len())?;
    }
    Ok(found)
}
