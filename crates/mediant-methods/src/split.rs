//! Prompts that are trained on, and prompts that are held out.

use std::collections::BTreeSet;

use mediant_tensor::random::{shuffle, stream};

use crate::{Error, Pairs, Result};

/// The prompts in two parts by their groups, so that prompts that are alike are on one side: training and test, each in order. The share of the
/// groups that is held out is rounded to at least one group, and leaves at least one; nothing is held out of 0.
///
/// # Errors
/// [`Error::Data`] if something is to be held out of one group.
pub fn split(pairs: &Pairs, test_fraction: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    let all = 0..pairs.prompts().len();
    if test_fraction <= 0.0 {
        return Ok((all.collect(), Vec::new()));
    }
    let groups: BTreeSet<&str> = pairs.prompts().iter().map(|prompt| prompt.group.as_str()).collect();
    let mut groups: Vec<&str> = groups.into_iter().collect();
    if groups.len() < 2 {
        return Err(Error::Data("all prompts are of one group: none can be held out".to_owned()));
    }
    shuffle(&mut stream(seed, "split"), &mut groups);
    let test = ((groups.len() as f64 * test_fraction).round() as usize).clamp(1, groups.len() - 1);
    let test: BTreeSet<&str> = groups[..test].iter().copied().collect();
    Ok(all.partition(|&index| !test.contains(pairs.prompts()[index].group.as_str())))
}
