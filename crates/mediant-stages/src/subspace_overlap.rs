//! `subspace_overlap`: how much of two subspaces is the same.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{DirectionsMeta, Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Member, MemberFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::subspace::{Overlap, overlap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aligning::site_tags;
use crate::model_input::called;
use crate::named::check_apart;
use crate::subspaces::{Subspace, all_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct SubspaceOverlap;

/// Options of `subspace_overlap`: none.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

const PORTS: &[Port] = &[
    Port::many("a", &[Kind::Directions], "Subspaces, of one or more searches."),
    Port::many("b", &[Kind::Directions], "Subspaces to compare them with, such as those of `fourier_subspace`."),
];

impl Stage for SubspaceOverlap {
    type Config = Config;
    const NAME: &'static str = "subspace_overlap";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How much of two subspaces is the same: overlap and principal angles",
            details: DETAILS,
            example: "overlap:\n  uses: subspace_overlap\n  inputs: { a: { das: das.directions, pca: components }, b: truth.directions }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new(
            "metrics",
            Kind::Metrics,
            "`overlap`, `overlap_random`, `cosine_max` and `cosine_min` of every two subspaces.",
        )]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_apart(inputs, "a"));
        problems.check(check_apart(inputs, "b"));
        problems.check(check_partners(inputs, "a", "b").and_then(|()| check_partners(inputs, "b", "a")));
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let all = |port| cx.members(port)?.into_iter().map(Found::of).collect::<Result<Vec<_>, StageError>>();
        let (of_a, of_b) = (all("a")?, all("b")?);
        let alone = |of: &Found, others: &[Found]| !others.iter().any(|other| of.meets(other));
        let alone = of_a.iter().find(|a| alone(a, &of_b)).or_else(|| of_b.iter().find(|b| alone(b, &of_a)));
        if let Some(Found { name, .. }) = alone {
            let message =
                format!("there is nothing to compare `{name}` with at the hook points and positions it is at");
            return Err(StageError::new(message));
        }
        let mut metrics = Vec::new();
        for (a, b) in of_a.iter().flat_map(|a| of_b.iter().map(move |b| (a, b))) {
            for (x, y) in a.same_place(b) {
                metrics.extend(rows(&overlap(&x.basis, &y.basis)?, &tags(a, b, x)));
            }
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        Ok(())
    }
}

/// A member of a port, read.
struct Found {
    name: String,
    labels: Vec<(String, String)>,
    subspaces: Vec<Subspace>,
}

impl Found {
    fn of(member: Member) -> Result<Self, StageError> {
        let (DirectionsMeta { method, .. }, subspaces) = all_subspaces(&member.artifact)?;
        Ok(Self { name: member.name.unwrap_or(method), labels: member.labels, subspaces })
    }

    fn meets(&self, other: &Self) -> bool {
        self.same_place(other).next().is_some()
    }

    /// Every two subspaces at the same place, if the members may be compared.
    fn same_place<'f>(&'f self, other: &'f Self) -> impl Iterator<Item = (&'f Subspace, &'f Subspace)> {
        let theirs: &[Subspace] = if comparable(&self.labels, &other.labels) { &other.subspaces } else { &[] };
        let pairs = self.subspaces.iter().flat_map(move |own| theirs.iter().map(move |their| (own, their)));
        pairs.filter(|(own, their)| own.site == their.site)
    }
}

/// Whether two members are of the same value on every axis that both have.
fn comparable(a: &[(String, String)], b: &[(String, String)]) -> bool {
    a.iter().all(|(axis, label)| b.iter().all(|(other, value)| axis != other || label == value))
}

/// Whether every member of a port has one of the other that may be compared with it.
fn check_partners(inputs: &InputFacts, port: &str, other: &str) -> Result<(), Problems> {
    let mut problems = Problems::none();
    for member in inputs.many(port) {
        let partners: Vec<&MemberFacts> =
            inputs.many(other).iter().filter(|partner| comparable(&member.labels, &partner.labels)).collect();
        let which = called(member, &format!("`{port}`"));
        if partners.is_empty() {
            let message = format!("there is nothing in `{other}` to compare with {which}");
            problems.push(Problems::input(port, message).help("members are compared that agree on the axes of both"));
            continue;
        }
        let (Some(own), Some(theirs)) = (places(&[member]), places(&partners)) else { continue };
        if own.is_disjoint(&theirs) {
            let message = format!("subspaces of {which} are at {}, where none of `{other}` is", some(&own));
            problems.push(Problems::input(port, message).help(format!("those of `{other}` are at {}", some(&theirs))));
        }
    }
    problems.finish()
}

