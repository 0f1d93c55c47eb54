//! The arithmetic of weight processing, on matrices stored row after row. Sums are in f64.

/// `to[o] += Σ_i x[i] · matrix[i, o]`, for a matrix of as many rows as `x` has numbers.
pub(crate) fn add_product(to: &mut [f32], x: impl IntoIterator<Item = f32>, matrix: &[f32]) {
    let mut sums: Vec<f64> = to.iter().map(|&x| f64::from(x)).collect();
    for (x, row) in x.into_iter().zip(matrix.chunks_exact(to.len())) {
        for (sum, weight) in sums.iter_mut().zip(row) {
            *sum += f64::from(x) * f64::from(*weight);
        }
    }
    to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
}

/// `to[r] += Σ_i matrix[r, i] · x[i]`.
pub(crate) fn add_row_products(to: &mut [f32], matrix: &[f32], x: &[f32]) {
    for (to, row) in to.iter_mut().zip(matrix.chunks_exact(x.len())) {
        let sum: f64 = row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        *to = (f64::from(*to) + sum) as f32;
    }
}

/// Multiplies every row by its gain.
pub(crate) fn scale_rows(matrix: &mut [f32], gains: &[f32]) {
    let width = matrix.len() / gains.len();
    for (row, gain) in matrix.chunks_exact_mut(width).zip(gains) {
        row.iter_mut().for_each(|x| *x *= gain);
    }
}

/// Multiplies every column by its gain.
pub(crate) fn scale_columns(matrix: &mut [f32], gains: &[f32]) {
    for row in matrix.chunks_exact_mut(gains.len()) {
        row.iter_mut().zip(gains).for_each(|(x, gain)| *x *= gain);
    }
}

/// Divides every number.
pub(crate) fn divide(values: &mut [f32], by: f64) {
    values.iter_mut().for_each(|x| *x = (f64::from(*x) / by) as f32);
}

/// Takes its mean from every row of `width` numbers.
pub(crate) fn center_rows(matrix: &mut [f32], width: usize) {
    for row in matrix.chunks_exact_mut(width) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        row.iter_mut().for_each(|x| *x = (f64::from(*x) - mean) as f32);
    }
}

/// Takes its mean from every one of the `width` columns.
pub(crate) fn center_columns(matrix: &mut [f32], width: usize) {
    let rows = (matrix.len() / width) as f64;
    let mut means = vec![0.0; width];
    for row in matrix.chunks_exact(width) {
        means.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x) / rows);
    }
    for row in matrix.chunks_exact_mut(width) {
        row.iter_mut().zip(&means).for_each(|(x, mean)| *x = (f64::from(*x) - mean) as f32);
    }
}
