//! How well an autoencoder reconstructs, measured over any number of vectors in constant memory.

use mediant_tensor::kernels::sparse::Codes;

/// Sums over vectors x with reconstructions x̂ and codes f, in f64. Sums of parts add up to the sums of the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Vectors.
    pub n: u64,
    /// Σ x, `[d_in]`.
    pub x: Vec<f64>,
    /// Σ ‖x‖².
    pub x_squared: f64,
    /// Σ ‖x̂‖².
    pub reconstruction_squared: f64,
    /// Σ x · x̂.
    pub product: f64,
    /// Σ ‖x − x̂‖².
    pub error_squared: f64,
    /// Σ cos(x, x̂), 0 where either is 0.
    pub cosine: f64,
    /// Σ ‖x̂‖ / ‖x‖, where ‖x‖ below 1e-4 counts as 1, as in SAELens.
    pub norm_ratio: f64,
    /// Σ of active latents.
    pub active: f64,
    /// Σ of |f|.
    pub magnitude: f64,
}

impl Sums {
    /// Adds a vector, its reconstruction, and the values of its active latents.
    pub fn add(&mut self, x: &[f32], reconstruction: &[f32], values: &[f32]) {
        self.x.resize(x.len(), 0.0);
        let (mut xx, mut rr, mut xr, mut ee) = (0.0, 0.0, 0.0, 0.0);
        for ((&x, &r), sum) in x.iter().zip(reconstruction).zip(&mut self.x) {
            let (x, r) = (f64::from(x), f64::from(r));
            *sum += x;
            xx += x * x;
            rr += r * r;
            xr += x * r;
            ee += (x - r) * (x - r);
        }
        self.n += 1;
        self.x_squared += xx;
        self.reconstruction_squared += rr;
        self.product += xr;
        self.error_squared += ee;
        if xx > 0.0 && rr > 0.0 {
            self.cosine += xr / (xx * rr).sqrt();
        }
        let norm = if xx.sqrt() < 1e-4 { 1.0 } else { xx.sqrt() };
        self.norm_ratio += rr.sqrt() / norm;
        self.active += values.iter().filter(|value| **value != 0.0).count() as f64;
        self.magnitude += values.iter().map(|value| f64::from(value.abs())).sum::<f64>();
    }

    /// Adds the sums over other vectors.
    pub fn merge(&mut self, other: &Self) {
        self.x.resize(self.x.len().max(other.x.len()), 0.0);
        self.x.iter_mut().zip(&other.x).for_each(|(sum, x)| *sum += x);
        self.n += other.n;
        self.x_squared += other.x_squared;
        self.reconstruction_squared += other.reconstruction_squared;
        self.product += other.product;
        self.error_squared += other.error_squared;
        self.cosine += other.cosine;
        self.norm_ratio += other.norm_ratio;
        self.active += other.active;
        self.magnitude += other.magnitude;
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.n as f64
    }

    /// E‖x‖² − ‖E x‖²: the variance summed over dimensions.
    pub fn variance(&self) -> f64 {
        self.mean(self.x_squared) - self.x.iter().map(|x| self.mean(*x).powi(2)).sum::<f64>()
    }

    /// `mse`: E‖x − x̂‖², summed over dimensions.
    pub fn mse(&self) -> f64 {
        self.mean(self.error_squared)
    }

    /// `ev_mc`: 1 − E‖x − x̂‖² / (E‖x‖² − ‖E x‖²), the explained variance about the mean of the sample. 0 for a
    /// reconstruction that is that mean; NaN where the vectors do not vary.
    pub fn ev_mc(&self) -> f64 {
        let variance = self.variance();
        if variance > 0.0 { 1.0 - self.mse() / variance } else { f64::NAN }
    }

    /// `l0`: mean number of active latents.
    pub fn l0(&self) -> f64 {
        self.mean(self.active)
    }

    /// `l1`: mean of Σ |f|.
    pub fn l1(&self) -> f64 {
        self.mean(self.magnitude)
    }

