//! Which feature a latent stands for.

use mediant_tensor::kernels::{Matrix, MatrixMut, least_rows, matmul_over};
use rayon::prelude::*;

use crate::assignment::assignment;
use crate::weights::sum_of_squares;

/// Latents and features by the absolute cosines of their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// For each latent the feature of the largest cosine, the first of equal ones, and that cosine.
    pub best: Vec<(u32, f32)>,
    /// For each latent the feature that it alone has where latents and features are paired for the largest sum of cosines,
    /// and that cosine. Some have none where there are more latents than features.
    pub paired: Vec<Option<(u32, f32)>>,
}

impl Matching {
    /// Matches latents `[latents, width]` with features `[features, width]`.
    pub fn new(latents: &[f32], features: &[f32], width: usize) -> Self {
        let cosines = absolute_cosines(latents, features, width);
        let (n, m) = (latents.len() / width, features.len() / width);
        let best = cosines.par_chunks(m).map(|row| {
            let first = (0u32, row[0]);
            (0u32..).zip(row.iter().copied()).fold(first, |best, next| if next.1 > best.1 { next } else { best })
        });
        let best = best.collect();
        let paired = assignment(&cosines, n, m).into_iter().enumerate();
        let paired =
            paired.map(|(latent, feature)| feature.map(|feature| (feature as u32, cosines[latent * m + feature])));
        Self { best, paired: paired.collect() }
    }

    /// Sum of the cosines of the pairs, and how many there are; their quotient is the mean correlation coefficient.
    pub fn correlation(&self) -> (f64, usize) {
        let pairs = self.paired.iter().flatten();
        (pairs.clone().map(|(_, cosine)| f64::from(*cosine)).sum(), pairs.count())
    }

    /// How many features are the best match of some latent.
    pub fn distinct(&self) -> usize {
        let mut features: Vec<u32> = self.best.iter().map(|(feature, _)| *feature).collect();
        features.sort_unstable();
        features.dedup();
        features.len()
    }
}

/// |cos| of every latent with every feature, `[latents, features]`; 0 with a vector of length 0.
fn absolute_cosines(latents: &[f32], features: &[f32], width: usize) -> Vec<f32> {
    let (mut latents, features) = (unit_rows(latents, width), unit_rows(features, width));
    let (n, m) = (latents.len() / width, features.len() / width);
    let rows = n.max(least_rows(m));
    latents.resize(rows * width, 0.0);
    let mut cosines = vec![0.0; rows * m];
    let (a, b) = (Matrix::new(&latents, rows, width, width), Matrix::new(&features, m, width, width).t());
    matmul_over(&mut MatrixMut::new(&mut cosines, rows, m, m), 1.0, a, b, true);
    cosines.truncate(n * m);
    cosines.par_iter_mut().for_each(|x| *x = x.abs());
    cosines
}

/// Rows of length 1; norms are clamped to 1e-8 as in SAELens.
fn unit_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut unit = rows.to_vec();
    unit.par_chunks_mut(width).for_each(|row| {
        let factor = (1.0 / sum_of_squares(row).sqrt().max(1e-8)) as f32;
        row.iter_mut().for_each(|x| *x *= factor);
    });
    unit
}

#[cfg(test)]
mod tests {
    use super::Matching;

    #[test]
    fn three_latents_and_four_features_by_hand() {
        let features = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.6, 0.8];
        // Latents 0 and 1 both point along feature 0, the second of them partly along feature 1; latent 2 against feature 2.
        let latents = [2.0, 0.0, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, -3.0];
        let found = Matching::new(&latents, &features, 3);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert_eq!(found.best.iter().map(|(feature, _)| *feature).collect::<Vec<_>>(), [0, 0, 2]);
        assert!(close(found.best[0].1, 1.0) && close(found.best[1].1, 0.8) && close(found.best[2].1, 1.0));
        // Pairs: 0 has feature 0, so 1 has feature 1 (0.6, against 0.36 with feature 3).
        let pairs: Vec<u32> = found.paired.iter().flatten().map(|(feature, _)| *feature).collect();
        assert_eq!(pairs, [0, 1, 2]);
        let (sum, count) = found.correlation();
        assert!((sum - 2.6).abs() < 1e-6 && count == 3);
        assert_eq!(found.distinct(), 2);
    }

    #[test]
    fn more_latents_than_features_leave_some_alone() {
        let found = Matching::new(&[1.0, 0.1, 1.0, 0.0, 0.0, 0.0], &[1.0, 0.0], 2);
        assert_eq!(found.paired.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
        // A latent without a direction matches nothing.
        assert_eq!(found.best[2], (0, 0.0));
    }
}
