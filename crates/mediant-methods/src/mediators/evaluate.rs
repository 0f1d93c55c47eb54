//! Measures sets: every different set once.

use std::collections::HashMap;

use mediant_lm::Model;
use mediant_tensor::Compute;
use rayon::prelude::*;

use super::bench::Bench;
use super::latents::share_above;
use super::{Family, ItemSet};
use crate::{Metric, Pairs, Result, Sink};

/// Sets that are measured between two looks at whether the run is being cancelled.
const TOGETHER: usize = 64;

/// How many sets were asked for, and how many passes they took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Sets asked for.
    pub asked: usize,
    /// Different sets: each was measured once.
    pub distinct: usize,
    /// Passes over each prompt, the clean and the counterfactual one among them; one that begins above some layers counts as its share.
    pub passes: f64,
}

/// The metric of every prompt with each of these sets kept and everything else patched with its counterfactual; recorded under the
/// set's number. `progress` hears how many sets of how many are done, over all batches of prompts.
///
/// # Errors
/// [`crate::Error::Data`] without counterfactuals, and whatever the passes and the recorder give.
pub fn evaluate_sets<C: Compute, E: From<crate::Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    family: &Family,
    sets: &[&ItemSet],
    metric: Metric,
    recorder: &mut impl Sink,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Counted, E> {
    let mut places: HashMap<&ItemSet, usize> = HashMap::new();
    let mut distinct: Vec<&ItemSet> = Vec::new();
    let place_of = sets.iter().map(|set| {
        *places.entry(set).or_insert_with(|| {
            distinct.push(set);
            distinct.len() - 1
        })
    });
    let place_of: Vec<usize> = place_of.collect();
    let ranges = pairs.ranges();
    let total = ranges.len() * distinct.len();
    let passes = 2.0 + share_above(family, model) * distinct.len() as f64;
    for (index, range) in ranges.into_iter().enumerate() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let bench = Bench::new(model, family, pair, metric)?;
        recorder.count(range.len(), passes);
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(distinct.len());
        for some in distinct.chunks(TOGETHER) {
            let measured: Result<Vec<Vec<f64>>> = some.par_iter().map(|set| bench.values(set)).collect();
            values.extend(measured?);
            progress(index * distinct.len() + values.len(), total)?;
        }
        for (number, &place) in place_of.iter().enumerate() {
            let (clean, counterfactual) = (&bench.clean, &bench.counterfactual);
            recorder.record_where(number, bench.first(), clean, Some(counterfactual), &values[place], |_| true)?;
        }
    }
    Ok(Counted { asked: sets.len(), distinct: distinct.len(), passes })
}
