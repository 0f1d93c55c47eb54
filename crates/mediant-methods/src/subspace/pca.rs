use rayon::prelude::*;

use super::Gathered;
use super::basis::orthonormal;
use crate::eigen::{dot, eigenvectors};
use crate::{Error, Result};

/// Eigenvalues of this share of the largest are rounding errors of f32 activations.
const NOTHING: f64 = 1e-12;

/// Principal components, that of the largest variance first.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// Orthonormal vectors. In each the number of the largest size, the first of equal ones, is positive.
    pub vectors: Vec<Vec<f32>>,
    /// The share of the variance that lies along each.
    pub shares: Vec<f64>,
}

/// The first `rank` principal components of the vectors of all parts together, centred, in f64. Where fewer dimensions vary, the unit
/// vectors of the standard basis, in order, made orthogonal to those before, complete them with a share of 0.
///
/// # Errors
/// [`Error::Data`] if there are fewer than two vectors, or `rank` is above their width.
pub fn principal(parts: &[&Gathered], rank: usize) -> Result<Principal> {
    let width = parts.iter().map(|part| part.width).max().unwrap_or(0);
    let mut rows: Vec<Vec<f64>> =
        parts.iter().flat_map(|part| part.vectors()).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
    if rows.len() < 2 {
        return Err(Error::Data("principal components need at least two vectors".to_owned()));
    }
    if rank > width {
        return Err(Error::Data(format!("vectors of {width} numbers have no {rank} principal components")));
    }
    let count = rows.len() as f64;
    let mut mean = vec![0.0; width];
    rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / count));
    rows.par_iter_mut().for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean));
    let total: f64 = rows.iter().map(|row| dot(row, row)).sum();
    let found = if rows.len() < width { by_products(&rows, width) } else { by_covariance(&rows, width) };
    let largest = found.first().map_or(0.0, |(value, _)| *value);
    let varying: Vec<&(f64, Vec<f64>)> =
        found.iter().take(rank).take_while(|(value, _)| *value > NOTHING * largest).collect();
    let shares = varying.iter().map(|(value, _)| value / total).chain(std::iter::repeat(0.0)).take(rank).collect();
    let mut vectors: Vec<Vec<f64>> = varying.into_iter().map(|(_, vector)| vector.clone()).collect();
    if vectors.len() < rank {
        let unit = |i: usize| (0..width).map(|j| f64::from(u8::from(i == j))).collect();
        vectors.extend((0..width).map(unit));
    }
    let mut vectors = orthonormal(&vectors);
    vectors.truncate(rank);
    let signed = |vector: &Vec<f64>| {
        let largest = vector.iter().fold(0.0f64, |most, x| if x.abs() > most.abs() { *x } else { most });
        vector.iter().map(|x| (x * largest.signum()) as f32).collect()
    };
    Ok(Principal { vectors: vectors.iter().map(signed).collect(), shares })
}

/// Eigenvectors of XᵀX from those of it, `[width, width]`.
fn by_covariance(rows: &[Vec<f64>], width: usize) -> Vec<(f64, Vec<f64>)> {
    let columns: Vec<Vec<f64>> = (0..width).map(|i| rows.iter().map(|row| row[i]).collect()).collect();
    let products = columns.par_iter().map(|a| columns.iter().map(|b| dot(a, b)).collect());
    eigenvectors(products.collect())
}

/// Eigenvectors of XᵀX from those of XXᵀ, `[rows, rows]`: u of the value λ gives Xᵀu / √λ.
fn by_products(rows: &[Vec<f64>], width: usize) -> Vec<(f64, Vec<f64>)> {
    let products = rows.par_iter().map(|a| rows.iter().map(|b| dot(a, b)).collect());
    let back = |(value, u): (f64, Vec<f64>)| {
        let mut vector = vec![0.0; width];
        for (row, u) in rows.iter().zip(&u) {
            vector.iter_mut().zip(row).for_each(|(v, x)| *v += u * x / value.sqrt());
        }
        (value, vector)
    };
    eigenvectors(products.collect()).into_iter().map(back).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mediant_tensor::random::{fill_normal, stream};

    use super::principal;
    use crate::subspace::{Basis, Gathered};

    /// Vectors that vary by 3, 2 and 1 along three axes of five.
    fn gathered(rows: usize) -> Gathered {
        let mut noise = vec![0f32; 3 * rows];
        fill_normal(&mut stream(0, "pca"), &mut noise, 1.0, 1.0);
        let rows: Vec<f32> = noise.chunks(3).flat_map(|n| [2.0 * n[0], 4.0, -3.0 * n[1], n[2], n[2]]).collect();
        Gathered { width: 5, prompts: (0..rows.len() as u32 / 5).collect(), rows }
    }

    #[test]
    fn the_largest_variance_comes_first_and_signs_are_fixed() {
        let found = principal(&[&gathered(4000)], 5).unwrap();
        // Variances 9, 4 and 2 of 15; the shares of 4000 draws are within 5 percent.
        for (share, expected) in found.shares.iter().zip([9.0 / 15.0, 4.0 / 15.0, 2.0 / 15.0, 0.0, 0.0]) {
            assert!((share - expected).abs() < 0.05 * expected + 1e-9, "{:?}", found.shares);
        }
        assert!(found.vectors[0][2] > 0.99 && found.vectors[1][0] > 0.99, "{:?}", found.vectors);
        assert!(Basis::new(&found.vectors).is_ok());
        assert!(principal(&[&gathered(4000)], 6).is_err());
    }

    #[test]
    fn few_vectors_span_what_they_span_and_the_basis_is_completed() {
        let few = gathered(4);
        let found = principal(&[&few], 5).unwrap();
        let basis = Basis::new(&found.vectors).unwrap();
        assert_eq!(basis.rank(), 5);
        assert!(found.shares[2] > 0.0 && found.shares[3] == 0.0, "{:?}", found.shares);
        assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // The components of enough copies of the same vectors are the same, by the other way.
        let many = Gathered { width: 5, rows: few.rows.repeat(3), prompts: vec![0; 12] };
        let again = principal(&[&many], 3).unwrap();
        for (a, b) in found.vectors.iter().zip(&again.vectors) {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        }
    }
}
