//! Where effects come from that are compared.

use std::collections::BTreeMap;

use mediant_artifact::{Digest, Effects};

use crate::{Error, Result};

/// What was searched for and how, and on which model and prompts it was measured.
pub struct Origin {
    /// The axes that tell it from the others.
    pub labels: BTreeMap<String, String>,
    /// What the items are: `heads`, `edges`, `directions`, ...
    pub mediator: String,
    /// The search.
    pub search: String,
    /// Forward-pass equivalents over the search's prompts.
    pub search_passes: f64,
    /// Forward-pass equivalents over the evaluation's prompts.
    pub passes: f64,
    /// Whether the search had shuffled labels; none where it has no labels.
    pub shuffled: Option<bool>,
    /// Digest of the model that was searched in, where it is known.
    pub searched_in: Option<String>,
    /// What is measured of the answer.
    pub metric: String,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the prompts.
    pub prompts: Digest,
    /// Prompts.
    pub examples: u64,
}

impl Origin {
    /// Of effects of `evaluate_mediator` or answers of `interchange`.
    ///
    /// # Errors
    /// [`Error::Data`] for effects of another method.
    pub(super) fn of(effects: &Effects, labels: BTreeMap<String, String>) -> Result<Self> {
        Ok(Self {
            labels,
            mediator: setting(effects, "mediator")?,
            search: setting(effects, "search")?,
            search_passes: number(effects, "search_passes")?,
            passes: effects.meta.passes,
            shuffled: effects.meta.settings.get("shuffled_labels").map(|shuffled| shuffled == "true"),
            searched_in: effects.meta.settings.get("searched_in").cloned(),
            metric: effects.meta.metric.clone(),
            model: effects.meta.model,
            prompts: effects.meta.prompts,
            examples: effects.meta.examples,
        })
    }

    /// Its name among others: `heads by eap`, and its labels.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(",")) };
        format!("{} by {}{labels}", self.mediator, self.search)
    }

    /// Whether `control` is the same search of the same kind of mediator, measured on the same prompts, and, of the labels that both have, has
    /// the same.
    pub fn is_controlled_by(&self, control: &Self) -> bool {
        let what =
            |origin: &Self| (origin.mediator.clone(), origin.search.clone(), origin.metric.clone(), origin.prompts);
        what(self) == what(control)
            && control.labels.iter().all(|(axis, label)| self.labels.get(axis).is_none_or(|own| own == label))
    }
}

/// What the effects say of their search.
pub(super) fn setting(effects: &Effects, name: &str) -> Result<String> {
    effects.meta.settings.get(name).cloned().ok_or_else(|| {
        let method = &effects.meta.method;
        Error::Data(format!(
            "these effects are of `{method}`; what can be compared are `effects` of `evaluate_mediator` and `answers` of `interchange`"
        ))
    })
}

/// The same, of a number.
pub(super) fn number(effects: &Effects, name: &str) -> Result<f64> {
    setting(effects, name)?.parse().map_err(|_| Error::Data(format!("`{name}` of the effects is no number")))
}

/// The group of every example, counted from 0, and how many groups there are.
pub(super) fn groups(effects: &Effects) -> (Vec<usize>, usize) {
    let mut places = BTreeMap::new();
    let group_of = effects.examples.iter().map(|example| {
        let next = places.len();
        *places.entry((example.task.as_str(), example.group.as_str())).or_insert(next)
    });
    let group_of: Vec<usize> = group_of.collect();
    (group_of, places.len())
}
