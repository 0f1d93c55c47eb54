//! Which entries are the largest, of every row or of all.
//!
//! By bisection: how many entries lie above a bound is a sum of zeros and ones, exact in whatever order it is made, and
//! the bound that the wanted number lies above is found by halving. That takes some 25 passes over the matrix, whatever k is
//! and whether rows or a whole batch compete. burn's own top-k gives every row to one thread that keeps k numbers sorted
//! (k · n work, and nothing for a batch), and its sorting happens on the host.

use mediant_tensor::burn::tensor::{Bool, TensorData};
use mediant_tensor::{Compute, Int, Tensor};

use super::fold::{along_rows, column_sums, row_counts};

/// Who competes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The entries of a row.
    Row,
    /// All entries.
    Batch,
}

/// Which entries may be chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    /// Those above zero.
    Positive,
    /// All.
    All,
}

/// Marks the `k` largest entries of `[rows, n]` numbers; of equal ones those of earlier rows, and of lower places in a row.
pub(super) fn largest<C: Compute>(values: &Tensor<C, 2>, k: usize, scope: Scope, among: Among) -> Tensor<C, 2, Bool> {
    let k = k as i64;
    let above = |bound: &Tensor<C, 2>| count(values.clone().greater(bound.clone()), scope);
    // More than k entries lie above `low`, at most k above `high`.
    let mut high = all_of(along_rows(values.clone(), |x| x.max_dim(1)), scope, |x| x.max_dim(1));
    let mut low = match among {
        Among::Positive => high.zeros_like(),
        Among::All => {
            let least = all_of(along_rows(values.clone(), |x| x.min_dim(1)), scope, |x| x.min_dim(1));
            least.clone() - least.abs() - 1.0
        }
    };
    // Unless there are no more than k to choose from.
    high = high.mask_where(above(&low).lower_equal_elem(k), low.clone());
    loop {
        let middle = low.clone() * 0.5 + high.clone() * 0.5;
        // Not so where there is no number between them, or they are equal because the choice is made.
        let between = middle.clone().greater(low.clone()).bool_and(middle.clone().lower(high.clone()));
        if !flags(between.clone()).any(|between| between) {
            break;
        }
        let found = above(&middle);
        let lower = found.clone().lower_equal_elem(k).bool_and(between.clone());
        let raise = found.greater_equal_elem(k).bool_and(between);
        high = high.mask_where(lower, middle.clone());
        low = low.mask_where(raise, middle);
    }
    let chosen = values.clone().greater(high.clone());
    if !flags(low.clone().lower(high.clone())).any(|tied| tied) {
        return chosen;
    }
    let tied = values.clone().greater(low).bool_and(chosen.clone().bool_not());
    let ends = ends_of_ties(&tied, room(&chosen, k, scope));
    let [_, n] = values.dims();
    let places = Tensor::<C, 1, Int>::arange(0..n as i64, &values.device()).unsqueeze::<2>();
    chosen.bool_or(tied.bool_and(places.lower(ends)))
}

/// How many more entries may be chosen, of every row or of all.
fn room<C: Compute>(chosen: &Tensor<C, 2, Bool>, k: i64, scope: Scope) -> Room {
    let found = numbers(count(chosen.clone(), scope)).into_iter().map(|count| k - count);
    match scope {
        Scope::Row => Room::Each(found.collect()),
        Scope::Batch => Room::All(found.sum()),
    }
}

enum Room {
    Each(Vec<i64>),
    All(i64),
}

