//! How alike the latents of two dictionaries are.

use rayon::prelude::*;

use crate::product::add_times_transposed;
use crate::{Error, Result, Sae, assignment};

/// A latent of one dictionary and the one of the other that stands for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Latent of the first.
    pub a: usize,
    /// Latent of the second.
    pub b: usize,
    /// Cosine of their decoder rows.
    pub cosine: f32,
}

/// The latents of two dictionaries side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// Each latent of the smaller with one of the other of its own, so that the sum of cosines is the largest; by the
    /// first's latents.
    pub matched: Vec<Match>,
    /// The largest cosine that each latent of the first has with any of the second.
    pub nearest_in_b: Vec<f32>,
    /// The largest cosine that each latent of the second has with any of the first.
    pub nearest_in_a: Vec<f32>,
}

/// Compares decoder rows by their cosines, signs included: latents are positive, so that opposite directions say opposite
/// things. A row of zeros has cosine 0 with all. Holds d_sae² cosines.
///
/// # Errors
/// If the two are of vectors of different widths.
pub fn match_decoders(a: &Sae, b: &Sae) -> Result<Alike> {
    let (first, second) = (a.weights(), b.weights());
    if first.d_out != second.d_out {
        let why = format!("decoder rows of {} and {} numbers cannot be compared", first.d_out, second.d_out);
        return Err(Error::Data(why));
    }
    let (rows, columns) = (first.d_sae, second.d_sae);
    let mut cosine = vec![0.0; rows * columns];
    let (first, second) = (directions(&first.w_dec, first.d_out), directions(&second.w_dec, first.d_out));
    add_times_transposed(&mut cosine, 1.0, &first, &second, a.weights().d_out);
    let largest = |x: f32, y: f32| x.max(y);
    let nearest_in_b = cosine.par_chunks(columns).map(|row| row.iter().copied().fold(-1.0, largest)).collect();
    let mut nearest_in_a = vec![-1.0; columns];
    for row in cosine.chunks(columns) {
        nearest_in_a.iter_mut().zip(row).for_each(|(nearest, x)| *nearest = largest(*nearest, *x));
    }
    let assigned = assignment(&cosine, rows, columns).into_iter().enumerate();
    let matched = assigned.filter_map(|(a, b)| b.map(|b| Match { a, b, cosine: cosine[a * columns + b] }));
    Ok(Alike { matched: matched.collect(), nearest_in_b, nearest_in_a })
}

/// The rows of `[rows, width]` brought to length 1.
fn directions(rows: &[f32], width: usize) -> Vec<f32> {
    let mut rows = rows.to_vec();
    rows.par_chunks_mut(width).for_each(|row| {
        let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::match_decoders;
    use crate::{Activation, Sae, Weights};
    use mediant_tensor::random::{fill_normal, permutation, stream};

    const D: usize = 24;
    const H: usize = 60;

    fn sae(w_dec: Vec<f32>, d_in: usize) -> Sae {
        let mut weights = Weights::init(d_in, w_dec.len() / d_in, None, 0);
        weights.w_dec = w_dec;
        Sae::new(weights, Activation::Relu, true).unwrap()
    }

    #[test]
    fn a_permuted_dictionary_is_found_whatever_its_lengths() {
        let mut w_dec = vec![0.0; H * D];
        fill_normal(&mut stream(0, "test"), &mut w_dec, 0.0, 1.0);
        let order = permutation(&mut stream(1, "test"), H);
        // Latent order[i] of the second is latent i of the first, three times as long; five more are there.
        let mut other = vec![0.0; (H + 5) * D];
        fill_normal(&mut stream(2, "test"), &mut other, 0.0, 1.0);
        for (i, &to) in order.iter().enumerate() {
            (0..D).for_each(|d| other[to * D + d] = 3.0 * w_dec[i * D + d]);
        }
        let (a, b) = (sae(w_dec, D), sae(other, D));
        let alike = match_decoders(&a, &b).unwrap();
        assert_eq!(alike.matched.iter().map(|one| one.b).collect::<Vec<_>>(), order);
        assert!(alike.matched.iter().all(|one| (one.cosine - 1.0).abs() < 1e-6));
        assert!(alike.nearest_in_b.iter().all(|x| (x - 1.0).abs() < 1e-6));
        assert_eq!(alike.nearest_in_a.iter().filter(|x| **x < 0.99).count(), 5);
        // The other way round, the five have no partner.
        let back = match_decoders(&b, &a).unwrap();
        assert_eq!(back.matched.len(), H);
        assert_eq!(back.nearest_in_a.len(), H);
    }

    #[test]
    fn opposite_directions_are_not_alike() {
        let alike = match_decoders(&sae(vec![1.0, 0.0, 0.0, 1.0], 2), &sae(vec![-1.0, 0.0, 0.0, 0.0], 2)).unwrap();
        // The row of zeros is as far from all.
        assert_eq!(alike.matched.iter().map(|one| one.cosine).sum::<f32>(), 0.0);
        assert_eq!(alike.nearest_in_b, [0.0, 0.0]);
        assert!(match_decoders(&sae(vec![1.0; 6], 3), &sae(vec![1.0; 4], 2)).is_err());
    }
}
