//! Which of one set belongs to which of another: the assignment of the largest total score.

use std::borrow::Cow;

/// Gives rows columns of their own so that the sum of `score`, `[rows, columns]`, is as large as it can be: for each row
/// its column. All rows get one, or, where there are fewer columns, so many as there are columns.
///
/// Shortest augmenting paths with prices (Jonker and Volgenant 1987), in the rectangular form of Crouse 2016
/// (doi:10.1109/TAES.2016.140952) as in SciPy's `linear_sum_assignment`: at most min² · max steps. Of equally good
/// assignments it is always the same one. Scores have to be finite; with others some assignment comes out.
///
/// # Panics
/// If there are not `rows · columns` scores.
pub fn assignment<S: Copy + Into<f64>>(score: &[S], rows: usize, columns: usize) -> Vec<Option<usize>> {
    assert_eq!(score.len(), rows * columns, "scores of {rows} × {columns}");
    if rows <= columns {
        return Prices::new(Cow::Borrowed(score), rows, columns).assign();
    }
    let transposed = (0..columns).flat_map(|column| score.iter().copied().skip(column).step_by(columns)).collect();
    let mut assigned = vec![None; rows];
    for (column, row) in Prices::new(Cow::Owned(transposed), columns, rows).assign().into_iter().enumerate() {
        if let Some(row) = row {
            assigned[row] = Some(column);
        }
    }
    assigned
}

/// A partial assignment that is the best for the rows it has, with the prices that prove it: no cost (a negative score)
/// is below the price of its row plus that of its column, and costs that are assigned are equal to it.
struct Prices<'a, S: Copy> {
    score: Cow<'a, [S]>,
    columns: usize,
    row_price: Vec<f64>,
    column_price: Vec<f64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
}

impl<'a, S: Copy + Into<f64>> Prices<'a, S> {
    fn new(score: Cow<'a, [S]>, rows: usize, columns: usize) -> Self {
        Self {
            score,
            columns,
            row_price: vec![0.0; rows],
            column_price: vec![0.0; columns],
            column_of: vec![None; rows],
            row_of: vec![None; columns],
        }
    }

    fn assign(mut self) -> Vec<Option<usize>> {
        for row in 0..self.column_of.len() {
            self.add(row);
        }
        self.column_of
    }

    /// Gives a row a column, moving others where that is better: Dijkstra's search for the shortest path of moves that
    /// ends at a free column. There are no more rows than columns, so there is one.
    fn add(&mut self, new: usize) {
        let mut distance = vec![f64::INFINITY; self.columns];
        let mut reached_from = vec![new; self.columns];
        let mut open: Vec<usize> = (0..self.columns).collect();
        let mut closed = Vec::new();
        let (mut row, mut travelled) = (new, 0.0);
        let end = loop {
            let scores = &self.score[row * self.columns..(row + 1) * self.columns];
            let (mut nearest, mut least) = (0, f64::INFINITY);
            for (i, &column) in open.iter().enumerate() {
                let step = -scores[column].into() - self.row_price[row] - self.column_price[column];
                if travelled + step < distance[column] {
                    distance[column] = travelled + step;
                    reached_from[column] = row;
                }
                // A free column ends the search sooner.
                if distance[column] < least || (distance[column] == least && self.row_of[column].is_none()) {
                    (nearest, least) = (i, distance[column]);
                }
            }
            travelled = least;
            let column = open.swap_remove(nearest);
            closed.push(column);
            match self.row_of[column] {
                Some(taken) => row = taken,
                None => break column,
            }
        };

        self.row_price[new] += travelled;
        for &column in &closed {
            let change = travelled - distance[column];
            self.column_price[column] -= change;
            if let Some(row) = self.row_of[column] {
                self.row_price[row] += change;
            }
        }
        let mut column = end;
        loop {
            let row = reached_from[column];
            self.row_of[column] = Some(row);
            match self.column_of[row].replace(column) {
                Some(before) => column = before,
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::assignment;
    use proptest::prelude::*;

    fn total(score: &[f64], columns: usize, assigned: &[Option<usize>]) -> f64 {
        assigned.iter().enumerate().filter_map(|(row, column)| Some(score[row * columns + (*column)?])).sum()
    }

    /// The largest total over every way to give the rows from `row` on columns that are not `taken`.
    fn by_trying(score: &[f64], rows: usize, columns: usize, row: usize, taken: u32) -> f64 {
        if row == rows {
            return 0.0;
        }
        let free = (0..columns).filter(|column| taken & (1 << column) == 0);
        let mut totals: Vec<f64> = free
            .map(|column| score[row * columns + column] + by_trying(score, rows, columns, row + 1, taken | 1 << column))
            .collect();
        // A row may go without while enough others are left to fill the columns.
        if rows - row > columns - taken.count_ones() as usize {
            totals.push(by_trying(score, rows, columns, row + 1, taken));
        }
        totals.into_iter().fold(f64::NEG_INFINITY, f64::max)
    }

    proptest! {
        #[test]
        fn no_other_assignment_scores_more(
            rows in 0usize..7,
            columns in 0usize..7,
            // Small integers make ties, and their sums are exact.
            all in prop::collection::vec(-4i8..5, 36),
        ) {
            let score: Vec<f64> = all[..rows * columns].iter().map(|score| f64::from(*score)).collect();
            let assigned = assignment(&score, rows, columns);
            prop_assert_eq!(assigned.len(), rows);
            let mut used: Vec<usize> = assigned.iter().copied().flatten().collect();
            prop_assert_eq!(used.len(), rows.min(columns));
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used.len(), rows.min(columns));
            prop_assert_eq!(total(&score, columns, &assigned), by_trying(&score, rows, columns, 0, 0));
        }

        #[test]
        fn a_hidden_permutation_is_found(order in Just((0..60usize).collect::<Vec<_>>()).prop_shuffle(), seed in 0u64..99) {
            let mut score = vec![0f32; 60 * 60];
            mediant_tensor::random::fill_normal(&mut mediant_tensor::random::stream(seed, "test"), &mut score, 0.0, 1.0);
            order.iter().enumerate().for_each(|(row, column)| score[row * 60 + column] += 20.0);
            let found: Vec<usize> = assignment(&score, 60, 60).into_iter().flatten().collect();
            prop_assert_eq!(found, order);
        }
    }

    #[test]
    fn greed_is_not_enough() {
        // Row 0 would take column 0, which costs row 1 more than it gains.
        assert_eq!(assignment(&[10.0, 9.0, 8.0, 1.0], 2, 2), [Some(1), Some(0)]);
        assert_eq!(assignment(&[1.0, 5.0, 9.0], 3, 1), [None, None, Some(0)]);
        // Not a number is no reason to search for ever.
        assert_eq!(assignment(&[f64::NAN; 4], 2, 2).iter().flatten().count(), 2);
    }
}
