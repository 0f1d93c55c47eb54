//! How much of the truth an autoencoder found.

use mediant_artifact::MetricRow;
use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;

use super::{Matching, Set, Synthetic};
use crate::evaluate::Sums;
use crate::{Error, Result, Sae};

/// Vectors that are encoded together.
const PIECE: u64 = 4096;
/// Vectors whose sums one task makes.
const GROUP: usize = 256;

/// A latent taken as a detector of the feature it matches best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Vectors in which the latent is active.
    pub active: u64,
    /// Vectors in which the feature fires.
    pub firing: u64,
    /// Vectors in which both are so.
    pub both: u64,
}

impl Counts {
    /// Of the vectors in which the latent is active, the part in which the feature fires; 0 if it never is.
    pub fn precision(self) -> f64 {
        ratio(self.both, self.active)
    }

    /// Of the vectors in which the feature fires, the part in which the latent is active; 0 if it never does.
    pub fn recall(self) -> f64 {
        ratio(self.both, self.firing)
    }

    /// The harmonic mean of the two, 0 if both are.
    pub fn f1(self) -> f64 {
        ratio(2 * self.both, self.active + self.firing)
    }

    /// The part of so many vectors in which latent and feature agree.
    fn accuracy(self, vectors: u64) -> f64 {
        ratio(vectors + 2 * self.both - self.active - self.firing, vectors)
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct SynthEvaluation {
    /// Latents and features by the directions of their vectors.
    pub matching: Matching,
    /// By latent.
    pub counts: Vec<Counts>,
    /// Of the reconstruction.
    pub sums: Sums,
    /// Features firing in all vectors together.
    pub firing: u64,
}

/// Evaluates an autoencoder on the first `rows` vectors of the evaluation set, in constant memory. `progress` hears how many are done.
///
/// # Errors
/// When the widths differ; whatever `progress` gives.
pub fn evaluate<E: From<Error>>(
    generator: &Synthetic,
    sae: &Sae,
    rows: u64,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<SynthEvaluation, E> {
    let (width, weights) = (generator.config().hidden_dim, sae.weights());
    if weights.d_in != width {
        let why = format!("the autoencoder reads vectors of {}, the generator makes vectors of {width}", weights.d_in);
        return Err(Error::Data(why).into());
    }
    progress(0, rows)?;
    let matching = Matching::new(&weights.w_dec, generator.features(), width);
    let mut found =
        SynthEvaluation { counts: vec![Counts::default(); weights.d_sae], matching, sums: Sums::default(), firing: 0 };
    let mut features = vec![0; generator.config().num_features];
    for start in (0..rows).step_by(PIECE as usize) {
        let piece: Vec<u64> = (start..rows.min(start + PIECE)).collect();
        let truth = generator.firing().sample(Set::Evaluation, &piece);
        let x = generator.vectors(&truth);
        let codes = sae.encode(&x);
        found.add_reconstruction(&x, &sae.decode(&codes, &x), &codes, width);
        found.add_detection(&codes, &truth, &mut features);
        progress(start + piece.len() as u64, rows)?;
    }
    for (counts, (feature, _)) in found.counts.iter_mut().zip(&found.matching.best) {
        counts.firing = features[*feature as usize];
    }
    Ok(found)
}

impl SynthEvaluation {
    fn add_reconstruction(&mut self, x: &[f32], reconstruction: &[f32], codes: &Codes, width: usize) {
        // Of the measures that are about the mean of all vectors none is reported.
        let mean = vec![0.0; width];
        let groups = x.par_chunks(GROUP * width).zip(reconstruction.par_chunks(GROUP * width)).enumerate();
        let groups = groups.map(|(group, (x, reconstruction))| {
            let mut sums = Sums::default();
            for (row, (x, r)) in x.chunks_exact(width).zip(reconstruction.chunks_exact(width)).enumerate() {
                sums.add(x, r, codes.row(group * GROUP + row).1, &mean);
            }
            sums
        });
        for sums in groups.collect::<Vec<_>>() {
            self.sums.merge(&sums);
        }
    }

    /// Counts active latents, and how often each feature fires.
    fn add_detection(&mut self, codes: &Codes, truth: &Codes, features: &mut [u64]) {
        for row in 0..truth.rows() {
            let firing = truth.row(row).0;
            firing.iter().for_each(|feature| features[*feature as usize] += 1);
            self.firing += firing.len() as u64;
            let (latents, values) = codes.row(row);
            for latent in
                latents.iter().zip(values).filter(|(_, value)| **value != 0.0).map(|(latent, _)| *latent as usize)
            {
                let counts = &mut self.counts[latent];
                counts.active += 1;
                counts.both += u64::from(firing.binary_search(&self.matching.best[latent].0).is_ok());
            }
        }
    }

    /// Everything as metrics.
    pub fn metrics(&self) -> Vec<MetricRow> {
        let (latents, vectors) = (self.counts.len() as u64, self.sums.n);
        let row = |name: &str, value: f64, n: u64| MetricRow {
            name: name.to_owned(),
            value,
            unit: "1".to_owned(),
            n,
            ..MetricRow::default()
        };
        let quotient = |name: &str, a: f64, b: f64, n: u64| MetricRow {
            numerator: Some(a),
            denominator: Some(b),
            ..row(name, a / b, n)
        };
        let mean = |name: &str, of: &dyn Fn(&Counts) -> f64| {
            row(name, self.counts.iter().map(of).sum::<f64>() / latents as f64, latents)
        };
        let (correlation, pairs) = self.matching.correlation();
        let dead = self.counts.iter().filter(|counts| counts.active == 0).count();
        let sums = &self.sums;
        vec![
            quotient("mcc", correlation, pairs as f64, pairs as u64),
            mean("f1", &|counts| counts.f1()),
            mean("precision", &|counts| counts.precision()),
            mean("recall", &|counts| counts.recall()),
            mean("accuracy", &|counts| counts.accuracy(vectors)),
            quotient("uniqueness", self.matching.distinct() as f64, latents as f64, latents),
            MetricRow {
                numerator: Some(sums.mse()),
                denominator: Some(sums.variance()),
                ..row("ev_mc", sums.ev_mc(), vectors)
            },
            row("mse", sums.mse(), vectors),
            row("cossim", sums.cossim(), vectors),
            row("shrinkage", sums.shrinkage(), vectors),
            row("l0", sums.l0(), vectors),
            quotient("true_l0", self.firing as f64, vectors as f64, vectors),
            quotient("dead_fraction", dead as f64, latents as f64, latents),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, SynthEvaluation};
    use crate::evaluate::Sums;
    use crate::synth::Matching;
    use mediant_tensor::kernels::sparse::Codes;

    fn codes(rows: &[&[u32]]) -> Codes {
        let mut codes = Codes::default();
        rows.iter().for_each(|row| codes.push_row(row.iter().map(|latent| (*latent, 1.0))));
        codes
    }

    #[test]
    fn detection_by_hand() {
        // Latent 0 stands for feature 2, latent 1 for feature 0, latent 2, which is never active, for feature 2 too.
        let best = vec![(2, 1.0), (0, 0.5), (2, 0.1)];
        let mut found = SynthEvaluation {
            matching: Matching { best, paired: vec![Some((2, 1.0)), Some((0, 0.5)), None] },
            counts: vec![Counts::default(); 3],
            sums: Sums { n: 5, ..Sums::default() },
            firing: 0,
        };
        let truth = codes(&[&[0, 2], &[2], &[0], &[], &[1, 2]]);
        let latents = codes(&[&[0, 1], &[0], &[0, 1], &[1], &[]]);
        let mut features = vec![0; 3];
        found.add_detection(&latents, &truth, &mut features);
        assert_eq!((&features[..], found.firing), (&[2, 1, 3][..], 6));
        for (counts, firing) in found.counts.iter_mut().zip([3, 2, 3]) {
            counts.firing = firing;
        }
        let of = |active, firing, both| Counts { active, firing, both };
        assert_eq!(found.counts, [of(3, 3, 2), of(3, 2, 2), of(0, 3, 0)]);
        let value = |name: &str| found.metrics().into_iter().find(|row| row.name == name).map(|row| row.value);
        let close = |name: &str, expected: f64| {
            let found = value(name).unwrap_or(f64::NAN);
            assert!((found - expected).abs() < 1e-15, "{name}: {found} is not {expected}");
        };
        close("precision", (2.0 / 3.0 + 2.0 / 3.0) / 3.0);
        close("recall", (2.0 / 3.0 + 1.0) / 3.0);
        close("f1", (2.0 / 3.0 + 0.8) / 3.0);
        // Latent 0 is wrong twice, latent 1 once, latent 2 three times, of five.
        close("accuracy", (3.0 + 4.0 + 2.0) / 15.0);
        close("mcc", 0.75);
        close("uniqueness", 2.0 / 3.0);
        close("true_l0", 6.0 / 5.0);
        close("dead_fraction", 1.0 / 3.0);
    }
}
