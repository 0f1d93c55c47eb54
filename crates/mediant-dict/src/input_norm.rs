//! Normalisation of each vector by itself, which cannot be taken over into weights: it is part of the autoencoder.

use mediant_tensor::kernels::simd;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::encode::sized;
use crate::weights::sum_of_squares;

/// Keeps the deviation of a constant vector from dividing by zero, as in SAELens.
const EPSILON: f64 = 1e-5;

/// What happens to every vector before it is encoded, and is undone after it is decoded. Names and formulas are those of SAELens
/// 6.54 (`_setup_activation_normalization`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputNorm {
    /// Nothing.
    #[default]
    None,
    /// `(x − mean(x)) / (std(x) + 1e-5)` with the unbiased deviation; back by `x̂ · std(x) + mean(x)`.
    LayerNorm,
    /// `x √d / ‖x‖`, back by `x̂ ‖x‖ / √d`. A vector of zeros stays one, and its reconstruction is one.
    ConstantNormRescale,
}

impl InputNorm {
    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// As SAELens' `normalize_activations` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LayerNorm => "layer_norm",
            Self::ConstantNormRescale => "constant_norm_rescale",
        }
    }

    /// Its name, if it is anything.
    pub fn given(self) -> Option<&'static str> {
        (!self.is_none()).then(|| self.name())
    }

    /// Vectors of `width` numbers normalised, in the buffer where anything happens.
    pub(crate) fn apply<'a>(self, x: &'a [f32], width: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        if self.is_none() {
            return x;
        }
        let out = sized(buffer, x.len());
        out.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(out, x)| {
            let Affine { shift, divisor, .. } = self.of(x);
            simd(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - shift) / divisor));
        });
        out
    }

    /// Brings what was made of the vectors `x` back to where they lie.
    pub(crate) fn undo(self, made: &mut [f32], x: &[f32], width: usize) {
        if self.is_none() {
            return;
        }
        made.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(made, x)| {
            let Affine { shift, factor, .. } = self.of(x);
            simd(|| made.iter_mut().for_each(|made| *made = *made * factor + shift));
        });
    }

    /// What a vector made of x is multiplied by when it is brought back.
    pub(crate) fn factor(self, x: &[f32]) -> f32 {
        self.of(x).factor
    }

    fn of(self, x: &[f32]) -> Affine {
        let width = x.len() as f64;
        match self {
            Self::None => Affine { shift: 0.0, divisor: 1.0, factor: 1.0 },
            Self::LayerNorm => {
                let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width;
                let squares: f64 = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
                let deviation = (squares / (width - 1.0)).sqrt();
                Affine { shift: mean as f32, divisor: (deviation + EPSILON) as f32, factor: deviation as f32 }
            }
            Self::ConstantNormRescale => {
                let scale = (sum_of_squares(x) / width).sqrt() as f32;
                Affine { shift: 0.0, divisor: if scale > 0.0 { scale } else { 1.0 }, factor: scale }
            }
        }
    }
}

/// A vector becomes `(x − shift) / divisor`, and what is made of it `x̂ · factor + shift`.
struct Affine {
    shift: f32,
    divisor: f32,
    factor: f32,
}

#[cfg(test)]
mod tests {
    use super::InputNorm;

    fn there(norm: InputNorm, x: &[f32]) -> Vec<f32> {
        norm.apply(x, 4, &mut Vec::new()).to_vec()
    }

    #[test]
    fn vectors_are_normalised_one_by_one() {
        let x = [1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 0.0];
        // Mean 3, squares 4 + 1 + 0 + 9 over 3.
        let deviation = (14.0f32 / 3.0).sqrt();
        let expected = [-2.0, -1.0, 0.0, 3.0].map(|x| x / (deviation + 1e-5));
        let found = there(InputNorm::LayerNorm, &x);
        // Rounding of f32.
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert_eq!(found[4..], [0.0; 4]);

        let found = there(InputNorm::ConstantNormRescale, &x);
        let expected = [1.0, 2.0, 3.0, 6.0].map(|x| x * 2.0 / 50f32.sqrt());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert_eq!(found[4..], [0.0; 4]);
    }

    #[test]
    fn what_was_normalised_comes_back() {
        let x = [1.0, 2.0, 3.0, 6.0, 0.5, 0.5, 0.5, 0.5, 1e4, -3.0, 7.0, 0.0];
        for norm in [InputNorm::None, InputNorm::LayerNorm, InputNorm::ConstantNormRescale] {
            let mut back = there(norm, &x);
            norm.undo(&mut back, &x, 4);
            for (back, x) in back.chunks(4).zip(x.chunks(4)) {
                let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                // Rounding, and the 1e-5 that SAELens adds to the deviation on the way there alone.
                assert!(back.iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-6 * largest + 1.5e-5), "{norm:?} {back:?}");
            }
        }
    }
}
