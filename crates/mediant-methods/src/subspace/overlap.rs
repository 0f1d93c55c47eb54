use super::{Basis, orthonormal};
use crate::eigen::{dot, eigenvectors};
use crate::{Error, Result};

/// How much of two subspaces is the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    /// ‖A Bᵀ‖² (Frobenius), the sum of the squared cosines: 0 for orthogonal subspaces, the smaller rank if one holds the other.
    pub shared: f64,
    /// Cosines of the principal angles, as many as the smaller rank, falling.
    pub cosines: Vec<f64>,
    /// Numbers of a vector.
    pub width: usize,
    /// The two ranks.
    pub ranks: [usize; 2],
}

impl Overlap {
    /// `shared` as a share of the smaller rank: 1 if one subspace holds the other.
    pub fn share(&self) -> f64 {
        self.shared / self.cosines.len() as f64
    }

    /// What [`Self::share`] is in the mean when one of both subspaces is uniform over all of its rank: the larger rank / width.
    pub fn of_random(&self) -> f64 {
        self.ranks[0].max(self.ranks[1]) as f64 / self.width as f64
    }
}

/// How much of two subspaces is the same (Björck & Golub 1973: the cosines are the singular values of A Bᵀ). In f64, after
/// their vectors have been made orthonormal in it.
///
/// # Errors
/// [`Error::Data`] if they have different widths.
pub fn overlap(a: &Basis, b: &Basis) -> Result<Overlap> {
    if a.width() != b.width() {
        let (a, b) = (a.width(), b.width());
        return Err(Error::Data(format!("vectors of {a} numbers are no subspace of the same space as those of {b}")));
    }
    let exact = |basis: &Basis| {
        let vector = |index| basis.vector(index).iter().map(|x| f64::from(*x)).collect();
        orthonormal(&(0..basis.rank()).map(vector).collect::<Vec<_>>())
    };
    let (few, many) = if a.rank() <= b.rank() { (exact(a), exact(b)) } else { (exact(b), exact(a)) };
    let products: Vec<Vec<f64>> = few.iter().map(|x| many.iter().map(|y| dot(x, y)).collect()).collect();
    let gram = products.iter().map(|x| products.iter().map(|y| dot(x, y)).collect()).collect();
    let cosines = eigenvectors(gram).into_iter().map(|(square, _)| square.min(1.0).sqrt()).collect();
    let shared = products.iter().map(|row| dot(row, row)).sum();
    Ok(Overlap { shared, cosines, width: a.width(), ranks: [a.rank(), b.rank()] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::overlap;
    use crate::subspace::{Basis, random_basis};

    #[test]
    fn angles_are_those_between_the_subspaces() {
        let plane = Basis::new(&[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]).unwrap();
        // The first axis, and 60 degrees away from the second.
        let turned = Basis::new(&[[0.0, 0.5, 0.75f32.sqrt(), 0.0], [1.0, 0.0, 0.0, 0.0]]).unwrap();
        let found = overlap(&plane, &turned).unwrap();
        assert!((found.share() - 0.625).abs() < 1e-7 && found.of_random() == 0.5, "{found:?}");
        assert!((found.cosines[0] - 1.0).abs() < 1e-7 && (found.cosines[1] - 0.5).abs() < 1e-7, "{found:?}");
        let line = Basis::new(&[[0.6, 0.8, 0.0, 0.0]]).unwrap();
        for found in [overlap(&line, &plane).unwrap(), overlap(&plane, &line).unwrap()] {
            assert!(found.cosines.len() == 1 && (found.share() - 1.0).abs() < 1e-7, "{found:?}");
        }
        let other = Basis::new(&[[0.0, 0.0, 0.0, 1.0]]).unwrap();
        assert_eq!(overlap(&plane, &other).unwrap().share(), 0.0);
        assert!(overlap(&plane, &Basis::new(&[[1.0]]).unwrap()).is_err());
    }

    #[test]
    fn random_subspaces_overlap_as_expected() {
        let share = |seed| {
            let (a, b) = (random_basis(40, 3, seed, "a"), random_basis(40, 8, seed, "b"));
            let found = overlap(&a, &b).unwrap();
            assert_eq!(found.of_random(), 0.2);
            found.share()
        };
        let mean = (0..400).map(share).sum::<f64>() / 400.0;
        // The standard deviation of one is √(2 · 3 · 37 · 8 · 32 / (40² · 39 · 42)) / 3 = 0.049.
        assert!((mean - 0.2).abs() < 0.01, "{mean}");
    }
}
