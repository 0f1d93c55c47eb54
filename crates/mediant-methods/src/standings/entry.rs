//! Effects of one family and search, summed by what the bootstrap draws.

use std::collections::BTreeMap;

use mediant_artifact::{Effects, Mediator};

use super::origin::{Origin, groups, number};
use crate::bootstrap::Estimate;
use crate::{Error, Result};

/// What was measured of the sets of one family that one search chose.
pub struct Entry {
    /// The search, the model, the prompts.
    pub origin: Origin,
    /// Number of items.
    pub items: usize,
    /// What neutral text loses without a set, where that was measured.
    pub off_target: Option<OffTarget>,
    /// The sets.
    pub sets: Vec<Mediator>,
    /// Sums over the prompts of each group.
    pub groups: Vec<Sums>,
}

/// By how much the loss on neutral text rises without the items of a set.
#[derive(Clone, Copy, Debug)]
pub struct OffTarget {
    /// In nats a token.
    pub rise: Estimate,
    /// Items of the set.
    pub items: f64,
    /// Predicted tokens.
    pub n: u64,
}

/// Sums of the metric over some prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the clean run.
    pub clean: f64,
    /// Of the counterfactual run.
    pub counterfactual: f64,
    /// With each set kept.
    pub patched: Vec<f64>,
}

impl Entry {
    /// Reads effects of `evaluate_mediator`.
    ///
    /// # Errors
    /// [`Error::Data`] for effects of another method, and if the artifact is damaged.
    pub fn read(effects: &Effects, labels: BTreeMap<String, String>) -> Result<Self> {
        let origin = Origin::of(effects, labels)?;
        if effects.mediators.iter().any(|set| set.budget.is_none()) {
            return Err(Error::Data("these effects are not of sets of mediators".to_owned()));
        }
        let (group_of, count) = groups(effects);
        let empty = Sums { patched: vec![0.0; effects.mediators.len()], ..Sums::default() };
        let mut groups = vec![empty; count];
        for effect in effects.rows()? {
            let effect = effect?;
            let sums = &mut groups[group_of[effect.example as usize]];
            sums.patched[effect.mediator as usize] += effect.patched;
            // Clean and counterfactual values stand beside every set; they are of the example.
            if effect.mediator == 0 {
                sums.clean += effect.clean;
                sums.counterfactual += effect.counterfactual.unwrap_or(f64::NAN);
            }
        }
        let whole: f64 = groups.iter().map(|sums| sums.clean - sums.counterfactual).sum();
        if whole == 0.0 || whole.is_nan() {
            let name = origin.search.name();
            let why =
                format!("`{name}`: the clean and the counterfactual run differ by {whole}, so that there is no F");
            return Err(Error::Data(why));
        }
        Ok(Self {
            origin,
            items: number(effects, "items")? as usize,
            off_target: off_target(effects)?,
            sets: effects.mediators.clone(),
            groups,
        })
    }

    /// The sets of a kind with their places, in the order of their sizes.
    pub fn of_kind(&self, kind: &str) -> Vec<(usize, &Mediator)> {
        let mut sets: Vec<_> = self.sets.iter().enumerate().filter(|(_, set)| set.kind == kind).collect();
        sets.sort_by_key(|(_, set)| set.budget.map(|budget| budget.kept));
        sets
    }
}

fn off_target(effects: &Effects) -> Result<Option<OffTarget>> {
    if !effects.meta.settings.contains_key("off_target_loss") {
        return Ok(None);
    }
    let interval = ["off_target_low", "off_target_high"].map(|end| number(effects, end).ok());
    Ok(Some(OffTarget {
        rise: Estimate { value: number(effects, "off_target_loss")?, interval: interval[0].zip(interval[1]) },
        items: number(effects, "off_target_items")?,
        n: number(effects, "off_target_tokens")? as u64,
    }))
}
