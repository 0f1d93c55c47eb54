use rayon::prelude::*;

use super::basis::orthonormal;
use crate::probing::{Classifier, fit};
use crate::{Error, Result};

/// Vectors with the class of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// The vectors.
    pub x: Vec<Vec<f64>>,
    /// By their place in the list of classes.
    pub classes: Vec<usize>,
}

/// A linear probe for the class of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    /// The training vectors' mean, which is subtracted.
    mean: Vec<f64>,
    /// For two classes one, positive for the first; else one a class, that class against all others.
    classifiers: Vec<Classifier>,
}

impl LinearProbe {
    /// Logistic regressions with scikit-learn's penalty `c`, one against the rest.
    ///
    /// # Errors
    /// [`Error::Data`] unless there are two classes, each with an example.
    pub fn fit(examples: &Labelled, count: usize, c: f64) -> Result<Self> {
        if count < 2 || (0..count).any(|class| !examples.classes.contains(&class)) {
            return Err(Error::Data("a probe needs examples of two classes or more to train on".to_owned()));
        }
        let n = examples.x.len() as f64;
        let mut mean = vec![0.0; examples.x[0].len()];
        examples.x.iter().for_each(|x| mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += x / n));
        let centred: Vec<f64> = examples.x.iter().flat_map(|x| x.iter().zip(&mean).map(|(x, mean)| x - mean)).collect();
        let classes = if count == 2 { 1 } else { count };
        let of_class = |class: usize| {
            let positive: Vec<bool> = examples.classes.iter().map(|&own| own == class).collect();
            fit(&centred, &positive, c)
        };
        Ok(Self { mean, classifiers: (0..classes).into_par_iter().map(of_class).collect() })
    }

    /// The most likely class of a vector, the first of equal ones.
    pub fn class(&self, x: &[f64]) -> usize {
        let x: Vec<f64> = x.iter().zip(&self.mean).map(|(x, mean)| x - mean).collect();
        match &self.classifiers[..] {
            [only] => usize::from(only.score(&x) <= 0.0),
            all => {
                let scores: Vec<f64> = all.iter().map(|classifier| classifier.score(&x)).collect();
                (0..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
            }
        }
    }

    /// The unit normal of one classifier; of one a class the span of their normals' differences, which is all that tells classes apart, as an
    /// orthonormal basis in the order of the classes, one fewer than there are. Nothing where all weights are 0.
    pub fn directions(&self) -> Vec<Vec<f32>> {
        let mut normals: Vec<Vec<f64>> = self.classifiers.iter().map(|classifier| classifier.weights.clone()).collect();
        let count = normals.len();
        if count > 1 {
            let mean = |i: usize| normals.iter().map(|normal| normal[i]).sum::<f64>() / count as f64;
            let mean: Vec<f64> = (0..normals[0].len()).map(mean).collect();
            normals.truncate(count - 1);
            normals.iter_mut().for_each(|normal| normal.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean));
        }
        let size = normals.iter().flatten().map(|x| x.abs()).fold(0.0, f64::max);
        if size <= f64::MIN_POSITIVE {
            return Vec::new();
        }
        orthonormal(&normals).into_iter().map(|normal| normal.into_iter().map(|x| x as f32).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mediant_tensor::random::{fill_normal, stream};

    use super::{Labelled, LinearProbe};

    /// Classes around corners of a cube of six dimensions.
    fn examples(classes: usize) -> Labelled {
        let mut noise = vec![0f32; 6 * 40 * classes];
        fill_normal(&mut stream(0, "probe"), &mut noise, 0.0, 0.2);
        let mut labelled = Labelled::default();
        for (i, noise) in noise.chunks(6).enumerate() {
            let class = i % classes;
            labelled.classes.push(class);
            let at = |(j, x): (usize, &f32)| f64::from(*x) + if j == class { 2.0 } else { 5.0 };
            labelled.x.push(noise.iter().enumerate().map(at).collect());
        }
        labelled
    }

    #[test]
    fn classes_are_told_apart_along_their_directions() {
        let two = examples(2);
        let probe = LinearProbe::fit(&two, 2, 1.0).unwrap();
        assert!(two.x.iter().zip(&two.classes).all(|(x, class)| probe.class(x) == *class));
        // Towards the first class: less of the first number and more of the second.
        let direction = &probe.directions()[0];
        assert!(direction[0] < -0.6 && direction[1] > 0.6, "{direction:?}");
        let four = examples(4);
        let probe = LinearProbe::fit(&four, 4, 1.0).unwrap();
        assert!(four.x.iter().zip(&four.classes).all(|(x, class)| probe.class(x) == *class));
        let directions = probe.directions();
        assert_eq!(directions.len(), 3);
        // Only the first four numbers tell classes apart.
        assert!(directions.iter().all(|direction| direction[4].hypot(direction[5]) < 0.2), "{directions:?}");
        assert!(LinearProbe::fit(&two, 3, 1.0).is_err());
    }
}
