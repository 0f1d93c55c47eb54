//! What is compared and its controls, as they come to the ports.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Digest, Effects};
use mediant_engine::{Member, RunContext, StageError};
use mediant_methods::standings::{Entry, Exchange, Exchanges, Origin, Standing};

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
            let labels = labels(&member);
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

    /// Every origin with what becomes of what is outside its family, if it is of sets.
    fn alike(&self) -> impl Iterator<Item = (&Origin, &str)> {
        let sets = self.sets.iter().map(|entry| (&entry.origin, entry.outside.as_str()));
        sets.chain(self.features.iter().map(|features| (&features.origin, "")))
    }

    pub(super) fn standings(&self, seed: u64) -> Vec<Standing<'_>> {
        // Random sets are of the items, not of the search: one evaluation of a family may draw for all.
        let family = |entry: &Entry| {
            let Origin { mediator, metric, model, prompts, .. } = &entry.origin;
            (mediator.clone(), entry.outside.clone(), metric.clone(), *model, *prompts, entry.items)
        };
        let drew = |entry: &&Entry| entry.sets.iter().any(|set| set.kind == "random");
        let drawn = |entry: &Entry| {
            let own = Some(entry).filter(drew).map(|entry| &entry.origin.labels);
            let of_family = |other: &&Entry| family(other) == family(entry) && drew(other);
            self.sets.iter().filter(of_family).find(|other| own.is_none_or(|labels| *labels == other.origin.labels))
        };
        self.sets.iter().map(|entry| Standing::of(entry, drawn(entry), seed)).collect()
    }

    pub(super) fn exchanges(&self, seed: u64) -> Vec<Exchange<'_>> {
        self.features.iter().flat_map(|features| features.exchanges(seed)).collect()
    }
}

/// The axes that tell a member of a port from the others.
fn labels(member: &Member) -> BTreeMap<String, String> {
    // An axis may be called `name`, too.
    let taken = member.labels.iter().any(|(axis, _)| axis == "name");
    let name = member.name.clone().map(|name| (if taken { "member" } else { "name" }.to_owned(), name));
    member.labels.clone().into_iter().chain(name).collect()
}

/// Whether the controls are controls.
pub(super) fn check(effects: &Collected, shuffled: &Collected, random: &Collected) -> Result<(), StageError> {
    if let Some(origin) = effects.origins().find(|origin| origin.shuffled == Some(true)) {
        return Err(StageError::new(format!("`{}` had shuffled labels: connect it to `shuffled`", origin.name())));
    }
    if let Some(origin) = shuffled.origins().find(|origin| origin.shuffled != Some(true)) {
        let why = format!(
            "input `shuffled`: `{}` had the labels as they are; search with `shuffle_labels: true`",
            origin.name()
        );
        return Err(StageError::new(why));
    }
    let mut known = BTreeSet::new();
    for (origin, outside) in effects.alike() {
        let what =
            (&origin.labels, &origin.mediator, &origin.search, &origin.metric, origin.model, origin.prompts, outside);
        if !known.insert(what) {
            let why = format!(
                "input `effects`: two are `{}`, and nothing tells them apart; name them, or compare one",
                origin.name()
            );
            return Err(StageError::new(why));
        }
    }
    let elsewhere =
        |origin: &&Origin| origin.searched_in.as_ref().is_some_and(|searched| *searched != origin.model.to_string());
    for (port, controls) in [("shuffled", shuffled), ("random_model", random)] {
        if let Some(origin) = controls.origins().find(elsewhere) {
            let name = origin.name();
            let why = format!("input `{port}`: `{name}` was searched in another model than it was measured in");
            return Err(StageError::new(why));
        }
    }
    let models: BTreeSet<Digest> = effects.origins().map(|origin| origin.model).collect();
    if let Some(origin) = random.origins().find(|origin| models.contains(&origin.model)) {
        let why = format!("input `random_model`: `{}` is of one of the models that are compared", origin.name());
        return Err(StageError::new(why));
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
        let origin = &standing.entry.origin;
        let (name, mediator) = (origin.name(), &origin.mediator);
        let why = format!(
            "`{name}` has no random items beside it: no evaluation of {mediator} here drew any (`random_draws`)"
        );
        return Err(StageError::new(why));
    }
    let with = |standing: &'s Standing<'e>| {
        let origin = &standing.entry.origin;
        let is_control = |control: &&Standing<'_>| {
            control.entry.outside == standing.entry.outside && origin.is_controlled_by(&control.entry.origin)
        };
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
        let shuffled = origin.shuffled.map(|_| here.find(is_control).ok_or_else(|| missing("shuffled"))).transpose()?;
        let random_model = random.iter().find(is_control).ok_or_else(|| missing("random_model"))?;
        Ok(ControlledFeatures { exchange, shuffled, random_model })
    };
    exchanges.iter().map(with).collect()
}

fn missing(port: &str, origin: &Origin, at: &str) -> StageError {
    let Origin { mediator, search, metric, .. } = origin;
    let name = origin.name();
    StageError::new(format!(
        "input `{port}` has no control for `{name}`{at}: {mediator} searched by {search}, measured by {metric} on the same prompts and with the same `outside`"
    ))
}
