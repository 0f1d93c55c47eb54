//! Effects of one family and search, summed by what the bootstrap draws.

use std::collections::BTreeMap;

use mediant_artifact::{Artifact, Digest, Effects, Mediator};

use crate::{Error, Result};

/// What was measured of the sets of one family that one search chose.
pub struct Entry {
    /// The axes that tell it from the others.
    pub labels: BTreeMap<String, String>,
    /// What the items are.
    pub mediator: String,
    /// The search.
    pub search: String,
    /// Forward-pass equivalents over the search's prompts.
    pub search_passes: f64,
    /// Forward-pass equivalents over the evaluation's prompts.
    pub passes: f64,
    /// Whether the search had shuffled labels.
    pub shuffled: bool,
    /// What becomes of what is outside the family.
    pub outside: String,
    /// What is measured of the answer.
    pub metric: String,
    /// Number of items.
    pub items: usize,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the prompts.
    pub prompts: Digest,
    /// Prompts.
    pub examples: u64,
    /// The sets.
    pub sets: Vec<Mediator>,
    /// Sums over the prompts of each group.
    pub groups: Vec<Sums>,
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
    pub fn read(artifact: &Artifact, labels: BTreeMap<String, String>) -> Result<Self> {
        let effects = Effects::open(artifact)?;
        let settings = &effects.meta.settings;
        let setting = |name: &str| {
            settings.get(name).cloned().ok_or_else(|| {
                let method = &effects.meta.method;
                Error::Data(format!("these effects are of `{method}`; those of `evaluate_mediator` can be compared"))
            })
        };
        let (mediator, search) = (setting("mediator")?, setting("search")?);
        if effects.mediators.iter().any(|set| set.budget.is_none()) {
            return Err(Error::Data("these effects are not of sets of mediators".to_owned()));
        }
        let mut places = BTreeMap::new();
        let group_of = effects.examples.iter().map(|example| {
            let next = places.len();
            *places.entry((example.task.as_str(), example.group.as_str())).or_insert(next)
        });
        let group_of: Vec<usize> = group_of.collect();
        let empty = Sums { patched: vec![0.0; effects.mediators.len()], ..Sums::default() };
        let mut groups = vec![empty; places.len()];
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
        let number =
            |name| setting(name)?.parse().map_err(|_| Error::Data(format!("`{name}` of the effects is no number")));
        Ok(Self {
            labels,
            mediator,
            search,
            search_passes: number("search_passes")?,
            passes: effects.meta.passes,
            shuffled: setting("shuffled_labels")? == "true",
            outside: setting("outside")?,
            metric: effects.meta.metric.clone(),
            items: number("items")? as usize,
            model: effects.meta.model,
            prompts: effects.meta.prompts,
            examples: effects.meta.examples,
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

    /// Its name among others: `heads by eap`, and its labels.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(",")) };
        format!("{} by {}{labels}", self.mediator, self.search)
    }
}
