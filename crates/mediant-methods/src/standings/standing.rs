//! What one search found of one family, in numbers.

use mediant_artifact::Budget;

use super::curve::{Curve, bits, random_curves};
use super::entry::{Entry, Sums};
use crate::bootstrap::{self, Estimate, central, draws, merged};
use crate::mediators::{Selection, benchmark_sizes};

/// The faithfulness from which on a set is called sufficient.
pub const SUFFICIENT: f64 = 0.9;

/// A change of F below this is none: the removed item was not needed.
const NEEDED: f64 = 0.01;

/// A set on a curve.
pub struct Point {
    /// How it was chosen.
    pub selection: Selection,
    /// Its size.
    pub budget: Budget,
    /// Its size in bits: log₂ of the number of sets of that size.
    pub bits: f64,
    /// F with its interval.
    pub faithfulness: Estimate,
    /// F from the family's own nothing to its own everything.
    pub own: f64,
    /// F of everything but the set, where it was measured.
    pub completeness: Option<f64>,
    /// The central 95 percent of F of random sets of this size, and their mean, where they were measured.
    pub random: Option<(f64, f64, f64)>,
}

/// The two areas of a selection.
pub struct Areas {
    /// How sets are chosen.
    pub selection: Selection,
    /// The area under F.
    pub cpr: Estimate,
    /// The area under |1 − F|.
    pub cmd: Estimate,
}

/// CPR of random orders, at MIB's sizes.
pub struct Random {
    /// Their mean.
    pub mean: f64,
    /// The central 95 percent of them.
    pub interval: Option<(f64, f64)>,
    /// The share of them whose CPR is below that of the signed selection at the same sizes.
    pub below: f64,
    /// How many.
    pub draws: usize,
}

/// What one search found.
pub struct Standing<'e> {
    /// What was measured.
    pub entry: &'e Entry,
    /// By both selections.
    pub areas: Vec<Areas>,
    /// F of nothing.
    pub nothing: Estimate,
    /// F of everything: the coverage of the family.
    pub coverage: Estimate,
    /// The smallest set of the signed selection that is sufficient.
    pub sufficient: Option<Budget>,
    /// The share of a set's items that are needed, and how many were tried.
    pub minimality: Option<(f64, usize, Budget)>,
    /// F of all latents of a dictionary without its error: what the dictionary alone carries.
    pub without_error: Option<Estimate>,
    /// The control of random items, which any search of the same family may have drawn; none if none has.
    pub random: Option<Random>,
    /// Every set on the curves.
    pub points: Vec<Point>,
}

impl bootstrap::Sums for Sums {
    fn merge(&mut self, other: &Self) {
        self.clean += other.clean;
        self.counterfactual += other.counterfactual;
        self.patched.resize(self.patched.len().max(other.patched.len()), 0.0);
        self.patched.iter_mut().zip(&other.patched).for_each(|(sum, other)| *sum += other);
    }
}

impl<'e> Standing<'e> {
    /// Of this entry; `drawn` is the one of the same items, prompts and model whose random sets are taken. Intervals hold 95 percent of 1,000 draws of groups of prompts, from the stream (`seed`, "bootstrap"): entries of the
    /// same prompts have the same draws.
    pub fn of(entry: &'e Entry, drawn: Option<&Entry>, seed: u64) -> Self {
        let all = merged(&entry.groups);
        let random_sets = drawn.map(|entry| (entry, merged(&entry.groups)));
        let curves =
            Selection::ALL.map(|selection| (selection, Curve::of(entry, &format!("kept_{}", selection.name()))));
        let drawn = Drawn::new(entry, &curves, seed);
        let random_sets = random_sets.as_ref();
        let signed = &curves[0].1;
        let faithfulness = signed.faithfulness(&all);
        let sufficient = signed.budgets.iter().zip(&faithfulness).find(|(_, f)| **f >= SUFFICIENT);
        let end = |place: usize| Estimate { value: faithfulness[place], interval: drawn.interval(0, place) };
        Self {
            areas: curves
                .iter()
                .enumerate()
                .map(|(i, (selection, curve))| drawn.areas(i, *selection, curve, &all))
                .collect(),
            nothing: end(0),
            coverage: end(faithfulness.len() - 1),
            sufficient: sufficient.map(|(budget, _)| *budget),
            minimality: minimality(entry, signed, &all),
            without_error: without_error(entry, seed),
            random: random_sets.map(|of| random(signed, &all, of)),
            points: curves
                .iter()
                .enumerate()
                .flat_map(|(i, curve)| drawn.points(i, curve, entry, &all, random_sets))
                .collect(),
            entry,
        }
    }

    /// CPR of the signed selection as a ratio of sums over groups: it is the area under Σ (patched − counterfactual) over
    /// Σ (clean − counterfactual), and areas are linear.
    pub(super) fn cpr_by_group(&self) -> Vec<[f64; 2]> {
        let signed = Curve::of(self.entry, &format!("kept_{}", Selection::Signed.name()));
        let of_group = |sums: &Sums| {
            let above: Vec<f64> =
                signed.places.iter().map(|place| sums.patched[*place] - sums.counterfactual).collect();
            [signed.area(&above), sums.clean - sums.counterfactual]
        };
        self.entry.groups.iter().map(of_group).collect()
    }

    /// The areas of a selection.
    pub fn areas_of(&self, selection: Selection) -> Option<&Areas> {
        self.areas.iter().find(|areas| areas.selection == selection)
    }
}

/// F of every set on both curves, and both areas, for every draw of groups.
struct Drawn {
    /// By curve and draw.
    faithfulness: [Vec<Vec<f64>>; 2],
    cpr: [Vec<f64>; 2],
    cmd: [Vec<f64>; 2],
}

