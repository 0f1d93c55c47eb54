//! What is compared and its controls, as they come to the ports.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Digest, Effects};
use mediant_engine::{RunContext, StageError};
use mediant_methods::standings::{Compared, Entry, Exchange, Exchanges, Mismatch, Origin, Search, Standing};

use super::Config;
use super::features::ControlledFeatures;
use super::standings::Controlled;

/// The effects at a port: of sets, and of features of activations.
pub(super) struct Collected {
    sets: Vec<Entry>,
    features: Vec<Exchanges>,
}

impl Collected {
    pub(super) fn read(cx: &RunContext<'_, Config>, port: &str) -> Result<Self, StageError> {
        let mut collected = Self { sets: Vec::new(), features: Vec::new() };
        for member in cx.members(port)? {
            let labels = labels(&member.labels, member.name.as_ref());
            let of_port = |error| StageError::from(error).context(format!("input `{port}`"));
            let effects = Effects::open(&member.artifact).map_err(|error| of_port(error.into()))?;
            if Exchanges::are(&effects) {
                collected.features.push(Exchanges::read(&effects, labels).map_err(of_port)?);
            } else {
                collected.sets.push(Entry::read(&effects, labels).map_err(of_port)?);
            }
        }
        Ok(collected)
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        let sets = self.sets.iter().map(|entry| &entry.origin);
        sets.chain(self.features.iter().map(|features| &features.origin))
    }

    pub(super) fn standings(&self, seed: u64) -> Vec<Standing<'_>> {
        // Random sets are of the items, not of the search: one evaluation of a family may draw for all.
        let family = |entry: &Entry| {
            let Origin { search: Search { facts, metric, outside, .. }, model, prompts, .. } = &entry.origin;
            (facts.mediator.clone(), outside.clone(), metric.clone(), *model, *prompts, entry.items)
        };
        let drew = |entry: &&Entry| entry.sets.iter().any(|set| set.kind == "random");
        let drawn = |entry: &Entry| {
            let own = Some(entry).filter(drew).map(|entry| &entry.origin.search.labels);
            let of_family = |other: &&Entry| family(other) == family(entry) && drew(other);
            self.sets
                .iter()
                .filter(of_family)
                .find(|other| own.is_none_or(|labels| *labels == other.origin.search.labels))
        };
        self.sets.iter().map(|entry| Standing::of(entry, drawn(entry), seed)).collect()
    }

    pub(super) fn exchanges(&self, seed: u64) -> Vec<Exchange<'_>> {
        self.features.iter().flat_map(|features| features.exchanges(seed)).collect()
    }
}

/// The axes that tell a member of a port from the others.
pub(super) fn labels(axes: &[(String, String)], name: Option<&String>) -> BTreeMap<String, String> {
    // An axis may be called `name`, too.
    let taken = axes.iter().any(|(axis, _)| axis == "name");
    let name = name.map(|name| (if taken { "member" } else { "name" }.to_owned(), name.clone()));
    axes.iter().cloned().chain(name).collect()
}

/// What is said of a search without random items beside it.
pub(super) fn no_random(search: &Search) -> String {
    let (name, mediator) = (search.name(), &search.facts.mediator);
    format!("`{name}` has no random items beside it: no evaluation of {mediator} here drew any (`random_draws`)")
}

/// Whether the controls are controls.
pub(super) fn check(effects: &Collected, shuffled: &Collected, random: &Collected) -> Result<(), StageError> {
    fn searches(collected: &Collected) -> Vec<Option<&Search>> {
        collected.origins().map(|origin| Some(&origin.search)).collect()
    }
    let wrong = |port: &str, message: String| Err(StageError::new(format!("input `{port}`: {message}")));
    let compared =
        Compared { effects: searches(effects), shuffled: searches(shuffled), random_model: searches(random) };
    if let Some(Mismatch { input, message, .. }) = compared.mismatches().into_iter().next() {
        return wrong(input, message);
    }
    let elsewhere =
        |origin: &&Origin| origin.searched_in.as_ref().is_some_and(|searched| *searched != origin.model.to_string());
    for (port, controls) in [("shuffled", shuffled), ("random_model", random)] {
        if let Some(origin) = controls.origins().find(elsewhere) {
            let name = origin.search.name();
            return wrong(port, format!("`{name}` was searched in another model than it was measured in"));
        }
        let idle = |control: &&Origin| !effects.origins().any(|origin| origin.is_controlled_by(control));
        if let Some(origin) = controls.origins().find(idle) {
            let name = origin.search.name();
            return wrong(
                port,
                format!("`{name}` controls nothing: no search at `effects` is measured on its prompts"),
            );
        }
    }
    let models: BTreeSet<Digest> = effects.origins().map(|origin| origin.model).collect();
    if let Some(origin) = random.origins().find(|origin| models.contains(&origin.model)) {
        return wrong("random_model", format!("`{}` is of one of the models that are compared", origin.search.name()));
    }
    Ok(())
}

/// Every standing beside those of its controls.
pub(super) fn controlled<'s, 'e>(
    standings: &'s [Standing<'e>],
    shuffled: &'s [Standing<'e>],
    random: &'s [Standing<'e>],
) -> Result<Vec<Controlled<'s, 'e>>, StageError> {
    if let Some(standing) = standings.iter().find(|standing| standing.random.is_none()) {
        return Err(StageError::new(no_random(&standing.entry.origin.search)));
    }
    let with = |standing: &'s Standing<'e>| {
        let origin = &standing.entry.origin;
        let is_control = |control: &&Standing<'_>| origin.is_controlled_by(&control.entry.origin);
        // Labels are shuffled in the model itself.
        let mut here = shuffled.iter().filter(|control| control.entry.origin.model == origin.model);
        Ok(Controlled {
            standing,
            shuffled: here.find(is_control).ok_or_else(|| missing("shuffled", origin, ""))?,
            random_model: random.iter().find(is_control).ok_or_else(|| missing("random_model", origin, ""))?,
        })
    };
    standings.iter().map(with).collect()
}

/// Features beside those of their controls. A search without labels needs none with shuffled ones.
pub(super) fn controlled_features<'s, 'e>(
    exchanges: &'s [Exchange<'e>],
    shuffled: &'s [Exchange<'e>],
    random: &'s [Exchange<'e>],
) -> Result<Vec<ControlledFeatures<'s, 'e>>, StageError> {
    let with = |exchange: &'s Exchange<'e>| {
        let origin = &exchange.of.origin;
        let is_control = |control: &&Exchange<'_>| exchange.is_controlled_by(control);
        let missing = |port: &str| missing(port, origin, &format!(" at {}", exchange.choice.name));
        let mut here = shuffled.iter().filter(|control| control.of.origin.model == origin.model);
        let shuffled = origin
            .search
            .facts
            .shuffled
            .map(|_| here.find(is_control).ok_or_else(|| missing("shuffled")))
            .transpose()?;
        let random_model = random.iter().find(is_control).ok_or_else(|| missing("random_model"))?;
        Ok(ControlledFeatures { exchange, shuffled, random_model })
    };
    exchanges.iter().map(with).collect()
}

fn missing(port: &str, origin: &Origin, at: &str) -> StageError {
    StageError::new(format!("input `{port}`: {}", origin.search.uncontrolled(port, at)))
}
