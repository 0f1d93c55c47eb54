//! What tells searches apart, and which is a control of which.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::SearchFacts;

/// A search for mediators, and how what it found is measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Search {
    /// The axes that tell it from the others.
    pub labels: BTreeMap<String, String>,
    /// What was searched for, and how.
    pub facts: SearchFacts,
    /// What is measured of the answer.
    pub metric: String,
    /// What becomes of what is outside the family; none of features.
    pub outside: Option<String>,
}

/// The searches at the inputs of a comparison, in order; none where nothing is known of one.
pub struct Compared<'a> {
    /// What is compared.
    pub effects: Vec<Option<&'a Search>>,
    /// The same searches with shuffled labels.
    pub shuffled: Vec<Option<&'a Search>>,
    /// The same searches in a randomly initialised model.
    pub random_model: Vec<Option<&'a Search>>,
}

/// What is wrong at an input of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `effects`, `shuffled` or `random_model`.
    pub input: &'static str,
    /// Which of the searches there; the first for what is missing.
    pub member: usize,
    /// One sentence.
    pub message: String,
}

/// The input of a comparison for searches with shuffled labels.
const SHUFFLED: &str = "shuffled";

impl Search {
    /// Its name among others: `heads by eap`, and its labels.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(",")) };
        format!("{} by {}{labels}", self.facts.mediator, self.facts.method)
    }

    /// Whether `control` is the same search for the same kind of mediator, measured alike, and, of the labels that both have, has the same.
    pub fn is_controlled_by(&self, control: &Self) -> bool {
        self.is_like(control)
            && control.labels.iter().all(|(axis, label)| self.labels.get(axis).is_none_or(|own| own == label))
    }

    fn is_like(&self, other: &Self) -> bool {
        self.facts.mediator == other.facts.mediator
            && self.facts.method == other.facts.method
            && self.metric == other.metric
            && self.outside == other.outside
    }

    /// What is said where an input has no control for it, at some place.
    pub fn uncontrolled(&self, input: &str, place: &str) -> String {
        let Self { facts: SearchFacts { mediator, method, .. }, metric, outside, .. } = self;
        let outside = outside.as_ref().map_or(String::new(), |outside| format!(", `outside: {outside}`"));
        let (which, model) = match input {
            SHUFFLED => ("with shuffled labels", "of the same model"),
            _ => ("in a randomly initialised model", "of that model"),
        };
        let name = self.name();
        format!(
            "`{name}`{place} has no control {which}: a search for {mediator} by {method}, measured by {metric}{outside} on the same prompts {model}"
        )
    }
}

impl Compared<'_> {
    /// Whether searches can be told apart, and every one has controls that are what they are taken for, none of them for nothing: what is wrong, at
    /// most one thing an input.
    pub fn mismatches(&self) -> Vec<Mismatch> {
        let effects = self.twins_or_shuffled();
        if effects.is_some() {
            return effects.into_iter().collect();
        }
        let shuffled = self.not_shuffled().or_else(|| self.unmatched(SHUFFLED, &self.shuffled));
        let random = self.shuffled_random().or_else(|| self.unmatched("random_model", &self.random_model));
        shuffled.into_iter().chain(random).collect()
    }

    fn twins_or_shuffled(&self) -> Option<Mismatch> {
        let mut told_apart = BTreeSet::new();
        for (member, search) in known(&self.effects) {
            let name = search.name();
            let wrong = |message| Some(Mismatch { input: "effects", member, message });
            if search.facts.shuffled == Some(true) {
                return wrong(format!("`{name}` had shuffled labels: connect it to `shuffled`"));
            }
            if !told_apart.insert(search) {
                return wrong(format!("two are `{name}`, and nothing tells them apart; name them, or compare one"));
            }
        }
        None
    }

    fn not_shuffled(&self) -> Option<Mismatch> {
        let (member, search) = known(&self.shuffled).find(|(_, search)| search.facts.shuffled != Some(true))?;
        let name = search.name();
        let message = match search.facts.shuffled {
            None => format!("`{name}` has no labels that could be shuffled: it needs no such control"),
            _ => format!("`{name}` had the labels as they are; search with `shuffle_labels: true`"),
        };
        Some(Mismatch { input: SHUFFLED, member, message })
    }

    fn shuffled_random(&self) -> Option<Mismatch> {
        let (member, search) = known(&self.random_model).find(|(_, search)| search.facts.shuffled == Some(true))?;
        let message = format!(
            "`{}` had shuffled labels: what a random model is searched for has them as they are",
            search.name()
        );
        Some(Mismatch { input: "random_model", member, message })
    }

    /// A search without a control, or a control of nothing.
    fn unmatched(&self, input: &'static str, controls: &[Option<&Search>]) -> Option<Mismatch> {
        let needs_one = |search: &Search| input != SHUFFLED || search.facts.shuffled.is_some();
        let uncontrolled = |search: &Search| !known(controls).any(|(_, control)| search.is_controlled_by(control));
        if controls.iter().all(Option::is_some) {
            let without = known(&self.effects).find(|(_, search)| needs_one(search) && uncontrolled(search));
            if let Some((_, search)) = without {
                let near = known(controls).find(|(_, control)| search.is_like(control));
                let near = near.map(|(_, control)| format!(" (`{}` has other labels)", control.name()));
                let message = search.uncontrolled(input, "") + &near.unwrap_or_default();
                return Some(Mismatch { input, member: 0, message });
            }
        }
        if self.effects.iter().any(Option::is_none) {
            return None;
        }
        let idle = |control: &Search| !known(&self.effects).any(|(_, search)| search.is_controlled_by(control));
        let (member, control) = known(controls).find(|(_, control)| idle(control))?;
        let message = format!("`{}` controls nothing: no search at `effects` is the same", control.name());
        Some(Mismatch { input, member, message })
    }
}

fn known<'s>(searches: &'s [Option<&'s Search>]) -> impl Iterator<Item = (usize, &'s Search)> {
    searches.iter().enumerate().filter_map(|(member, search)| Some((member, (*search)?)))
}
