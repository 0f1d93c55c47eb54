//! How well vectors are reconstructed, from sums over any number of them.

/// Sums over vectors x with reconstructions x̂ and codes f, in f64. Sums of parts add up to the sums of the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Vectors.
    pub n: u64,
    /// Σ x, `[d_in]`.
    pub x: Vec<f64>,
    /// Σ (x − x̂), `[d_in]`.
    pub error: Vec<f64>,
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
    /// Σ ‖x‖.
    pub norm: f64,
    /// Σ ‖x̂‖.
    pub reconstruction_norm: f64,
    /// Σ ‖x̂‖ / ‖x‖, where ‖x‖ below 1e-4 counts as 1, as in SAELens.
    pub norm_ratio: f64,
    /// Σ ‖x̂‖ / ‖x‖ over vectors with ‖x‖ above 1e-6.
    pub shrinkage: f64,
    /// How many those are.
    pub longer: u64,
    /// Σ ‖x − x̂‖² / ‖x − m‖², m the mean that was given; 0 / 0 counts as 0.
    pub error_ratio: f64,
    /// Σ of active latents.
    pub active: f64,
    /// Σ of |f|.
    pub magnitude: f64,
}

impl Sums {
    /// Adds a vector, its reconstruction, and the values of its active latents. `mean` is that of all vectors.
    pub fn add(&mut self, x: &[f32], reconstruction: &[f32], values: &[f32], mean: &[f64]) {
        self.x.resize(x.len(), 0.0);
        self.error.resize(x.len(), 0.0);
        let (mut xx, mut rr, mut xr, mut ee, mut cc) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let sums = self.x.iter_mut().zip(&mut self.error);
        for (((&x, &r), mean), (sum, error)) in x.iter().zip(reconstruction).zip(mean).zip(sums) {
            let (x, r) = (f64::from(x), f64::from(r));
            *sum += x;
            *error += x - r;
            xx += x * x;
            rr += r * r;
            xr += x * r;
            ee += (x - r) * (x - r);
            cc += (x - mean) * (x - mean);
        }
        self.n += 1;
        self.x_squared += xx;
        self.reconstruction_squared += rr;
        self.product += xr;
        self.error_squared += ee;
        if xx > 0.0 && rr > 0.0 {
            self.cosine += xr / (xx * rr).sqrt();
        }
        self.norm += xx.sqrt();
        self.reconstruction_norm += rr.sqrt();
        self.norm_ratio += rr.sqrt() / if xx.sqrt() < 1e-4 { 1.0 } else { xx.sqrt() };
        if xx.sqrt() > 1e-6 {
            self.shrinkage += rr.sqrt() / xx.sqrt();
            self.longer += 1;
        }
        self.error_ratio += if ee == 0.0 { 0.0 } else { ee / cc };
        self.active += values.iter().filter(|value| **value != 0.0).count() as f64;
        self.magnitude += values.iter().map(|value| f64::from(value.abs())).sum::<f64>();
    }

    /// Adds the sums over other vectors.
    pub fn merge(&mut self, other: &Self) {
        self.x.resize(self.x.len().max(other.x.len()), 0.0);
        self.x.iter_mut().zip(&other.x).for_each(|(sum, x)| *sum += x);
        self.error.resize(self.error.len().max(other.error.len()), 0.0);
        self.error.iter_mut().zip(&other.error).for_each(|(sum, error)| *sum += error);
        self.n += other.n;
        self.x_squared += other.x_squared;
        self.reconstruction_squared += other.reconstruction_squared;
        self.product += other.product;
        self.error_squared += other.error_squared;
        self.cosine += other.cosine;
        self.norm += other.norm;
        self.reconstruction_norm += other.reconstruction_norm;
        self.norm_ratio += other.norm_ratio;
        self.shrinkage += other.shrinkage;
        self.longer += other.longer;
        self.error_ratio += other.error_ratio;
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
    /// `shrinkage`: mean of ‖x̂‖ / ‖x‖ over vectors with ‖x‖ above 1e-6 (SAELens' synthetic benchmark).
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage / self.longer as f64
    }

    /// `l2_norm_in`: mean of ‖x‖.
    pub fn l2_norm_in(&self) -> f64 {
        self.mean(self.norm)
    }

