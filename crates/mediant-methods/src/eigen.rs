//! Eigenvectors of symmetric matrices.

use rayon::prelude::*;

/// Rounds after which rows that are still not orthogonal stay as they are. Convergence is quadratic: a few hundred dimensions take about ten.
const SWEEPS: usize = 40;

/// A row of the matrix under rotation, and the same row of the rotations.
struct Row {
    row: Vec<f64>,
    vector: Vec<f64>,
}

/// Eigenvalues of a symmetric positive semidefinite matrix, falling, with their unit vectors.
///
/// Hestenes' one-sided Jacobi method (1958): rows are rotated two by two until they are orthogonal; what rotates them holds the eigenvectors.
/// Every round takes disjoint pairs (a tournament), so that the number of threads changes no bit.
pub(crate) fn eigenvectors(matrix: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = matrix.len();
    let largest = matrix.iter().map(|row| dot(row, row)).fold(0.0, f64::max);
    let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect();
    let mut rows: Vec<Row> = matrix.into_iter().enumerate().map(|(i, row)| Row { row, vector: unit(i) }).collect();
    if n % 2 == 1 {
        // Its partner has a round off.
        rows.push(Row { row: vec![0.0; n], vector: vec![0.0; n] });
    }
    // Rows of this size are rounding errors of larger ones.
    let nothing = largest * 1e-28;
    for _ in 0..SWEEPS {
        let mut turned = false;
        for _ in 1..rows.len() {
            let half = rows.len() / 2;
            let (top, bottom) = rows.split_at_mut(half);
            let pairs = top.par_iter_mut().zip(bottom.par_iter_mut().rev());
            turned |= pairs.map(|(a, b)| rotate(a, b, nothing)).reduce(|| false, |a, b| a | b);
            // The first stays, the others go around.
            rows[1..].rotate_right(1);
        }
        if !turned {
            break;
        }
    }
    let mut found: Vec<(f64, Vec<f64>)> = rows
        .into_iter()
        .filter(|row| row.vector.iter().any(|x| *x != 0.0))
        .map(|Row { row, vector }| (dot(&row, &row).sqrt(), vector))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
}

/// Makes two rows orthogonal; false if they are.
fn rotate(a: &mut Row, b: &mut Row, nothing: f64) -> bool {
    let (aa, bb, ab) = (dot(&a.row, &a.row), dot(&b.row, &b.row), dot(&a.row, &b.row));
    if ab.abs() <= 1e-14 * (aa * bb).sqrt() || ab.abs() <= nothing {
        return false;
    }
    let ratio = (bb - aa) / (2.0 * ab);
    let tan = ratio.signum() / (ratio.abs() + ratio.hypot(1.0));
    let cos = 1.0 / tan.hypot(1.0);
    let sin = cos * tan;
    for (a, b) in [(&mut a.row, &mut b.row), (&mut a.vector, &mut b.vector)] {
        for (a, b) in a.iter_mut().zip(b.iter_mut()) {
            (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
        }
    }
    true
}

/// In eight sums side by side, which the processor adds at once; the order is fixed.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use mediant_tensor::random::{stream, unit_f64};

    use super::{dot, eigenvectors};

    /// `AᵀA` of random numbers, `[rows, n]`.
    fn gram(rows: usize, n: usize) -> Vec<Vec<f64>> {
        let mut draws = stream(0, "eigen");
        let a: Vec<Vec<f64>> = (0..n).map(|_| (0..rows).map(|_| unit_f64(&mut draws) - 0.5).collect()).collect();
        (0..n).map(|i| (0..n).map(|j| dot(&a[i], &a[j])).collect()).collect()
    }

    #[test]
    fn vectors_are_orthonormal_and_give_the_matrix_back() {
        // Of fewer rows than columns the last eigenvalues are 0.
        for (rows, n) in [(60, 21), (12, 20), (1, 1), (9, 2)] {
            let matrix = gram(rows, n);
            let found = eigenvectors(matrix.clone());
            assert_eq!(found.len(), n);
            assert!(found.windows(2).all(|pair| pair[0].0 >= pair[1].0));
            for (i, (value, vector)) in found.iter().enumerate() {
                for (j, (_, other)) in found.iter().enumerate() {
                    let expected = f64::from(u8::from(i == j));
                    assert!((dot(vector, other) - expected).abs() < 1e-12, "{i} {j}");
                }
                let image: Vec<f64> = matrix.iter().map(|row| dot(row, vector)).collect();
                let off = image.iter().zip(vector).map(|(x, v)| (x - value * v).abs()).fold(0.0, f64::max);
                assert!(off < 1e-12 * found[0].0, "{i}: {off}");
            }
            assert!(found.iter().skip(rows).all(|(value, _)| *value < 1e-12 * found[0].0));
        }
    }
}
