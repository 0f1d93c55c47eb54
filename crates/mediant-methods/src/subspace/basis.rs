use mediant_artifact::DirectionRow;
use mediant_tensor::random::{fill_normal, stream};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::eigen::dot;
use crate::{Error, Result};

/// What is left of a vector after those before it are taken out, as a share of it, below which it is a sum of them.
const DEPENDENT: f64 = 1e-8;

/// Orthonormal vectors, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    width: usize,
    vectors: Vec<f32>,
}

impl Basis {
    /// Of vectors of one width.
    ///
    /// # Errors
    /// [`Error::Data`] if there is none, they have different widths, or they are not orthonormal to 1e-3.
    pub fn new<V: AsRef<[f32]>>(vectors: &[V]) -> Result<Self> {
        let width = vectors.first().map_or(0, |first| first.as_ref().len());
        if width == 0 || vectors.iter().any(|vector| vector.as_ref().len() != width) {
            return Err(Error::Data("a basis needs vectors of one width".to_owned()));
        }
        let exact: Vec<Vec<f64>> = vectors.iter().map(|v| v.as_ref().iter().map(|x| f64::from(*x)).collect()).collect();
        for (i, a) in exact.iter().enumerate() {
            for (j, b) in exact[..=i].iter().enumerate() {
                let off = dot(a, b) - f64::from(u8::from(i == j));
                if off.is_nan() || off.abs() > 1e-3 {
                    return Err(Error::Data(format!("vectors {j} and {i} of a basis are {off:.1e} off orthonormal")));
                }
            }
        }
        Ok(Self { width, vectors: vectors.iter().flat_map(|vector| vector.as_ref()).copied().collect() })
    }

    /// The rows of one subspace.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_rows(rows: &[DirectionRow]) -> Result<Self> {
        Self::new(&rows.iter().map(|row| row.vector.as_slice()).collect::<Vec<_>>())
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many vectors there are.
    pub fn rank(&self) -> usize {
        self.vectors.len() / self.width
    }

    /// One of them.
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.width..(index + 1) * self.width]
    }

    /// All of them, `[rank, width]`.
    pub fn tensor<C: Compute>(&self, device: &C::Device) -> Tensor<C, 2> {
        Tensor::from_data(TensorData::new(self.vectors.clone(), [self.rank(), self.width]), device)
    }
}

/// A subspace in random directions, uniform over all of this rank, from the stream (`seed`, `purpose`). The rank is at most the width.
pub fn random_basis(width: usize, rank: usize, seed: u64, purpose: &str) -> Basis {
    let rank = rank.min(width);
    let mut draws = stream(seed, purpose);
    let mut numbers = vec![0f32; width];
    let mut vectors: Vec<Vec<f64>> = Vec::new();
    // Normal numbers point in all directions alike. A vector in the span of those before has no chance, and would be drawn again.
    while vectors.len() < rank {
        for _ in vectors.len()..rank {
            fill_normal(&mut draws, &mut numbers, 0.0, 1.0);
            vectors.push(numbers.iter().map(|x| f64::from(*x)).collect());
        }
        vectors = orthonormal(&vectors);
    }
    Basis { width, vectors: vectors.into_iter().flatten().map(|x| x as f32).collect() }
}

/// Vectors brought to length 1 and made orthogonal to those before them (Gram and Schmidt, each projection twice), which is the QR
/// decomposition with a positive diagonal. A vector that is a sum of those before it is left out.
pub fn orthonormal(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    gram_schmidt(vectors, |rest, length| rest > DEPENDENT * length)
}

/// The same, leaving out a vector of which no more than `least` is left, whatever its length.
pub(crate) fn spanning(vectors: &[Vec<f64>], least: f64) -> Vec<Vec<f64>> {
    gram_schmidt(vectors, |rest, _| rest > least)
}

/// `kept` is told what is left of a vector's length, and its length.
fn gram_schmidt(vectors: &[Vec<f64>], kept: impl Fn(f64, f64) -> bool) -> Vec<Vec<f64>> {
    let mut found: Vec<Vec<f64>> = Vec::new();
    for vector in vectors {
        let length = dot(vector, vector).sqrt();
        let mut left = vector.clone();
        for _ in 0..2 {
            for known in &found {
                let along = dot(&left, known);
                left.iter_mut().zip(known).for_each(|(x, k)| *x -= along * k);
            }
        }
        let rest = dot(&left, &left).sqrt();
        if kept(rest, length) && rest.is_finite() {
            found.push(left.into_iter().map(|x| x / rest).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Basis, orthonormal};

    #[test]
    fn what_depends_on_others_is_left_out() {
        let found = orthonormal(&[vec![0.0, 2.0, 0.0], vec![0.0, -3.0, 0.0], vec![1.0, 7.0, 1.0]]);
        let half = 0.5f64.sqrt();
        assert_eq!(found.len(), 2);
        assert!(found[1].iter().zip([half, 0.0, half]).all(|(a, b)| (a - b).abs() < 1e-15));
        assert!(Basis::new(&[[1.0, 0.0], [0.8, 0.6]]).is_err());
        assert_eq!(Basis::new(&[[0.0, 1.0], [1.0, 0.0]]).unwrap().vector(1), [1.0, 0.0]);
    }
}
