//! Matching pursuit: latents are chosen one after another, each the one that explains most of what is left.
//!
//! As SAELens 6.54 has it (`_encode_matching_pursuit`): with r_0 = x' and i_t = argmax_i r_t · W_dec,i, of equal ones the first,
//! v_t = max(r_t · W_dec,i_t, 0), f_i_t += v_t, r_{t+1} = r_t − v_t W_dec,i_t. The encoder is the decoder.

use mediant_tensor::kernels::sparse::{Codes, dot_with_each};
use mediant_tensor::kernels::{least_rows, simd};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::encode::sized;
use crate::product::times_transposed;
use crate::weights::sum_of_squares;

/// When a pursuit ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchingPursuit {
    /// Once the residual is of a smaller norm; 0 for never.
    pub residual_threshold: f64,
    /// After so many choices; as many as there are dimensions if `None`.
    pub max_iterations: Option<usize>,
    /// After a latent that had been chosen before.
    pub stop_on_duplicate_support: bool,
}

/// The latents of a row in the order of their choice, each with its v_t.
pub(crate) type Choices = Vec<(u32, f32)>;

/// A row whose pursuit goes on.
struct Under {
    row: usize,
    choices: Choices,
}

impl MatchingPursuit {
    /// The choices of every row of `inputs`, `[rows, d_in]`. `buffer` is for products.
    pub(crate) fn pursue(&self, inputs: &[f32], w_dec: &[f32], d_in: usize, buffer: &mut Vec<f32>) -> Vec<Choices> {
        let d_sae = w_dec.len() / d_in;
        let mut found = vec![Choices::new(); inputs.len() / d_in];
        let mut under: Vec<Under> = (0..found.len()).map(|row| Under { row, choices: Choices::new() }).collect();
        // Of those rows, close together.
        let mut residuals = inputs.to_vec();
        for _ in 0..self.max_iterations.unwrap_or(d_in) {
            if under.is_empty() {
                break;
            }
            // Products of few rows would have other bits.
            residuals.resize(under.len().max(least_rows(d_sae)) * d_in, 0.0);
            let products = sized(buffer, residuals.len() / d_in * d_sae);
            times_transposed(products, 1.0, &residuals, w_dec, d_in);
            residuals.truncate(under.len() * d_in);
            let rows = under.par_iter_mut().zip(residuals.par_chunks_mut(d_in)).zip(products.par_chunks(d_sae));
            let goes_on: Vec<bool> =
                rows.map(|((under, residual), products)| self.choose(under, residual, products, w_dec)).collect();

            let mut kept = 0;
            for (place, &goes_on) in goes_on.iter().enumerate() {
                if goes_on {
                    residuals.copy_within(place * d_in..(place + 1) * d_in, kept * d_in);
                    kept += 1;
                }
            }
            residuals.truncate(kept * d_in);
            let (on, ended): (Vec<_>, Vec<_>) = under.into_iter().zip(goes_on).partition(|(_, goes_on)| *goes_on);
            ended.into_iter().for_each(|(ended, _)| found[ended.row] = ended.choices);
            under = on.into_iter().map(|(under, _)| under).collect();
        }
        under.into_iter().for_each(|under| found[under.row] = under.choices);
        found
    }

    /// The next choice of a row; whether another follows.
    fn choose(&self, under: &mut Under, residual: &mut [f32], products: &[f32], w_dec: &[f32]) -> bool {
        let latent = first_of_largest(products);
        let mut value = [0.0];
        dot_with_each(residual, &[latent], w_dec, &mut value);
        // Nothing points along what is left, now or later.
        if products[latent as usize] <= 0.0 || value[0] <= 0.0 {
            return false;
        }
        subtract(residual, value[0], latent, w_dec);
        let again = under.choices.iter().any(|(before, _)| *before == latent);
        under.choices.push((latent, value[0]));
        let small = self.residual_threshold > 0.0 && sum_of_squares(residual).sqrt() < self.residual_threshold;
        !(small || (again && self.stop_on_duplicate_support))
    }
}

/// r − v W_dec,i.
pub(crate) fn subtract(residual: &mut [f32], value: f32, latent: u32, w_dec: &[f32]) {
    let row = &w_dec[latent as usize * residual.len()..][..residual.len()];
    simd(|| residual.iter_mut().zip(row).for_each(|(r, w)| *r -= value * w));
}

fn first_of_largest(values: &[f32]) -> u32 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    values.iter().position(|value| *value == largest).unwrap_or(0) as u32
}

/// The sum of every latent's values.
pub(crate) fn codes(choices: &[Choices]) -> Codes {
    Codes::collect(choices.par_iter(), |choices, sorted: &mut Choices, codes| {
        sorted.clone_from(choices);
        // Stable, so that values are added in the order of their choice.
        sorted.sort_by_key(|(latent, _)| *latent);
        sorted.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        codes.push_row(sorted.iter().copied());
    })
}

#[cfg(test)]
mod tests {
    use super::{MatchingPursuit, codes};

    const RULE: MatchingPursuit =
        MatchingPursuit { residual_threshold: 1e-2, max_iterations: None, stop_on_duplicate_support: true };

    #[test]
    fn orthonormal_rows_are_found_from_the_largest_on() {
        let w_dec = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
        let inputs = [0.5, 2.0, -3.0, 0.0, 0.0, 0.0];
        let choices = RULE.pursue(&inputs, &w_dec, 2, &mut Vec::new());
        assert_eq!(choices, [vec![(1, 2.0), (0, 0.5)], vec![(2, 3.0)], vec![]]);
        let codes = codes(&choices);
        assert_eq!(codes.row(0), (&[0, 1][..], &[0.5, 2.0][..]));
        let one = MatchingPursuit { max_iterations: Some(1), ..RULE };
        assert_eq!(one.pursue(&inputs, &w_dec, 2, &mut Vec::new())[0], [(1, 2.0)]);
    }

    #[test]
    fn a_pursuit_ends_with_a_latent_chosen_again_or_a_small_residual() {
        // Rows 0 and 2 are opposite; row 1 leaves some of their direction each time. The norms of what is left are 0.1, 0.06,
        // 0.036, 0.0216, 0.013, 0.0078.
        let (w_dec, inputs) = ([1.0, 0.0, 0.6, 0.8, -1.0, 0.0], [1.0, 0.1]);
        let latents = |rule: MatchingPursuit| {
            let choices = rule.pursue(&inputs, &w_dec, 2, &mut Vec::new()).remove(0);
            choices.into_iter().map(|(latent, _)| latent).collect::<Vec<_>>()
        };
        let long = MatchingPursuit { max_iterations: Some(9), ..RULE };
        assert_eq!(latents(RULE), [0, 1]);
        assert_eq!(latents(long), [0, 1, 2, 1]);
        let on = MatchingPursuit { stop_on_duplicate_support: false, ..long };
        assert_eq!(latents(on), [0, 1, 2, 1, 2, 1]);
        assert_eq!(latents(MatchingPursuit { residual_threshold: 0.02, ..on }), [0, 1, 2, 1, 2]);
    }
}