    /// `l2_norm_out`: mean of ‖x̂‖.
    pub fn l2_norm_out(&self) -> f64 {
        self.mean(self.reconstruction_norm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Variant;
    use super::Sums;
    use mediant_tensor::random::{fill_normal, stream};

    const WIDTH: usize = 5;

    fn sums(x: &[f32], reconstruct: impl Fn(&[f32]) -> Vec<f32>) -> Sums {
        let mut sums = Sums::default();
        for row in x.chunks_exact(WIDTH) {
            sums.add(row, &reconstruct(row), &[1.0, 0.0, 2.5], &[0.0; WIDTH]);
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

    /// Every definition by its own formula, over the vectors one by one.
    #[test]
    fn variants_are_those_of_their_tools() {
        let x = vectors();
        let mut noise = vec![0.0; x.len()];
        fill_normal(&mut stream(1, "test"), &mut noise, 0.3, 0.5);
        type Pair = (Vec<f64>, Vec<f64>);
        let rows: Vec<Pair> = x
            .chunks_exact(WIDTH)
            .zip(noise.chunks_exact(WIDTH))
            .map(|(x, noise)| {
                let r = x.iter().zip(noise).map(|(x, noise)| f64::from(x + noise));
                (x.iter().map(|x| f64::from(*x)).collect(), r.collect())
            })
            .collect();
        let n = rows.len() as f64;
        let column = |i: usize, of: &dyn Fn(&Pair, usize) -> f64| rows.iter().map(|row| of(row, i)).sum::<f64>() / n;
        let means: Vec<f64> = (0..WIDTH).map(|i| column(i, &|row, i| row.0[i])).collect();
        let mut sums = Sums::default();
        for (x, r) in &rows {
            let narrow = |row: &[f64]| row.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            sums.add(&narrow(x), &narrow(r), &[], &means);
        }
        let error = |row: &Pair| row.0.iter().zip(&row.1).map(|(x, r)| (x - r).powi(2)).sum::<f64>();
        let spread = |row: &Pair| row.0.iter().zip(&means).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
        let (errors, spreads): (Vec<f64>, Vec<f64>) =
            (rows.iter().map(error).collect(), rows.iter().map(spread).collect());
        let mse = errors.iter().sum::<f64>() / n;
        let variance = spreads.iter().sum::<f64>() / n;
        let expect = |variant: Variant, expected: f64| {
            let value = variant.value(&sums);
            // The variance is the small difference of large sums: 1e-12 of 5e4.
            assert!((value - expected).abs() < 1e-6, "{}: {value} {expected}", variant.name());
        };
        expect(Variant::EvTokenLegacy, errors.iter().zip(&spreads).map(|(e, s)| 1.0 - e / s).sum::<f64>() / n);
        let second: f64 = (0..WIDTH).map(|i| column(i, &|row, i| row.0[i].powi(2))).sum();
        expect(Variant::EvSaebench060, 1.0 - mse / (second - (second / WIDTH as f64).powi(2)));
        expect(Variant::EvTrainer, 1.0 - mse / variance);
        expect(Variant::FvuSparsify, mse / variance);
        let offset: f64 = (0..WIDTH).map(|i| column(i, &|row, i| row.0[i] - row.1[i]).powi(2)).sum();
        expect(Variant::FveDl, 1.0 - (mse - offset) / variance);
        let scalar = means.iter().sum::<f64>() / WIDTH as f64;
        let about_scalar: f64 = rows.iter().flat_map(|row| &row.0).map(|x| (x - scalar).powi(2)).sum::<f64>() / n;
        expect(Variant::R2Overcomplete, 1.0 - mse / about_scalar);
        // A constant offset is free in one of them alone.
        assert!(Variant::FveDl.value(&sums) > sums.ev_mc() + 0.05);
    }

    #[test]
    fn the_mean_alone_seems_good_to_saebench_060() {
        // 100 dimensions of mean 3 and variance 1: 1 − 100 / (1,000 − 10²).
        let mut x = vec![0.0; 4000 * 100];
        fill_normal(&mut stream(0, "test"), &mut x, 3.0, 1.0);
        let mut sums = Sums::default();
        x.chunks_exact(100).for_each(|row| sums.add(row, &[3.0; 100], &[], &[3.0; 100]));
        assert!((Variant::EvSaebench060.value(&sums) - 0.889).abs() < 1e-3);
        assert!(sums.ev_mc().abs() < 1e-3 && Variant::FveDl.value(&sums).abs() < 1e-3);
        assert!(Variant::EvTokenLegacy.value(&sums).abs() < 1e-3);
    }

    #[test]
    fn known_reconstructions_have_known_scores() {
        let x = vectors();
        let exact = sums(&x, <[f32]>::to_vec);
        assert_eq!((exact.ev_mc(), exact.mse(), exact.l2_ratio()), (1.0, 0.0, 1.0));
        assert!((exact.cossim() - 1.0).abs() < 1e-12);
        assert_eq!((exact.l0(), exact.l1()), (2.0, 3.5));
        let half = sums(&x, |row| row.iter().map(|x| 0.5 * x).collect());
        assert!((half.l2_ratio() - 0.5).abs() < 1e-12 && (half.shrinkage() - 0.5).abs() < 1e-12);
        assert!((half.l2_norm_out() - 0.5 * half.l2_norm_in()).abs() < 1e-9);
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
