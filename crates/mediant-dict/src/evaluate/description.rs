//! How many bits codes take: minimum description length (Ayonrinde et al. 2024, arXiv:2410.11179).

use mediant_tensor::kernels::sparse::Codes;

/// The largest value of each latent.
#[derive(Clone, Debug, PartialEq)]
pub struct Largest(pub Vec<f32>);

impl Largest {
    /// Before any code.
    pub fn new(d_sae: usize) -> Self {
        Self(vec![0.0; d_sae])
    }

    /// Takes codes in.
    pub fn add(&mut self, codes: &Codes) {
        for (&latent, &value) in codes.latents().iter().zip(codes.values()) {
            let largest = &mut self.0[latent as usize];
            *largest = largest.max(value);
        }
    }
}

/// The values of active latents in bins of equal width between 0 and the largest value of their latent.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    largest: Vec<f32>,
    bins: usize,
    /// `[d_sae, bins]`.
    counts: Vec<u32>,
    vectors: u64,
}

impl Quantised {
    /// Before any code; `largest` is known from an earlier pass.
    pub fn new(largest: Largest, bins: usize) -> Self {
        let counts = vec![0; largest.0.len() * bins];
        Self { largest: largest.0, bins, counts, vectors: 0 }
    }

    /// Counts one row of codes.
    pub fn add_row(&mut self, codes: &Codes, row: usize) {
        self.vectors += 1;
        let (latents, values) = codes.row(row);
        for (&latent, &value) in latents.iter().zip(values).filter(|(_, value)| **value > 0.0) {
            let share = f64::from(value) / f64::from(self.largest[latent as usize]);
            let bin = ((share * self.bins as f64) as usize).min(self.bins - 1);
            self.counts[latent as usize * self.bins + bin] += 1;
        }
    }

    /// `mdl_entropy`: Σ_i H(p_i) + p_i H_i bits a vector, p_i the part of the vectors in which latent i is active, H(p) the
    /// entropy of a coin that falls so, H_i the entropy of the bin of an active value. That is how long a code is in
    /// the mean for one who knows these frequencies and takes latents one by one.
    pub fn mdl_entropy_bits(&self) -> f64 {
        let vectors = self.vectors as f64;
        let bits = |part: f64| if part > 0.0 { -part * part.log2() } else { 0.0 };
        let latent = |counts: &[u32]| {
            let active: f64 = counts.iter().map(|count| f64::from(*count)).sum();
            if active == 0.0 {
                return 0.0;
            }
            let part = active / vectors;
            let of_value: f64 = counts.iter().map(|count| bits(f64::from(*count) / active)).sum();
            bits(part) + bits(1.0 - part) + part * of_value
        };
        self.counts.chunks_exact(self.bins).map(latent).sum()
    }
}

/// `mdl_l0`: L0 · (7 + log2 d_sae) bits, an index and seven bits of value for each active latent (top-AFA's measure).
pub fn mdl_l0_bits(l0: f64, d_sae: usize) -> f64 {
    l0 * (7.0 + (d_sae as f64).log2())
}

#[cfg(test)]
mod tests {
    use super::{Largest, Quantised, mdl_l0_bits};
    use mediant_tensor::kernels::sparse::Codes;

    #[test]
    fn bits_are_those_of_a_hand_count() {
        // Latent 0: active in half of the vectors, equally often at a quarter of its largest value and at it: 1 bit whether,
        // and 1 bit which, half of the time. Latent 1 is always active with one value: no bit. Latent 2 is active once in 8.
        let mut codes = Codes::default();
        for row in 0..8u32 {
            let first = [(0, if row % 4 == 0 { 1.0 } else { 4.0 })].into_iter().filter(|_| row % 2 == 0);
            codes.push_row(first.chain([(1, 3.0)]).chain([(2, 0.5)].into_iter().filter(|_| row == 3)));
        }
        let mut largest = Largest::new(4);
        largest.add(&codes);
        assert_eq!(largest.0, [4.0, 3.0, 0.5, 0.0]);
        let mut quantised = Quantised::new(largest, 16);
        (0..8).for_each(|row| quantised.add_row(&codes, row));
        let once_in_eight = -(0.125f64.log2() * 0.125) - 0.875 * 0.875f64.log2();
        assert!((quantised.mdl_entropy_bits() - (1.0 + 0.5 + once_in_eight)).abs() < 1e-12);
        assert_eq!(mdl_l0_bits(3.0, 1024), 51.0);
    }
}
