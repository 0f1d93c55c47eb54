//! What is estimated from the data before the first step.

use rayon::prelude::*;

use super::order::Order;
use super::source::Activations;
use crate::config::{BDecInit, Normalize, Training};
use crate::weights::sum_of_squares;
use crate::{Error, Result, Weights};

/// The factor that activations are multiplied by during training.
///
/// `expected_average_only_in`: √d_in / E‖x‖ over the first batches of the data order, at most one epoch (SAELens'
/// `estimate_scaling_factor`; it draws those batches apart from the training's).
pub(super) fn scale(training: &Training, source: &dyn Activations) -> Result<f32> {
    let Normalize::ExpectedAverageOnlyIn = training.normalize_activations else { return Ok(1.0) };
    let width = source.width();
    let mut order = Order::new(source.offsets(), training.block, training.seed, 0);
    let wanted = training.norm_estimate_batches.unwrap_or(1) * training.batch as u64;
    let mut left = wanted.min(order.rows_in_epoch());
    let count = left;
    let mut sum = 0.0;
    while left > 0 {
        let mut rows = vec![0; left.min(training.batch as u64) as usize];
        let mut x = vec![0.0; rows.len() * width];
        order.next_batch(&mut rows);
        source.fill(&rows, &mut x)?;
        let norms: Vec<f64> = x.par_chunks(width).map(|row| sum_of_squares(row).sqrt()).collect();
        sum += norms.iter().sum::<f64>();
        left -= rows.len() as u64;
    }
    let scale = ((width as f64).sqrt() * count as f64 / sum) as f32;
    if scale.is_finite() {
        Ok(scale)
    } else {
        Err(Error::Data(format!(
            "the mean norm of the activations is {}: they cannot be normalised",
            sum / count as f64
        )))
    }
}

/// The initial weights.
pub(super) fn weights(training: &Training, source: &dyn Activations, scale: f32) -> Result<Weights> {
    let mut weights = Weights::init(source.width(), training.d_sae, training.decoder_init_norm, training.seed);
    training.objective.extend(&mut weights);
    if training.b_dec_init != BDecInit::Zeros {
        let mut rows = vec![0; training.batch];
        let mut x = vec![0.0; rows.len() * source.width()];
        Order::new(source.offsets(), training.block, training.seed, 0).next_batch(&mut rows);
        source.fill(&rows, &mut x)?;
        x.iter_mut().for_each(|x| *x *= scale);
        let centre = match training.b_dec_init {
            BDecInit::GeometricMedian => geometric_median(&x, source.width()),
            _ => weighted_mean(&x, source.width(), |_| 1.0),
        };
        weights.b_dec = centre.into_iter().map(|x| x as f32).collect();
    }
    Ok(weights)
}

fn weighted_mean(rows: &[f32], width: usize, weight: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    let mut total = 0.0;
    for row in rows.chunks_exact(width) {
        let weight = weight(row);
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        total += weight;
    }
    sum.iter_mut().for_each(|x| *x /= total);
    sum
}

/// The point of least total distance to the rows, by Weiszfeld's algorithm: 100 steps at most, or until one moves it by
/// less than 1e-5, as in dictionary_learning.
fn geometric_median(rows: &[f32], width: usize) -> Vec<f64> {
    let mut guess = weighted_mean(rows, width, |_| 1.0);
    for _ in 0..100 {
        let distance =
            |row: &[f32]| row.iter().zip(&guess).map(|(x, g)| (f64::from(*x) - g).powi(2)).sum::<f64>().sqrt();
        // A guess that hits a row has distance 0 from it.
        let next = weighted_mean(rows, width, |row| 1.0 / distance(row).max(1e-12));
        let moved = next.iter().zip(&guess).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        guess = next;
        if moved < 1e-5 {
            break;
        }
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::geometric_median;

    #[test]
    fn the_geometric_median_ignores_how_far_an_outlier_lies() {
        // For three points with an angle above 120 degrees at one of them, that one is the median.
        let rows = [0.0, 0.0, 1.0, 0.1, -1e6, 0.1];
        let median = geometric_median(&rows, 2);
        // Weiszfeld's steps shrink slowly towards a data point; 1e-2 is far below the distance to the mean.
        assert!(median.iter().all(|x| x.abs() < 1e-2), "{median:?}");
        // Symmetric points have their centre.
        let square = [1.0, 1.0, 1.0, 3.0, 3.0, 1.0, 3.0, 3.0];
        let median = geometric_median(&square, 2);
        assert!(median.iter().all(|x| (x - 2.0).abs() < 1e-6));
    }
}
