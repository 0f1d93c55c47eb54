//! The activation rule of top-AFA: as many of the largest latents as bring the norm of the codes nearest that of the input.
//!
//! If decoder rows are nearly orthogonal, ‖f‖ ≈ ‖x'‖ for codes f that explain x' (approximate feature activation). With
//! q_i = (z_i ‖W_dec,i‖)² where z_i > 0, sorted falling, and c_k = √(Σ_{j≤k} q_j), a vector has the
//! k* = argmin_k |c_k − ‖x'‖| largest: `SewoongLee/top-afa-sae`, `training/sae.py`, whose k* is at least 1 and, for inputs of
//! norm below some thousands, less than the number of latents.

use std::cmp::Ordering;

use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;

use crate::weights::sum_of_squares;

/// Latents above zero: q, the latent, its pre-activation.
type Candidate = (f32, u32, f32);

/// The chosen latents of each row with their pre-activations. `inputs` is what the encoder read, `[rows, d_in]`.
pub(crate) fn choose(hidden: &[f32], norms: &[f32], inputs: &[f32]) -> Codes {
    let (d_sae, rows) = (norms.len(), hidden.len() / norms.len());
    let inputs = inputs.par_chunks(inputs.len() / rows.max(1));
    let rows = hidden.par_chunks(d_sae).zip(inputs);
    Codes::collect(rows, |(hidden, input), candidates: &mut Vec<Candidate>, codes| {
        candidates.clear();
        candidates.extend((0u32..).zip(hidden.iter().zip(norms)).filter(|(_, (z, _))| **z > 0.0).filter_map(
            |(latent, (z, norm))| {
                let q = (z * norm) * (z * norm);
                (q > 0.0).then_some((q, latent, *z))
            },
        ));
        let count = nearest(candidates, sum_of_squares(input), d_sae - 1);
        let chosen = &mut candidates[..count];
        chosen.sort_unstable_by_key(|(_, latent, _)| *latent);
        codes.push_row(chosen.iter().map(|(_, latent, z)| (*latent, *z)));
    })
}

/// Largest first; of equal ones the earlier latent.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Puts the k* largest first, k* ≤ `most`, and gives k*; of two equally near the smaller.
fn nearest(candidates: &mut [Candidate], target: f64, most: usize) -> usize {
    // Halving instead of sorting: the `low` largest stand first and sum to `sum` ≤ target, the `high` largest to more (or
    // are all). Sums of the same row have the same order, whatever the batch.
    const SORTED: usize = 32;
    let (mut low, mut high, mut sum) = (0, candidates.len(), 0.0f64);
    while high - low > SORTED {
        let middle = low.midpoint(high);
        candidates[low..high].select_nth_unstable_by(middle - low, order);
        let upper: f64 = candidates[low..middle].iter().map(|(q, ..)| f64::from(*q)).sum();
        if sum + upper <= target {
            (low, sum) = (middle, sum + upper);
        } else {
            high = middle;
        }
    }
    candidates[low..high].sort_unstable_by(order);
    let mut count = low;
    while count < high && sum + f64::from(candidates[count].0) <= target {
        sum += f64::from(candidates[count].0);
        count += 1;
    }
    // c_count ≤ ‖x'‖ < c_{count + 1}, the latter if there are more.
    if count < candidates.len() {
        if count == high {
            // The next one stands anywhere among the rest.
            candidates[count..].select_nth_unstable_by(0, order);
        }
        let norm = target.sqrt();
        let next = (sum + f64::from(candidates[count].0)).sqrt();
        if count == 0 || next - norm < norm - sum.sqrt() {
            count += 1;
        }
    }
    if count > most {
        // All latents, of which the smallest is left out.
        candidates.sort_unstable_by(order);
        count = most;
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::choose;
    use proptest::prelude::*;

    /// The rule as it is written: all prefixes of the sorted entries. Returns how many, and by how much k* wins.
    fn by_sorting(hidden: &[f32], norms: &[f32], input: &[f32]) -> (usize, f64) {
        let mut q: Vec<f64> = hidden.iter().zip(norms).map(|(z, n)| f64::from(z.max(0.0) * n).powi(2)).collect();
        q.sort_unstable_by(|a, b| b.total_cmp(a));
        let norm = input.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let mut sum = 0.0;
        let mut distances = Vec::new();
        for q in &q[..q.len() - 1] {
            sum += q;
            distances.push((sum.sqrt() - norm).abs());
        }
        let best = distances.iter().copied().fold(f64::INFINITY, f64::min);
        let place = distances.iter().position(|distance| *distance == best).unwrap();
        let second = distances.iter().filter(|distance| **distance > best).copied().fold(f64::INFINITY, f64::min);
        (q[..=place].iter().filter(|q| **q > 0.0).count(), second - best)
    }

    proptest! {
        #[test]
        fn the_number_chosen_is_that_of_sorting(
            values in prop::collection::vec(-1f32..2.0, 2..400),
            norms in prop::collection::vec(0.2f32..2.0, 400),
            input in prop::collection::vec(-3f32..3.0, 3),
            size in prop_oneof![Just(0.0f32), 0.01f32..4.0],
        ) {
            let input: Vec<f32> = input.iter().map(|x| x * size).collect();
            let norms = &norms[..values.len()];
            let (expected, margin) = by_sorting(&values, norms, &input);
            // Sums of 400 squares in f32 and f64.
            prop_assume!(margin > 1e-4);
            let codes = choose(&values, norms, &input);
            prop_assert_eq!(codes.entries(), expected);
            // They are the largest.
            let q = |latent: u32| values[latent as usize] * norms[latent as usize];
            let least = codes.latents().iter().map(|latent| q(*latent)).fold(f32::INFINITY, f32::min);
            let others = (0..values.len() as u32).filter(|latent| !codes.latents().contains(latent));
            prop_assert!(expected == 0 || others.map(q).all(|other| other <= least));
            prop_assert!(codes.latents().is_sorted());
        }
    }

    #[test]
    fn exact_codes_of_an_orthonormal_decoder_are_found() {
        // The input is 3 e_1 + 4 e_4; the encoder gives these and noise: c_2 = 5 is the norm of the input.
        let hidden = [0.3, 3.0, -2.0, 0.1, 4.0, 0.2];
        let codes = choose(&hidden, &[1.0; 6], &[0.0, 3.0, 0.0, 0.0, 4.0, 0.0]);
        assert_eq!(codes.row(0), (&[1, 4][..], &[3.0, 4.0][..]));
        // A vector without a norm still has its largest latent, and one that nothing explains has all but one.
        assert_eq!(choose(&hidden, &[1.0; 6], &[0.0; 6]).latents(), [4]);
        assert_eq!(choose(&[1.0, 2.0, 0.5], &[1.0; 3], &[9.0; 3]).latents(), [0, 1]);
        assert_eq!(choose(&[-1.0; 3], &[1.0; 3], &[9.0; 3]).entries(), 0);
    }
}
