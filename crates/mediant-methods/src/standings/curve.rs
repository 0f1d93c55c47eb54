//! Curves of faithfulness over the size of the set, and what they sum to.

use mediant_artifact::{Budget, Mediator};

use super::entry::{Entry, Sums};

/// Sets that are chosen by one rule, in the order of their sizes.
pub struct Curve {
    /// Their places among the sets of the entry.
    pub places: Vec<usize>,
    /// Their sizes.
    pub budgets: Vec<Budget>,
}

impl Curve {
    /// The sets of a kind.
    pub fn of(entry: &Entry, kind: &str) -> Self {
        let sets: Vec<(usize, Budget)> =
            entry.of_kind(kind).into_iter().filter_map(|(place, set)| Some((place, set.budget?))).collect();
        let (places, budgets) = sets.into_iter().unzip();
        Self { places, budgets }
    }

    /// Faithfulness of each set, for sums over some prompts: (Σ patched − Σ counterfactual) / (Σ clean − Σ counterfactual).
    pub fn faithfulness(&self, sums: &Sums) -> Vec<f64> {
        let whole = sums.clean - sums.counterfactual;
        self.places.iter().map(|&place| (sums.patched[place] - sums.counterfactual) / whole).collect()
    }

    /// The same, from the family's own nothing to its own everything: 0 and 1 at the ends.
    pub fn own(&self, sums: &Sums) -> Vec<f64> {
        let (Some(&first), Some(&last)) = (self.places.first(), self.places.last()) else { return Vec::new() };
        let (nothing, everything) = (sums.patched[first], sums.patched[last]);
        self.places.iter().map(|&place| (sums.patched[place] - nothing) / (everything - nothing)).collect()
    }

    /// The area under some values of the sets, over the share of the items that is kept, from none to all; by trapezoids.
    pub fn area(&self, values: &[f64]) -> f64 {
        let share = |budget: &Budget| f64::from(budget.kept) / f64::from(budget.of.max(1));
        let pieces = self.budgets.windows(2).zip(values.windows(2));
        pieces.map(|(at, value)| (share(&at[1]) - share(&at[0])) * (value[0] + value[1]) / 2.0).sum()
    }

    /// CPR: the area under F; higher is better.
    pub fn cpr(&self, sums: &Sums) -> f64 {
        self.area(&self.faithfulness(sums))
    }

    /// CMD: the area under |1 − F|; 0 is best.
    pub fn cmd(&self, sums: &Sums) -> f64 {
        let distance: Vec<f64> = self.faithfulness(sums).into_iter().map(|f| (1.0 - f).abs()).collect();
        self.area(&distance)
    }
}

/// Bits that say which `kept` of `of` items are in a set: log₂ C(of, kept).
pub fn bits(budget: Budget) -> f64 {
    let (of, kept) = (budget.of, budget.kept.min(budget.of - budget.kept.min(budget.of)));
    // Not `sum`, which is -0 of nothing.
    (0..kept).map(|i| (f64::from(of - i) / f64::from(kept - i)).log2()).fold(0.0, |bits, more| bits + more)
}

/// Curves of random sets, one a draw, with nothing and everything at their ends.
pub(super) fn random_curves(entry: &Entry) -> Vec<Curve> {
    let ends = Curve::of(entry, "kept_signed");
    let (Some((&first, &none)), Some((&last, &all))) =
        (ends.places.first().zip(ends.budgets.first()), ends.places.last().zip(ends.budgets.last()))
    else {
        return Vec::new();
    };
    let random = entry.of_kind("random");
    let draws = random.iter().filter_map(|(_, set)| set.budget?.draw).max().map_or(0, |last| last as usize + 1);
    let mut curves: Vec<Curve> = (0..draws).map(|_| Curve { places: vec![first], budgets: vec![none] }).collect();
    for (place, set) in random {
        let Mediator { budget: Some(budget), .. } = set else { continue };
        let Some(draw) = budget.draw else { continue };
        let curve = &mut curves[draw as usize];
        curve.places.push(place);
        curve.budgets.push(*budget);
    }
    for curve in &mut curves {
        curve.places.push(last);
        curve.budgets.push(all);
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(kept: u32, of: u32) -> Budget {
        Budget { kept, of, ..Budget::default() }
    }

    #[test]
    fn bits_count_the_choices() {
        assert!(bits(budget(0, 10)) == 0.0 && bits(budget(0, 10)).is_sign_positive());
        assert_eq!(bits(budget(10, 10)), 0.0);
        assert!((bits(budget(2, 5)) - 10f64.log2()).abs() < 1e-12);
        assert!((bits(budget(3, 5)) - 10f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn areas_of_a_line_and_of_what_overshoots() {
        let curve = Curve { places: vec![0, 1, 2], budgets: vec![budget(0, 4), budget(1, 4), budget(4, 4)] };
        let sums = Sums { clean: 3.0, counterfactual: 1.0, patched: vec![1.0, 5.0, 3.0] };
        // F is 0, 2, 1 at shares 0, 1/4, 1.
        assert_eq!(curve.faithfulness(&sums), [0.0, 2.0, 1.0]);
        assert!((curve.cpr(&sums) - (0.25 + 0.75 * 1.5)).abs() < 1e-12);
        assert!((curve.cmd(&sums) - (0.25 * 1.0 + 0.75 * 0.5)).abs() < 1e-12);
        assert!(curve.cpr(&sums) + curve.cmd(&sums) >= 0.999);
        assert_eq!(curve.own(&sums), [0.0, 2.0, 1.0]);
    }
}
