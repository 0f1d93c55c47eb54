//! Which sets of a family are measured for a list of scores.

use std::collections::BTreeSet;

use mediant_artifact::{Budget, Mediator};

use super::sizes::{Selection, Sizes, benchmark_sizes, random_order};
use super::{Family, ItemSet};

/// Most items of a set that are taken out alone.
const MOST_REMOVED: usize = 100;

/// What is measured of the sets that the scores choose, and besides them.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Which sizes both selections have.
    pub sizes: Sizes,
    /// Random sets of every one of MIB's sizes.
    pub draws: u32,
    /// The share of all items from whose set, chosen by signed scores, items are taken out one by one.
    pub minimality_at: f64,
    /// Of the random sets.
    pub seed: u64,
}

/// A set, and what it is to be called.
pub struct Asked {
    /// The items that are kept.
    pub set: ItemSet,
    /// Its name, kind and size. Kinds: `kept_signed`, `kept_absolute`, `complement_signed`, `complement_absolute`, `removed`,
    /// `without_error`, `random`.
    pub mediator: Mediator,
}

/// The sets: of the wanted sizes by both selections, nothing and everything among them; the complements of those of MIB's sizes; one of them
/// without each of its items (100 of them, drawn, where it has more); all but the error, where one is an item; random ones of MIB's
/// sizes.
pub fn plan(family: &Family, scores: &[f64], names: &[&str], controls: Controls) -> Vec<Asked> {
    let of = family.len();
    let chosen = chosen_set(scores, controls.minimality_at);
    let base = chosen.len();
    let mut all = Vec::new();
    let mut ask = |name: String, kind: &str, size: usize, draw: Option<u32>, set: ItemSet| {
        let budget = Budget { kept: size as u32, of: of as u32, weighted_edges: family.weighted_edges(&set), draw };
        let mediator = Mediator { name, kind: kind.to_owned(), budget: Some(budget), ..Mediator::default() };
        all.push(Asked { set, mediator });
    };
    for selection in Selection::ALL {
        let (order, name) = (selection.order(scores), selection.name());
        let first = |size: usize| ItemSet::from_items(of, order[..size].iter().copied());
        let measured: BTreeSet<usize> = controls.sizes.of(of).into_iter().chain([base]).collect();
        for size in measured {
            ask(format!("{name} {size}"), &format!("kept_{name}"), size, None, first(size));
        }
        for size in benchmark_sizes(of) {
            let complement = first(size).complement();
            ask(format!("{name} all but {size}"), &format!("complement_{name}"), size, None, complement);
        }
    }
    let order = Selection::Signed.order(scores);
    let mut removed = order[..base].to_vec();
    if base > MOST_REMOVED {
        removed = random_order(base, controls.seed, 0)[..MOST_REMOVED].iter().map(|place| order[*place]).collect();
    }
    for item in removed {
        let mut set = chosen.clone();
        set.remove(item);
        ask(format!("signed {base} without {}", names[item]), "removed", base, None, set);
    }
    if let Some(error) = family.error() {
        let set = ItemSet::from_items(of, [error]).complement();
        ask("all but the error".to_owned(), "without_error", of - 1, None, set);
    }
    for draw in 0..controls.draws {
        let order = random_order(of, controls.seed, draw);
        for size in benchmark_sizes(of).into_iter().filter(|size| *size < of) {
            let set = ItemSet::from_items(of, order[..size].iter().copied());
            ask(format!("random {size} of draw {draw}"), "random", size, Some(draw), set);
        }
    }
    all
}

/// The set of a share of all items, one at least if there is any, by signed scores: the one from which items are taken out.
pub fn chosen_set(scores: &[f64], share: f64) -> ItemSet {
    let of = scores.len();
    let size = ((share * of as f64).round() as usize).max(1).min(of);
    ItemSet::from_items(of, Selection::Signed.order(scores)[..size].iter().copied())
}