/// The place in every row before which tied entries are chosen, `[rows, 1]`. Few rows have any, so the host does it.
fn ends_of_ties<C: Compute>(tied: &Tensor<C, 2, Bool>, mut room: Room) -> Tensor<C, 2, Int> {
    let [rows, n] = tied.dims();
    let counts = numbers(row_counts(tied.clone()));
    let mut ends = vec![0; rows];
    // Rows of which some tied entries are chosen and some are not, with how many.
    let mut cut = Vec::new();
    for (row, count) in counts.into_iter().enumerate() {
        let room = match &mut room {
            Room::Each(each) => &mut each[row],
            Room::All(all) => all,
        };
        let taken = count.min(*room);
        *room -= taken;
        if taken == count {
            ends[row] = n as i32;
        } else if taken > 0 {
            cut.push((row, taken as usize));
        }
    }
    let device = tied.device();
    if !cut.is_empty() {
        let rows: Vec<i32> = cut.iter().map(|(row, _)| *row as i32).collect();
        let rows = Tensor::<C, 1, Int>::from_data(TensorData::new(rows, [cut.len()]), &device);
        let marks = numbers(tied.clone().int().select(0, rows));
        for ((row, taken), marks) in cut.into_iter().zip(marks.chunks_exact(n)) {
            let last = marks.iter().enumerate().filter(|(_, mark)| **mark != 0).nth(taken - 1);
            ends[row] = last.map_or(0, |(place, _)| place as i32 + 1);
        }
    }
    Tensor::from_data(TensorData::new(ends, [rows, 1]), &device)
}

/// How many entries are marked, of every row `[rows, 1]` or of all `[1, 1]`.
fn count<C: Compute>(marked: Tensor<C, 2, Bool>, scope: Scope) -> Tensor<C, 2, Int> {
    let rows = row_counts(marked);
    match scope {
        Scope::Row => rows,
        Scope::Batch => column_sums(rows),
    }
}

/// Of what rows have, `[rows, 1]`, that of all of them where all compete.
fn all_of<C: Compute>(rows: Tensor<C, 2>, scope: Scope, fold: impl Fn(Tensor<C, 2>) -> Tensor<C, 2>) -> Tensor<C, 2> {
    match scope {
        Scope::Row => rows,
        Scope::Batch => along_rows(rows.transpose(), fold),
    }
}

/// Integers on the host.
pub(super) fn numbers<C: Compute>(tensor: Tensor<C, 2, Int>) -> Vec<i64> {
    tensor.into_data().iter::<i64>().collect()
}

fn flags<C: Compute>(tensor: Tensor<C, 2, Bool>) -> impl Iterator<Item = bool> {
    tensor.into_data().iter::<bool>().collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use mediant_tensor::{Flex, Tensor, TensorData};
    use proptest::prelude::*;

    use super::{Among, Scope, largest};

    /// By sorting, those of equal size in their order.
    fn sorted(values: &[f32], k: usize, among: Among) -> Vec<bool> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        // Not `total_cmp`, for which the two zeros differ.
        order.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).unwrap_or(std::cmp::Ordering::Equal));
        let mut chosen = vec![false; values.len()];
        order.into_iter().take(k).for_each(|i| chosen[i] = among == Among::All || values[i] > 0.0);
        chosen
    }

    fn found(values: &[f32], n: usize, k: usize, scope: Scope, among: Among) -> Vec<bool> {
        let data = TensorData::new(values.to_vec(), [values.len() / n, n]);
        let values = Tensor::<Flex, 2>::from_data(data, &Default::default());
        largest(&values, k, scope, among).into_data().iter::<bool>().collect()
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_sorting(
            n in 1usize..200,
            // Few different values make many ties; tiny and huge ones many rounds.
            values in prop::collection::vec(
                prop_oneof![(-3i8..4).prop_map(f32::from), -1f32..4.0, Just(1e-30), Just(-1e-30), Just(3e38)],
                200..1000,
            ),
            share in 0f64..1.2,
        ) {
            let values = &values[..values.len() / n * n];
            for among in [Among::Positive, Among::All] {
                let k = (share * share * n as f64) as usize;
                let by_row: Vec<bool> = values.chunks_exact(n).flat_map(|row| sorted(row, k, among)).collect();
                prop_assert_eq!(found(values, n, k, Scope::Row, among), by_row);
                let k = (share * share * values.len() as f64) as usize;
                prop_assert_eq!(found(values, n, k, Scope::Batch, among), sorted(values, k, among));
            }
        }
    }

    #[test]
    fn what_is_not_a_number_ends() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let values = [1.0, bad, 2.0, 3.0, 0.5, 0.25];
            for (scope, among) in [(Scope::Row, Among::Positive), (Scope::Batch, Among::All)] {
                assert_eq!(found(&values, 3, 2, scope, among).len(), 6);
            }
        }
    }
}
