//! The variance of a batch.

use rayon::prelude::*;

/// Σ over dimensions of the variance over rows of this width.
pub(super) fn variance(batch: &[f32], width: usize) -> f64 {
    let rows = (batch.len() / width) as f64;
    let mut mean = vec![0.0f64; width];
    for row in batch.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x));
    }
    mean.iter_mut().for_each(|x| *x /= rows);
    let squares =
        batch.par_chunks(width).map(|row| row.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum());
    let squares: Vec<f64> = squares.collect();
    squares.iter().sum::<f64>() / rows
}
