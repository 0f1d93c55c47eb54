//! Answers after interchanges of the features that one search found, counted by what the bootstrap draws.

use std::collections::BTreeMap;

use mediant_artifact::{Effects, Mediator};

use super::curve::bits;
use super::origin::{Origin, groups};
use crate::Result;
use crate::bootstrap::{Estimate, Totals, estimates, merged};

/// Bits of a number of a direction: what the half precision of dictionaries and subspaces takes (16·r·d for r vectors of d numbers).
const NUMBER: f64 = 16.0;

/// What was measured of the features that one search found.
pub struct Exchanges {
    /// The search, the model, the prompts.
    pub origin: Origin,
    /// What was exchanged; their kinds are `directions`, `dimensions` and `latents`, or those of controls: `random`, `full_vector`.
    pub choices: Vec<Mediator>,
    /// By choice and group of prompts: right answers, those before the interchange, and all.
    groups: Vec<Vec<Totals>>,
}

/// Places of the sums.
const RIGHT: usize = 0;
const BEFORE: usize = 1;
const ALL: usize = 2;

/// Features at one site with their controls there.
pub struct Exchange<'e> {
    /// All that was measured of the search.
    pub of: &'e Exchanges,
    /// What was exchanged.
    pub choice: &'e Mediator,
    /// Interchange-intervention accuracy.
    pub iia: Estimate,
    /// The share of prompts that answer so without an interchange.
    pub before: f64,
    /// The accuracy of the full vector.
    pub full_vector: Option<Estimate>,
    /// That of as many random features, or a random subspace as large.
    pub random: Option<Estimate>,
    /// Numbers of the activation there.
    width: u32,
    /// Prompts that have a position of the site.
    pub n: u64,
    /// By group, right answers and all.
    pub(super) ratio: Vec<[f64; 2]>,
}

impl Exchanges {
    /// Whether effects are such answers.
    pub fn are(effects: &Effects) -> bool {
        effects.meta.metric == "iia"
    }

    /// Reads answers of `interchange`.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if the artifact is of another method or damaged.
    pub fn read(effects: &Effects, labels: BTreeMap<String, String>) -> Result<Self> {
        let origin = Origin::of(effects, labels)?;
        let (group_of, count) = groups(effects);
        let mut groups = vec![vec![Totals(vec![0.0; 3]); count]; effects.mediators.len()];
        for effect in effects.rows()? {
            let effect = effect?;
            let sums = &mut groups[effect.mediator as usize][group_of[effect.example as usize]];
            sums.add(RIGHT, effect.patched);
            sums.add(BEFORE, effect.clean);
            sums.add(ALL, 1.0);
        }
        Ok(Self { origin, choices: effects.mediators.clone(), groups })
    }

    /// Everything that was exchanged and is no control. Intervals hold 95 percent of 1,000 draws of groups of prompts.
    pub fn exchanges(&self, seed: u64) -> Vec<Exchange<'_>> {
        let is_control = |choice: &Mediator| [RANDOM, FULL_VECTOR].contains(&choice.kind.as_str());
        let found = (0..self.choices.len()).filter(|place| !is_control(&self.choices[*place]));
        found.map(|place| self.exchange(place, seed)).collect()
    }

    fn exchange(&self, place: usize, seed: u64) -> Exchange<'_> {
        let choice = &self.choices[place];
        let here: Vec<usize> =
            (0..self.choices.len()).filter(|other| site(&self.choices[*other]) == site(choice)).collect();
        let whole = here.iter().copied().find(|other| self.choices[*other].kind == FULL_VECTOR);
        let random = here.iter().copied().find(|other| {
            let other = &self.choices[*other];
            other.kind == RANDOM && other.budget == choice.budget
        });
        let all = merged(&self.groups[place]);
        Exchange {
            of: self,
            choice,
            iia: self.iia(place, seed),
            before: all.ratio(BEFORE, ALL),
            full_vector: whole.map(|place| self.iia(place, seed)),
            random: random.map(|place| self.iia(place, seed)),
            width: whole.map_or(0, |place| size(&self.choices[place])),
            n: all.at(ALL) as u64,
            ratio: self.groups[place].iter().map(|sums| [sums.at(RIGHT), sums.at(ALL)]).collect(),
        }
    }

    fn iia(&self, place: usize, seed: u64) -> Estimate {
        estimates(&self.groups[place], &[|sums: &Totals| sums.ratio(RIGHT, ALL)], seed)[0]
    }
}

const RANDOM: &str = "random";
const FULL_VECTOR: &str = "full_vector";

/// Where something is exchanged: `interchange` names it first, and then what is exchanged there.
fn site(choice: &Mediator) -> &str {
    choice.name.rsplit_once(&format!(" {}", choice.kind)).map_or(&choice.name, |(site, _)| site)
}

/// How many features are exchanged.
fn size(choice: &Mediator) -> u32 {
    choice.budget.map_or(0, |budget| budget.kept)
}

impl Exchange<'_> {
    /// Where: hook point and positions.
    pub fn site(&self) -> &str {
        site(self.choice)
    }

    /// How many features were exchanged.
    pub fn size(&self) -> u32 {
        size(self.choice)
    }

    /// Its size in bits: log₂ C(N, k) where a mask chose k of N features, and 16·r·d for r directions of d numbers.
    pub fn bits(&self) -> f64 {
        let chosen = if self.is_masked() { self.choice.budget.map_or(f64::NAN, bits) } else { 0.0 };
        let directions = self.choice.kind == "directions";
        chosen + if directions { NUMBER * f64::from(self.size()) * f64::from(self.width) } else { 0.0 }
    }

    /// Desiderata-based masking chooses as many features as it likes; all else has the size that was asked for.
    pub(super) fn is_masked(&self) -> bool {
        self.of.origin.search.facts.method == "dbm"
    }

    /// Whether a control is of the same features: the same search at the same site, and of a subspace of the same rank.
    pub fn is_controlled_by(&self, control: &Exchange<'_>) -> bool {
        let same_size = self.is_masked() || self.size() == control.size();
        self.of.origin.is_controlled_by(&control.of.origin) && self.site() == control.site() && same_size
    }
}
