//! Decoder rows kept at norm 1.

use rayon::prelude::*;

use crate::weights::sum_of_squares;

/// Removes from the gradient of each row its component along the row, which the norm's change would undo.
pub(super) fn remove_parallel(w_dec: &[f32], gradient: &mut [f32], d_in: usize) {
    gradient.par_chunks_mut(d_in).zip(w_dec.par_chunks(d_in)).for_each(|(gradient, row)| {
        let square = sum_of_squares(row);
        if square > 0.0 {
            let along: f64 = gradient.iter().zip(row).map(|(g, w)| f64::from(*g) * f64::from(*w)).sum();
            let factor = (along / square) as f32;
            gradient.iter_mut().zip(row).for_each(|(g, w)| *g -= factor * w);
        }
    });
}

/// Divides each row by its norm; a row of zeros stays.
pub(super) fn normalise(w_dec: &mut [f32], d_in: usize) {
    w_dec.par_chunks_mut(d_in).for_each(|row| {
        let norm = sum_of_squares(row).sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{normalise, remove_parallel};

    #[test]
    fn rows_have_norm_one_and_gradients_are_tangents() {
        let mut w_dec = [3.0, 4.0, 0.0, 0.0];
        let mut gradient = [1.0, 2.0, 5.0, -1.0];
        remove_parallel(&w_dec, &mut gradient, 2);
        // (1, 2) · (3, 4) / 25 = 0.44; a row of zeros has no direction.
        let expected = [1.0 - 0.44 * 3.0, 2.0 - 0.44 * 4.0, 5.0, -1.0];
        assert!(gradient.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{gradient:?}");
        normalise(&mut w_dec, 2);
        assert_eq!(w_dec, [0.6, 0.8, 0.0, 0.0]);
    }
}
