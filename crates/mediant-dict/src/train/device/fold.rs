//! Sums and the like along rows and columns, in an order that depends on the shape alone.

use burn::tensor::{BasicOps, Element, Int, Numeric};
use mediant_tensor::burn;
use mediant_tensor::{Compute, Tensor};

/// Numbers that one thread folds: burn gives each result a thread of its own, which for the sums of a few long rows would
/// leave a GPU idle. In two or three rounds there are enough threads, and the rounding errors are those of short sums.
const PART: usize = 64;

/// `[rows, n]` to `[rows, 1]`, by a function that folds the second dimension into one number.
pub(super) fn along_rows<C: Compute, K>(
    x: Tensor<C, 2, K>,
    fold: impl Fn(Tensor<C, 2, K>) -> Tensor<C, 2, K>,
) -> Tensor<C, 2, K>
where
    K: BasicOps<C>,
{
    let mut x = x;
    loop {
        let [rows, n] = x.dims();
        let part = part_of(n);
        if part == n {
            return fold(x);
        }
        x = fold(x.reshape([rows * (n / part), part])).reshape([rows, n / part]);
    }
}

/// Sums of the rows: `[rows, n]` to `[rows, 1]`.
pub(super) fn row_sums<C: Compute, K>(x: Tensor<C, 2, K>) -> Tensor<C, 2, K>
where
    K: Numeric<C>,
    K::Elem: Element,
{
    along_rows(x, |x| x.sum_dim(1))
}

/// Sums of the columns: `[rows, n]` to `[1, n]`.
pub(super) fn column_sums<C: Compute, K>(x: Tensor<C, 2, K>) -> Tensor<C, 2, K>
where
    K: Numeric<C>,
    K::Elem: Element,
{
    let mut x = x;
    loop {
        let [rows, n] = x.dims();
        let part = part_of(rows);
        if part == rows {
            return x.sum_dim(0);
        }
        x = x.reshape([rows / part, part, n]).sum_dim(1).reshape([rows / part, n]);
    }
}

/// How many entries of every row are marked: `[rows, n]` to `[rows, 1]`.
pub(super) fn row_counts<C: Compute>(marked: Tensor<C, 2, burn::tensor::Bool>) -> Tensor<C, 2, Int> {
    row_sums(marked.int())
}

/// The largest power of two up to [`PART`] that divides `n`; `n` itself where that is no larger, or odd.
fn part_of(n: usize) -> usize {
    let part = 1 << n.trailing_zeros().min(PART.trailing_zeros());
    if n <= PART || part == 1 { n } else { part }
}

#[cfg(test)]
mod tests {
    use mediant_tensor::{Flex, Tensor, TensorData};

    use super::{column_sums, row_sums};

    #[test]
    fn sums_of_all_lengths() {
        for [rows, n] in [[1, 1], [3, 64], [2, 65], [130, 6 * 64], [4096, 3], [77, 1024]] {
            // Whole numbers: sums are exact in any order.
            let values: Vec<f32> = (0..rows * n).map(|i| (i % 101) as f32).collect();
            let tensor = Tensor::<Flex, 2>::from_data(TensorData::new(values.clone(), [rows, n]), &Default::default());
            let along: Vec<f32> = values.chunks_exact(n).map(|row| row.iter().sum()).collect();
            let across: Vec<f32> = (0..n).map(|column| values.iter().skip(column).step_by(n).sum()).collect();
            let numbers = |tensor: Tensor<Flex, 2>| tensor.into_data().iter::<f32>().collect::<Vec<f32>>();
            assert_eq!(numbers(row_sums(tensor.clone())), along);
            assert_eq!(numbers(column_sums(tensor)), across);
        }
    }
}