impl Drawn {
    fn new(entry: &Entry, curves: &[(Selection, Curve); 2], seed: u64) -> Self {
        use rayon::prelude::*;
        let groups = &entry.groups;
        let mut drawn = Self { faithfulness: Default::default(), cpr: Default::default(), cmd: Default::default() };
        if groups.len() < 2 {
            return drawn;
        }
        // Only the sets on curves are summed: random ones are many, and have no interval over prompts.
        let places: Vec<usize> = curves.iter().flat_map(|(_, curve)| curve.places.iter().copied()).collect();
        let of_draw = |draw: &Vec<usize>| {
            let mut sums = Sums { patched: vec![0.0; entry.sets.len()], ..Sums::default() };
            for &group in draw {
                let group = &groups[group];
                sums.clean += group.clean;
                sums.counterfactual += group.counterfactual;
                places.iter().for_each(|&place| sums.patched[place] += group.patched[place]);
            }
            [0, 1].map(|i| {
                let curve: &Curve = &curves[i].1;
                (curve.faithfulness(&sums), curve.cpr(&sums), curve.cmd(&sums))
            })
        };
        // The same set may be on both curves; each is then summed once for each.
        let draws = draws(groups.len(), seed);
        for of_draw in draws.par_iter().map(of_draw).collect::<Vec<_>>() {
            for (i, (faithfulness, cpr, cmd)) in of_draw.into_iter().enumerate() {
                drawn.faithfulness[i].push(faithfulness);
                drawn.cpr[i].push(cpr);
                drawn.cmd[i].push(cmd);
            }
        }
        drawn
    }

    fn interval(&self, curve: usize, place: usize) -> Option<(f64, f64)> {
        central(self.faithfulness[curve].iter().map(|draw| draw[place]))
    }

    fn areas(&self, i: usize, selection: Selection, curve: &Curve, all: &Sums) -> Areas {
        Areas {
            selection,
            cpr: Estimate { value: curve.cpr(all), interval: central(self.cpr[i].iter().copied()) },
            cmd: Estimate { value: curve.cmd(all), interval: central(self.cmd[i].iter().copied()) },
        }
    }

    fn points(
        &self,
        i: usize,
        (selection, curve): &(Selection, Curve),
        entry: &Entry,
        all: &Sums,
        random_sets: Option<&(&Entry, Sums)>,
    ) -> Vec<Point> {
        let complements = Curve::of(entry, &format!("complement_{}", selection.name()));
        let completeness = complements.faithfulness(all);
        let of_complement = |kept: u32| {
            let place = complements.budgets.iter().position(|budget| budget.kept == kept)?;
            Some(completeness[place])
        };
        let of_random = |kept: u32| {
            let (entry, all) = random_sets?;
            let whole = all.clean - all.counterfactual;
            let sets = entry.sets.iter().zip(&all.patched);
            let sets = sets.filter(|(set, _)| set.kind == "random" && set.budget.is_some_and(|b| b.kept == kept));
            let values: Vec<f64> = sets.map(|(_, patched)| (patched - all.counterfactual) / whole).collect();
            let (low, high) = central(values.iter().copied())?;
            Some((low, high, values.iter().sum::<f64>() / values.len() as f64))
        };
        let own = curve.own(all);
        let values = curve.faithfulness(all).into_iter().zip(own).zip(&curve.budgets).enumerate();
        let point = |(place, ((value, own), &budget)): (usize, ((f64, f64), &Budget))| Point {
            selection: *selection,
            budget,
            bits: bits(budget),
            faithfulness: Estimate { value, interval: self.interval(i, place) },
            own,
            completeness: of_complement(budget.kept),
            random: of_random(budget.kept),
        };
        values.map(point).collect()
    }
}

fn without_error(entry: &Entry, seed: u64) -> Option<Estimate> {
    let place = entry.sets.iter().position(|set| set.kind == "without_error")?;
    let faithfulness = |sums: &Sums| (sums.patched[place] - sums.counterfactual) / (sums.clean - sums.counterfactual);
    bootstrap::estimates(&entry.groups, &[faithfulness], seed).first().copied()
}

/// The share of a set's items without which F changes by more than 1 percent.
fn minimality(entry: &Entry, signed: &Curve, all: &Sums) -> Option<(f64, usize, Budget)> {
    let removed = Curve::of(entry, "removed");
    let size = removed.budgets.first()?;
    let place = signed.budgets.iter().position(|budget| budget.kept == size.kept)?;
    let whole = signed.faithfulness(all)[place];
    let changes = removed.faithfulness(all);
    let needed = changes.iter().filter(|f| (whole - **f).abs() > NEEDED).count();
    Some((needed as f64 / changes.len() as f64, changes.len(), signed.budgets[place]))
}

fn random(signed: &Curve, all: &Sums, (of, of_all): &(&Entry, Sums)) -> Random {
    let at_sizes: Vec<u32> = [0].into_iter().chain(benchmark_sizes(of.items)).map(|size| size as u32).collect();
    let own = signed.places.iter().zip(&signed.budgets).filter(|(_, budget)| at_sizes.contains(&budget.kept));
    let (places, budgets) = own.map(|(place, budget)| (*place, *budget)).unzip();
    let own = Curve { places, budgets }.cpr(all);
    let drawn: Vec<f64> = random_curves(of).iter().map(|curve| curve.cpr(of_all)).collect();
    let count = drawn.len();
    Random {
        mean: drawn.iter().sum::<f64>() / count as f64,
        interval: central(drawn.iter().copied()),
        below: drawn.iter().filter(|cpr| **cpr < own).count() as f64 / count as f64,
        draws: count,
    }
}
