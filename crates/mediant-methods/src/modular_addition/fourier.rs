use std::f64::consts::TAU;

use crate::eigen::dot;
use crate::subspace::spanning;
use crate::{Error, Result};

/// A share of the squared norm below which there are only rounding errors of f32 weights.
const NOTHING: f64 = 1e-12;

/// The embedding of the numbers 0 to C − 1 as waves over the numbers (Nanda et al. 2023, arXiv:2301.05217).
///
/// E, `[C, width]`, less its mean over the numbers is a sum of the frequencies k = 1 to ⌊C/2⌋. What a frequency has of its squared
/// norm is 2/C (‖Σ_t cos(2πkt/C) E_t‖² + ‖Σ_t sin(2πkt/C) E_t‖²), for k = C/2, which has no sine, half of that; over all frequencies
/// these add up to it (Parseval).
#[derive(Clone, Debug)]
pub struct Spectrum {
    /// All frequencies, from 1 on.
    pub frequencies: Vec<Frequency>,
    /// Σ_t ‖E_t − mean‖².
    pub squared_norm: f64,
    /// E less its mean, `[C, width]`.
    centred: Vec<Vec<f64>>,
}

/// One frequency of an embedding.
#[derive(Clone, Debug)]
pub struct Frequency {
    /// Waves over all C numbers: 1 to ⌊C/2⌋.
    pub k: usize,
    /// What it has of the squared norm of the embedding less its mean.
    pub squared_norm: f64,
    /// The same as a share of it.
    pub share: f64,
    /// Σ_t cos(2πkt/C) E_t and Σ_t sin(2πkt/C) E_t, `[2, width]`; for k = C/2 the first alone.
    waves: Vec<Vec<f64>>,
}

impl Spectrum {
    /// Of an embedding, `[numbers, width]`, row by row. Sums are in f64, in the order of the numbers.
    ///
    /// # Errors
    /// [`Error::Data`] if it does not have so many rows, or all numbers have the same one, so that there is no frequency.
    pub fn new(embedding: &[f32], numbers: usize) -> Result<Self> {
        let width = embedding.len().checked_div(numbers).unwrap_or(0);
        if width == 0 || width * numbers != embedding.len() {
            let len = embedding.len();
            return Err(Error::Data(format!("{len} values are no embedding of {numbers} numbers")));
        }
        let mut centred: Vec<Vec<f64>> =
            embedding.chunks_exact(width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        let size: f64 = centred.iter().map(|row| dot(row, row)).sum();
        let mut mean = vec![0.0; width];
        centred.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / numbers as f64));
        centred.iter_mut().for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean));
        let squared_norm: f64 = centred.iter().map(|row| dot(row, row)).sum();
        if squared_norm <= NOTHING * size {
            return Err(Error::Data("all numbers have the same embedding, so that it has no frequency".to_owned()));
        }
        let frequencies = (1..=numbers / 2).map(|k| Frequency::new(k, &centred, squared_norm)).collect();
        Ok(Self { frequencies, squared_norm, centred })
    }

    /// The fewest frequencies that together have this share of the squared norm, above 0 and at most 1: those of the largest
    /// shares, the largest first, of equal ones the lower frequency. What is only rounding is never among them.
    pub fn key_frequencies(&self, share: f64) -> Vec<usize> {
        let mut order: Vec<&Frequency> = self.frequencies.iter().filter(|one| one.share > NOTHING).collect();
        // The sort is stable, and they are in order.
        order.sort_by(|a, b| b.share.total_cmp(&a.share));
        let mut reached = 0.0;
        let needed = order.iter().take_while(|one| {
            let more = reached < share - NOTHING;
            reached += one.share;
            more
        });
        needed.map(|one| one.k).collect()
    }

    /// An orthonormal basis of what the waves of these frequencies span, `[rank, width]`, and the share of the squared norm of the
    /// embedding less its mean along each vector. Frequencies are taken in this order, cosine before sine (Gram and Schmidt), so
    /// that the first vectors are the subspace of the first frequencies. A wave in the span of those before adds no vector.
    ///
    /// # Errors
    /// [`Error::Data`] if a frequency is none of this embedding's, or is not in it.
    pub fn subspace(&self, frequencies: &[usize]) -> Result<(Vec<Vec<f32>>, Vec<f64>)> {
        let mut waves = Vec::new();
        for &k in frequencies {
            let found = self.frequencies.iter().find(|one| one.k == k);
            let found = found.ok_or_else(|| {
                Error::Data(format!("{k} is no frequency of an embedding of {} numbers", self.centred.len()))
            })?;
            if found.share <= NOTHING {
                return Err(Error::Data(format!(
                    "the embedding has no frequency {k}: its share of the squared norm is {:.1e}",
                    found.share
                )));
            }
            waves.extend(found.waves.iter().cloned());
        }
        // A wave of squared length x has 2/C x of the squared norm.
        let least = (NOTHING * self.squared_norm * self.centred.len() as f64 / 2.0).sqrt();
        let basis = spanning(&waves, least);
        let along = |v: &Vec<f64>| self.centred.iter().map(|row| dot(row, v).powi(2)).sum::<f64>() / self.squared_norm;
        let shares = basis.iter().map(along).collect();
        Ok((basis.iter().map(|v| v.iter().map(|x| *x as f32).collect()).collect(), shares))
    }
}