/// Where a subspace is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'f> {
    hook: &'f str,
    positions: &'f str,
    width: usize,
}

/// Where the subspaces of members are; none if it is not known of one of them.
fn places<'f>(members: &[&'f MemberFacts]) -> Option<BTreeSet<Place<'f>>> {
    let mut places = BTreeSet::new();
    for member in members {
        let subspaces = member.facts.directions()?.subspaces.as_ref()?;
        places.extend(subspaces.iter().map(|subspace| Place {
            hook: &subspace.hook.name,
            positions: &subspace.positions,
            width: subspace.hook.width(),
        }));
    }
    Some(places)
}

/// The first few, in words.
fn some(places: &BTreeSet<Place<'_>>) -> String {
    let few = places.iter().take(3);
    let few: Vec<String> =
        few.map(|place| format!("`{}` ({} numbers), {}", place.hook, place.width, place.positions)).collect();
    let more = places.len() - few.len();
    if more > 0 { format!("{} and {more} more", few.join("; ")) } else { few.join("; ") }
}

fn tags(a: &Found, b: &Found, subspace: &Subspace) -> BTreeMap<String, String> {
    let mut tags: BTreeMap<String, String> = a.labels.iter().chain(&b.labels).cloned().collect();
    tags.extend(site_tags(&subspace.site));
    tags.extend([("a".to_owned(), a.name.clone()), ("b".to_owned(), b.name.clone())]);
    tags
}

fn rows(found: &Overlap, tags: &BTreeMap<String, String>) -> Vec<MetricRow> {
    let angles = found.cosines.len() as f64;
    let [rank_a, rank_b] = found.ranks.map(|rank| rank.to_string());
    let mut tags = tags.clone();
    tags.extend([("rank_a".to_owned(), rank_a), ("rank_b".to_owned(), rank_b)]);
    let row = |name: &str, value: f64| MetricRow {
        name: name.to_owned(),
        value,
        unit: "1".to_owned(),
        n: found.cosines.len() as u64,
        tags: tags.clone(),
        ..MetricRow::default()
    };
    let share = MetricRow { numerator: Some(found.shared), denominator: Some(angles), ..row("overlap", found.share()) };
    let of_angles = [found.cosines.first(), found.cosines.last()].map(|cosine| cosine.copied().unwrap_or(f64::NAN));
    vec![
        share,
        row("overlap_random", found.of_random()),
        row("cosine_max", of_angles[0]),
        row("cosine_min", of_angles[1]),
    ]
}

const DETAILS: &str = "\
With A and B orthonormal bases, `[rank, width]`, of two subspaces at the same hook point and positions, the singular values of A Bᵀ are the cosines of the principal angles between them, as many as the smaller rank \
(Björck & Golub 1973).

- `overlap` = ‖A Bᵀ‖² (Frobenius) / the smaller rank: the mean of the squared cosines, 1 if one subspace holds the other, 0 if they are orthogonal. Numerator and denominator stand beside it. \
Of two subspaces of one rank it is the projection similarity; of two directions the squared cosine.
- `overlap_random`: its mean where one of the two is random, uniform over all subspaces of its rank: the larger rank / width. What an overlap is to be compared with: large subspaces overlap whatever they are.
- `cosine_max`, `cosine_min`: of the smallest and of the largest principal angle. `cosine_min` is 1 only if the one holds the other.

`n` is the number of angles. Every subspace of a member of `a` is compared with every one of a member of `b` at the same hook point and positions (written alike: a span is another place than `last`); members with axes are compared where they agree on those that both have. \
Tags: `a` and `b` (the names of the inputs, `{ das: das.directions, pca: components }`, or the methods), their axes, `hook`, `span` or `positions`, `rank_a`, `rank_b`. Subspaces that are nested, those of `pca` say, are compared as a whole. \
A member whose subspaces are nowhere where the other side has one is an error before anything runs.

Where vectors that matter vary little, a subspace can overlap little with another and do the same: `interchange` says what subspaces do.

Sources: Björck & Golub 1973, Numerical methods for computing angles between linear subspaces (doi:10.1090/S0025-5718-1973-0348991-3).";
