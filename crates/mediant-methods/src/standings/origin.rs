//! Where effects come from that are compared.

use std::collections::BTreeMap;

use mediant_artifact::{Digest, Effects, SearchFacts};

use super::search::Search;
use crate::{Error, Result, SEARCHED_IN};

/// What was searched for and how, and on which model and prompts it was measured.
pub struct Origin {
    /// The search, and how it is measured.
    pub search: Search,
    /// Forward-pass equivalents over the search's prompts.
    pub search_passes: f64,
    /// Forward-pass equivalents over the evaluation's prompts.
    pub passes: f64,
    /// Digest of the model that was searched in, where it is known.
    pub searched_in: Option<String>,
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
        let settings = &effects.meta.settings;
        let search = Search {
            labels,
            facts: SearchFacts {
                mediator: setting(effects, "mediator")?,
                method: setting(effects, "search")?,
                shuffled: settings.get("shuffled_labels").map(|shuffled| shuffled == "true"),
            },
            metric: effects.meta.metric.clone(),
            outside: settings.get("outside").cloned(),
        };
        Ok(Self {
            search,
            search_passes: number(effects, "search_passes")?,
            passes: effects.meta.passes,
            searched_in: settings.get(SEARCHED_IN).cloned(),
            model: effects.meta.model,
            prompts: effects.meta.prompts,
            examples: effects.meta.examples,
        })
    }

    /// Whether `control` is a control of it, measured on the same prompts.
    pub fn is_controlled_by(&self, control: &Self) -> bool {
        self.search.is_controlled_by(&control.search) && self.prompts == control.prompts
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
