//! How often latents are active.

use mediant_tensor::kernels::sparse::Codes;

/// In how many vectors each latent was active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Density {
    vectors: u64,
    active: Vec<u64>,
}

impl Density {
    /// Before any vector, for `d_sae` latents.
    pub fn new(d_sae: usize) -> Self {
        Self { vectors: 0, active: vec![0; d_sae] }
    }

    /// Counts the active latents of one row of codes.
    pub fn add_row(&mut self, codes: &Codes, row: usize) {
        self.vectors += 1;
        let (latents, values) = codes.row(row);
        for (&latent, _) in latents.iter().zip(values).filter(|(_, value)| **value != 0.0) {
            self.active[latent as usize] += 1;
        }
    }

    /// Number of latents.
    pub fn latents(&self) -> usize {
        self.active.len()
    }

    /// Latents that were never active.
    pub fn dead(&self) -> usize {
        self.active.iter().filter(|&&count| count == 0).count()
    }

    /// Latents active in more than this part of the vectors.
    pub fn denser_than(&self, part: f64) -> usize {
        self.active.iter().filter(|&&count| count as f64 > part * self.vectors as f64).count()
    }
    /// Latents by the decimal logarithm of the part of the vectors in which they were active, in bins of a quarter: those
    /// never active first, then from the rarest to the densest. Bins hold their upper end; none is left out between.
    pub fn histogram(&self) -> Vec<DensityBin> {
        let mut bins = vec![DensityBin { low: None, high: None, latents: self.dead() as u64 }];
        let place = |count: u64| ((count as f64 / self.vectors as f64).log10() * BINS_A_DECADE).ceil() as i64;
        let places: Vec<i64> = self.active.iter().filter(|count| **count > 0).map(|count| place(*count)).collect();
        let Some(first) = places.iter().copied().min() else { return bins };
        bins.extend((first..=0).map(|bin| DensityBin {
            low: Some((bin - 1) as f64 / BINS_A_DECADE),
            high: Some(bin as f64 / BINS_A_DECADE),
            latents: places.iter().filter(|place| **place == bin).count() as u64,
        }));
        bins
    }
}

/// Bins of the histogram for a factor of ten.
const BINS_A_DECADE: f64 = 4.0;

/// Latents of about the same density.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityBin {
    /// log10 of the density, above which; none for latents that were never active.
    pub low: Option<f64>,
    /// log10 of the density, up to which.
    pub high: Option<f64>,
    /// How many latents.
    pub latents: u64,
}

#[cfg(test)]
mod tests {
    use super::{Density, DensityBin};
    use mediant_tensor::kernels::sparse::Codes;

    #[test]
    fn a_histogram_holds_every_latent_once() {
        // Of 1,000 vectors latent 0 is active in all, 1 in 100, 2 in one, 3 and 4 in none; a stored zero is not active.
        let mut codes = Codes::default();
        for row in 0..1000 {
            let active = [(0, true), (1, row % 10 == 0), (2, row == 7)];
            let entries = active.into_iter().filter(|(_, on)| *on).map(|(latent, _)| (latent, 1.0));
            codes.push_row(entries.chain([(4, 0.0)]));
        }
        let mut density = Density::new(5);
        (0..1000).for_each(|row| density.add_row(&codes, row));
        assert_eq!((density.dead(), density.denser_than(0.01), density.denser_than(0.1)), (2, 2, 1));
        let bins = density.histogram();
        assert_eq!(bins[0], DensityBin { low: None, high: None, latents: 2 });
        assert_eq!(bins[1], DensityBin { low: Some(-3.25), high: Some(-3.0), latents: 1 });
        let full: Vec<f64> = bins.iter().filter(|bin| bin.latents > 0).filter_map(|bin| bin.high).collect();
        assert_eq!(full, [-3.0, -1.0, 0.0]);
        assert_eq!(bins.iter().map(|bin| bin.latents).sum::<u64>(), 5);
        assert_eq!(bins.len(), 1 + 13);
        assert_eq!(Density::new(3).histogram().len(), 1);
    }
}