    /// `cossim`: mean cosine of x and x̂.
    pub fn cossim(&self) -> f64 {
        self.mean(self.cosine)
    }

    /// `l2_ratio`: mean of ‖x̂‖ / ‖x‖, below 1 under shrinkage.
    pub fn l2_ratio(&self) -> f64 {
        self.mean(self.norm_ratio)
    }

    /// `relative_reconstruction_bias`: E‖x̂‖² / E(x · x̂) (Rajamanoharan et al. 2024, arXiv:2404.16014, equation 10).
    pub fn relative_reconstruction_bias(&self) -> f64 {
        self.reconstruction_squared / self.product
    }
}

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
}

#[cfg(test)]
mod tests {
    use super::Sums;
    use mediant_tensor::random::{fill_normal, stream};

    const WIDTH: usize = 5;

    fn sums(x: &[f32], reconstruct: impl Fn(&[f32]) -> Vec<f32>) -> Sums {
        let mut sums = Sums::default();
        for row in x.chunks_exact(WIDTH) {
            sums.add(row, &reconstruct(row), &[1.0, 0.0, 2.5]);
        }
        sums
    }

    /// Vectors with a mean some hundred times their spread, where a careless formula loses everything.
    fn vectors() -> Vec<f32> {
        let mut x = vec![0.0; 400 * WIDTH];
        fill_normal(&mut stream(0, "test"), &mut x, 100.0, 1.0);
        x
    }

    #[test]
    fn a_reconstruction_that_is_the_mean_explains_nothing() {
        let x = vectors();
        let mean: Vec<f32> = (0..WIDTH)
            .map(|i| (x.iter().skip(i).step_by(WIDTH).map(|&x| f64::from(x)).sum::<f64>() / 400.0) as f32)
            .collect();
        let sums = sums(&x, |_| mean.clone());
        // The mean in f32 is off by up to 4e-6; its square stands against a variance of 1.
        assert!(sums.ev_mc().abs() < 1e-9, "{}", sums.ev_mc());
        // The formula about zero would say 0.9999.
        assert!(1.0 - sums.error_squared / sums.x_squared > 0.999);
    }

    #[test]
    fn known_reconstructions_have_known_scores() {
        let x = vectors();
        let exact = sums(&x, <[f32]>::to_vec);
        assert_eq!((exact.ev_mc(), exact.mse(), exact.l2_ratio()), (1.0, 0.0, 1.0));
        assert!((exact.cossim() - 1.0).abs() < 1e-12);
        assert_eq!((exact.l0(), exact.l1()), (2.0, 3.5));
        let half = sums(&x, |row| row.iter().map(|x| 0.5 * x).collect());
        assert!((half.l2_ratio() - 0.5).abs() < 1e-12);
        assert!((half.relative_reconstruction_bias() - 0.5).abs() < 1e-12);
        let nothing = sums(&x, |row| vec![0.0; row.len()]);
        assert_eq!((nothing.cossim(), nothing.l2_ratio()), (0.0, 0.0));
        // A constant offset is an error.
        let offset = sums(&x, |row| row.iter().map(|x| x + 1.0).collect());
        assert!((offset.mse() - WIDTH as f64).abs() < 1e-3);
    }

    #[test]
    fn sums_of_parts_are_the_sums_of_the_whole() {
        let x = vectors();
        let halve = |row: &[f32]| row.iter().map(|x| 0.5 * x).collect();
        let mut parts = Sums::default();
        for part in x.chunks(37 * WIDTH) {
            parts.merge(&sums(part, halve));
        }
        let whole = sums(&x, halve);
        assert_eq!(parts.n, whole.n);
        // Sums of 400 numbers in another order; the variance is the small difference of two of them.
        assert!((parts.ev_mc() - whole.ev_mc()).abs() < 1e-9 * whole.ev_mc().abs());
        assert!((parts.cossim() - whole.cossim()).abs() < 1e-12);
    }
}