impl Frequency {
    fn new(k: usize, centred: &[Vec<f64>], all: f64) -> Self {
        let numbers = centred.len();
        let wave = |of: fn(f64) -> f64| {
            let mut sum = vec![0.0; centred[0].len()];
            for (t, row) in centred.iter().enumerate() {
                // The remainder keeps the angle, and its rounding, small.
                let weight = of(TAU * ((k * t) % numbers) as f64 / numbers as f64);
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
            }
            sum
        };
        let (waves, factor) =
            if 2 * k == numbers { (vec![wave(f64::cos)], 1.0) } else { (vec![wave(f64::cos), wave(f64::sin)], 2.0) };
        let squared_norm = factor / numbers as f64 * waves.iter().map(|wave| dot(wave, wave)).sum::<f64>();
        Self { k, squared_norm, share: squared_norm / all, waves }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::f64::consts::TAU;

    use mediant_tensor::random::{fill_normal, stream};

    use super::Spectrum;
    use crate::subspace::Basis;

    /// Frequencies with their amplitudes, cosine and sine each along an axis of its own, around a mean that is not 0.
    fn embedding(numbers: usize, width: usize, waves: &[(usize, f64)]) -> Vec<f32> {
        let value = |t: usize, i: usize| {
            let wave = waves.get(i / 2).map_or(0.0, |(k, amplitude)| {
                let angle = TAU * (k * t) as f64 / numbers as f64;
                amplitude * if i.is_multiple_of(2) { angle.cos() } else { angle.sin() }
            });
            (3.0 + wave) as f32
        };
        (0..numbers).flat_map(|t| (0..width).map(move |i| value(t, i))).collect()
    }

    #[test]
    fn the_frequencies_of_an_embedding_are_found_and_no_others() {
        let spectrum = Spectrum::new(&embedding(59, 7, &[(5, 1.0), (17, 2.0)]), 59).unwrap();
        assert_eq!(spectrum.frequencies.len(), 29);
        for one in &spectrum.frequencies {
            let expected = [(5, 0.2), (17, 0.8)].iter().find(|(k, _)| *k == one.k).map_or(0.0, |(_, share)| *share);
            assert!((one.share - expected).abs() < 1e-6, "{} {}", one.k, one.share);
        }
        assert!((spectrum.squared_norm - 59.0 * 5.0).abs() < 1e-3, "{}", spectrum.squared_norm);
        assert_eq!((spectrum.key_frequencies(0.5), spectrum.key_frequencies(0.9)), (vec![17], vec![17, 5]));
        let (vectors, shares) = spectrum.subspace(&[17, 5]).unwrap();
        assert!(shares.iter().zip([0.4, 0.4, 0.1, 0.1]).all(|(a, b)| (a - b).abs() < 1e-6), "{shares:?}");
        let basis = Basis::new(&vectors).unwrap();
        for (index, axis) in [2, 3, 0, 1].into_iter().enumerate() {
            assert!((basis.vector(index)[axis].abs() - 1.0).abs() < 1e-6, "{:?}", basis.vector(index));
        }
    }

    #[test]
    fn shares_of_any_embedding_add_up() {
        for numbers in [2, 3, 8, 59] {
            let mut embedding = vec![0f32; numbers * 5];
            fill_normal(&mut stream(0, "embedding"), &mut embedding, 1.0, 1.0);
            let spectrum = Spectrum::new(&embedding, numbers).unwrap();
            let sum: f64 = spectrum.frequencies.iter().map(|one| one.share).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{numbers}: {sum}");
            assert_eq!(spectrum.key_frequencies(1.0).len(), numbers / 2);
            // More waves than dimensions span no more than there are.
            let (vectors, _) = spectrum.subspace(&spectrum.key_frequencies(1.0)).unwrap();
            assert_eq!(vectors.len(), (numbers - 1).min(5));
        }
    }

    #[test]
    fn half_of_an_even_modulus_has_no_sine() {
        let spectrum = Spectrum::new(&embedding(8, 4, &[(4, 1.0), (3, 0.5)]), 8).unwrap();
        // cos(πt) is ±1 at every t: twice what a wave of the same amplitude has in one dimension.
        assert!((spectrum.frequencies[3].share - 8.0 / 10.0).abs() < 1e-6, "{}", spectrum.frequencies[3].share);
        assert_eq!(spectrum.subspace(&[4]).unwrap().0.len(), 1);
        assert_eq!(spectrum.subspace(&[4, 3]).unwrap().0.len(), 3);
    }

    #[test]
    fn two_waves_along_one_direction_are_one_vector() {
        // Cosine and sine on the same axis, rounded to f32.
        let values = (0..12).flat_map(|t| {
            let angle = TAU * f64::from(t) / 12.0;
            let x = 0.1 * (angle.cos() + 0.7 * angle.sin());
            [x, 0.3 * x, -x].map(|x| x as f32)
        });
        let spectrum = Spectrum::new(&values.collect::<Vec<_>>(), 12).unwrap();
        let (vectors, shares) = spectrum.subspace(&[1]).unwrap();
        assert!(vectors.len() == 1 && (shares[0] - 1.0).abs() < 1e-6, "{shares:?}");
    }

    #[test]
    fn what_has_no_frequency_is_refused() {
        let why = |embedding: &[f32], numbers| Spectrum::new(embedding, numbers).unwrap_err().to_string();
        assert!(why(&[0.1; 12], 4).contains("same embedding") && why(&[0.0; 12], 4).contains("same embedding"));
        assert!(why(&[1.0, 2.0], 1).contains("same embedding"));
        assert!(why(&[0.1; 7], 2).contains("no embedding of 2 numbers") && why(&[], 3).contains("no embedding"));
        let spectrum = Spectrum::new(&embedding(9, 2, &[(2, 1.0)]), 9).unwrap();
        assert!(spectrum.subspace(&[3]).unwrap_err().to_string().contains("has no frequency 3"));
        assert!(spectrum.subspace(&[5]).unwrap_err().to_string().contains("5 is no frequency"));
    }
}
