//! What is compared and its controls, as far as is known when planning.

use std::collections::BTreeSet;

use mediant_artifact::MeasuredFacts;
use mediant_engine::{InputFacts, MemberFacts, Problems};
use mediant_methods::standings::{Compared, Mismatch, Search};

use super::collected::{labels, no_random};

/// Whether effects have controls, as far as is known when planning.
pub(super) fn check(inputs: &InputFacts) -> Result<(), Problems> {
    let all = [planned(inputs, "effects")?, planned(inputs, "shuffled")?, planned(inputs, "random_model")?];
    let [effects, shuffled, random_model] =
        all.each_ref().map(|searches| searches.iter().map(Option::as_ref).collect::<Vec<_>>());
    let mut problems = Problems::none();
    for Mismatch { input, member, message } in (Compared { effects, shuffled, random_model }).mismatches() {
        problems.push(Problems::member(input, member, message));
    }
    problems.check(check_random(inputs, &all[0]));
    problems.finish()
}

/// The searches at a port as far as they are known when planning; none of a member of which nothing is known.
///
/// # Errors
/// For effects that are of no evaluation.
fn planned(inputs: &InputFacts, port: &str) -> Result<Vec<Option<Search>>, Problems> {
    let of = |(place, member): (usize, &MemberFacts)| {
        let Some(MeasuredFacts { search, metric, outside, .. }) = member.facts.effects() else {
            let why = "these effects are of no evaluation of what a search found";
            let help = "connect `effects` of `evaluate_mediator` or `answers` of `interchange`";
            return Err(Problems::member(port, place, why).help(help));
        };
        let search = search.clone().map(|facts| Search {
            labels: labels(&member.labels, member.name.as_ref()),
            facts,
            metric: metric.clone(),
            outside: outside.clone(),
        });
        Ok(search)
    };
    inputs.many(port).iter().enumerate().map(of).collect()
}

/// Whether every family of sets has an evaluation that drew random items.
fn check_random(inputs: &InputFacts, effects: &[Option<Search>]) -> Result<(), Problems> {
    // One of which nothing is known may be the one that drew.
    let Some(searches) = effects.iter().map(Option::as_ref).collect::<Option<Vec<&Search>>>() else { return Ok(()) };
    let random = inputs.many("effects").iter().map(|member| member.facts.effects().is_some_and(|facts| facts.random));
    let family = |search: &Search| (search.facts.mediator.clone(), search.metric.clone(), search.outside.clone());
    let drawn: BTreeSet<_> =
        searches.iter().zip(random).filter(|(_, random)| *random).map(|(search, _)| family(search)).collect();
    match searches.iter().position(|search| !drawn.contains(&family(search))) {
        Some(place) => Err(Problems::member("effects", place, no_random(searches[place]))),
        None => Ok(()),
    }
}
