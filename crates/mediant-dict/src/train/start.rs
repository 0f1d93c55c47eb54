//! What is estimated from the data before the first step.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::feed::Feed;
use super::source::Activations;
use super::trainer::Places;
use crate::config::{BDecInit, Normalize, Training, Transcoder};
use crate::weights::sum_of_squares;
use crate::{Error, Extra, Result, Sae, Scales, Weights};

/// What trainings with the same batches need to know of their data, each thing found out once.
pub struct Estimates<'s> {
    source: &'s dyn Activations,
    /// By number of batches, at every hook point.
    norms: BTreeMap<u64, Vec<Norms>>,
}

/// Of the vectors at a hook point.
#[derive(Clone, Copy, Default)]
struct Norms {
    /// E‖x‖.
    mean: f64,
    /// E‖x‖².
    mean_square: f64,
}

impl<'s> Estimates<'s> {
    /// Nothing is known yet.
    pub fn new(source: &'s dyn Activations) -> Self {
        Self { source, norms: BTreeMap::new() }
    }

    /// The source.
    pub fn source(&self) -> &'s dyn Activations {
        self.source
    }

    /// The factors that activations are multiplied by during training.
    ///
    /// `expected_average_only_in`: √d_in / E‖x‖ over the first batches of the data order, at most one epoch (SAELens'
    /// `estimate_scaling_factor`; it draws those batches apart from the training's). `root_mean_square_norm`: 1 / √E‖x‖² over
    /// them (dictionary_learning's `get_norm_factor`). The target of a transcoder has a factor of its own, as in OpenMOSS'
    /// Language-Model-SAEs.
    pub(super) fn scales(&mut self, training: &Training, places: Places) -> Result<Scales> {
        let scale: fn(Norms, f64) -> f64 = match training.normalize_activations {
            Normalize::None | Normalize::LayerNorm | Normalize::ConstantNormRescale => return Ok(Scales::NONE),
            Normalize::ExpectedAverageOnlyIn => |norms, width| width.sqrt() / norms.mean,
            Normalize::RootMeanSquareNorm => |norms, _| norms.mean_square.sqrt().recip(),
        };
        Ok(Scales {
            input: self.scale(training, places.read, scale)?,
            target: self.scale(training, places.written, scale)?,
        })
    }

    fn scale(&mut self, training: &Training, hook: usize, scale: fn(Norms, f64) -> f64) -> Result<f32> {
        let batches = training.norm_estimate_batches.unwrap_or(1);
        let norms = match self.norms.get(&batches) {
            Some(norms) => norms,
            None => {
                let norms = mean_norms(self.source, training, batches)?;
                self.norms.entry(batches).or_insert(norms)
            }
        };
        let scale = scale(norms[hook], self.source.widths()[hook] as f64) as f32;
        if scale.is_finite() {
            Ok(scale)
        } else {
            let norm = norms[hook].mean;
            Err(Error::Data(format!("the mean norm of the activations is {norm}: they cannot be normalised")))
        }
    }

    /// The initial weights.
    pub(super) fn weights(&self, training: &Training, places: Places, scales: Scales) -> Result<Weights> {
        let width = self.source.widths()[places.written];
        let (norm, seed) = (training.decoder_init_norm, training.seed);
        let mut weights = match training.transcoder {
            None => {
                let mut weights = Weights::init(width, training.d_sae, norm, seed);
                weights.init_encoder(training.encoder_init, seed);
                weights
            }
            Some(Transcoder { skip }) => {
                let widths = [self.source.widths()[places.read], width];
                Weights::init_transcoder(widths, training.d_sae, norm, skip, seed)
            }
        };
        training.objective.extend(&mut weights);
        if training.b_dec_init != BDecInit::Zeros {
            let mut feed = Feed::new(self.source, training);
            let x: Vec<f32> = feed.batch(0)?.vectors(places.written).iter().map(|x| x * scales.target).collect();
            let mut buffer = Vec::new();
            let x = training.normalize_activations.input_norm().apply(&x, width, &mut buffer);
            let centre = match training.b_dec_init {
                BDecInit::GeometricMedian => geometric_median(x, width),
                _ => weighted_mean(x, width, |_| 1.0),
            };
            weights.b_dec = centre.into_iter().map(|x| x as f32).collect();
        }
        Ok(weights)
    }
}

/// Weights that begin a training, from a dictionary in its inference form. What `objective` compares with a running threshold
/// learns that anew.
pub(super) fn warm(training: &Training, widths: [usize; 2], sae: &Sae, scales: Scales) -> Result<Weights> {
    let mut weights = sae.weights().clone();
    let (has, wanted) = (sae.activation().architecture(), training.objective.activation().architecture());
    let shape = |[d_in, d_out]: [usize; 2], d_sae: usize, skip: bool| {
        format!("{d_in} to {d_sae} to {d_out} {} skip connection", if skip { "with a" } else { "without" })
    };
    let own = shape([weights.d_in, weights.d_out], weights.d_sae, weights.w_skip.is_some());
    let other = shape(widths, training.d_sae, training.transcoder.is_some_and(|transcoder| transcoder.skip));
    if has != wanted || own != other {
        let why = format!("the dictionary to start from is a {has} of {own}, the training of a {wanted} of {other}");
        return Err(Error::Data(why));
    }
    if sae.apply_b_dec_to_input() != training.apply_b_dec_to_input {
        let subtracts = if sae.apply_b_dec_to_input() { "subtracts" } else { "does not subtract" };
        let why = format!("the dictionary to start from {subtracts} b_dec from its input, unlike this training");
        return Err(Error::Data(format!("{why}; change `sae.apply_b_dec_to_input`")));
    }
    let (has, wanted) = (sae.input_norm(), training.normalize_activations.input_norm());
    if has != wanted {
        let why = format!("the dictionary to start from has `normalize_activations: {}`, the training", has.name());
        return Err(Error::Data(format!("{why} `{}`; the two must be the same", wanted.name())));
    }
    if training.objective.batch_choice().is_some() {
        weights.extra = Extra::None;
    }
    // In training, activations are multiplied by the scales.
    if scales != Scales::NONE {
        weights.fold_scales(Scales { input: scales.input.recip(), target: scales.target.recip() });
    }
    Ok(weights)
}

/// Norms at every hook point over the first batches, at most one epoch.
fn mean_norms(source: &dyn Activations, training: &Training, batches: u64) -> Result<Vec<Norms>> {
    let mut feed = Feed::new(source, training);
    let count = (batches * training.batch as u64).min(feed.rows_in_epoch());
    let mut sums = vec![Norms::default(); source.widths().len()];
    let mut left = count;
    while left > 0 {
        let rows = left.min(training.batch as u64);
        let batch = feed.take(rows as usize)?;
        for (hook, (sum, width)) in sums.iter_mut().zip(source.widths()).enumerate() {
            let squares: Vec<f64> = batch.vectors(hook).par_chunks(*width).map(sum_of_squares).collect();
            sum.mean += squares.iter().map(|square| square.sqrt()).sum::<f64>();
            sum.mean_square += squares.iter().sum::<f64>();
        }
        left -= rows;
    }
    let mean = |sum: Norms| Norms { mean: sum.mean / count as f64, mean_square: sum.mean_square / count as f64 };
    Ok(sums.into_iter().map(mean).collect())
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
