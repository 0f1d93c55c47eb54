//! The weights that say which neurons are candidates.

use mediant_lm::{BlockSlot, Model, Slot};
use mediant_tensor::{Compute, Tensor, TensorData, ops};
use rayon::prelude::*;

use super::Write;
use crate::eigen::{dot, eigenvectors};
use crate::predictions::numbers;
use crate::readout::{Readout, center, matrix};
use crate::{Error, Result};

/// Cosines that exist at once, in bytes.
const COSINE_BYTES: usize = 64 << 20;

/// What the unembedding reads of the mean, over its largest singular value, counts as nothing up to here. Rows in f32 from which it was taken
/// away leave less than a tenth of that.
const NOTHING: f64 = 1e-6;

/// What the neurons of the last MLP write, and what the unembedding reads.
pub struct LastLayer {
    width: usize,
    /// Whether the mean of the residual stream changes no logit.
    centers: bool,
    /// `[d_mlp, d_model]`, as in the model.
    writes: Vec<f32>,
    /// `[vocabulary, d_model]`, with the last norm's gain and centring in it.
    unembedding: Vec<f32>,
}

/// A neuron, and why it is a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The neuron.
    pub neuron: usize,
    /// Length of what it writes.
    pub norm: f64,
    /// Variance over the vocabulary of the cosine between what it writes and what a token's logit reads.
    pub logit_var: f64,
}

impl Candidate {
    /// `norm / logit_var`: large for a neuron that writes much and moves all logits alike. 0 for one that writes nothing.
    pub fn ratio(&self) -> f64 {
        if self.norm == 0.0 { 0.0 } else { self.norm / self.logit_var }
    }
}

/// Directions of the residual stream, from what the unembedding reads most to what it reads least. Where the mean changes no logit, since a
/// LayerNorm takes it away or, once that is part of the weights, the unembedding does not read it, its direction is none of them.
pub struct Spectrum {
    /// Singular values of the unembedding, falling.
    pub values: Vec<f64>,
    /// A unit vector each, of the sign that makes its largest entry positive.
    pub directions: Vec<Vec<f64>>,
}

impl LastLayer {
    /// Of this model.
    ///
    /// # Errors
    /// [`Error::Data`] for a model that has a norm after its MLPs: what a neuron writes is then not what the residual stream gets.
    pub fn of<C: Compute>(model: &Model<C>) -> Result<Self> {
        let config = model.config();
        if config.post_norms {
            return Err(Error::Data("a norm stands between the last MLP and the residual stream".to_owned()));
        }
        let readout = Readout::of(model)?;
        let writes = matrix(model, Slot::Block(config.n_layers - 1, BlockSlot::DownWeight))?;
        let (width, unembedding) = (config.d_model, readout.rows());
        Ok(Self { width, centers: !reads_mean(&unembedding, width), writes, unembedding })
    }

    /// What a neuron writes.
    pub fn write(&self, neuron: usize) -> Write {
        Write { neuron, vector: self.writes[neuron * self.width..][..self.width].to_vec() }
    }

    /// The same with another vector for one neuron.
    #[must_use]
    pub fn with(mut self, write: &Write) -> Self {
        self.writes[write.neuron * self.width..][..self.width].copy_from_slice(&write.vector);
        self
    }

    /// What of a written vector the last norm sees.
    fn seen(&self, vector: &[f32]) -> Vec<f64> {
        let mut seen: Vec<f64> = vector.iter().map(|x| f64::from(*x)).collect();
        if self.centers {
            center(&mut seen);
        }
        seen
    }

    /// All neurons, the likeliest first: by falling [`Candidate::ratio`].
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn candidates<C: Compute>(&self, device: &C::Device) -> Result<Vec<Candidate>> {
        let seen: Vec<Vec<f64>> = self.writes.chunks_exact(self.width).map(|vector| self.seen(vector)).collect();
        let norms: Vec<f64> = seen.iter().map(|vector| dot(vector, vector).sqrt()).collect();
        let unit = |x: &mut dyn Iterator<Item = f64>, norm: f64| -> Vec<f32> {
            // Nothing has no direction; its cosines are 0.
            x.map(|x| if norm == 0.0 { 0.0 } else { (x / norm) as f32 }).collect()
        };
        let neurons = seen.len();
        let units: Vec<f32> =
            seen.iter().zip(&norms).flat_map(|(x, norm)| unit(&mut x.iter().copied(), *norm)).collect();
        let units = Tensor::<C, 2>::from_data(TensorData::new(units, [neurons, self.width]), device);
        let (mut sums, mut squares) = (vec![0.0; neurons], vec![0.0; neurons]);
        let step = (COSINE_BYTES / 4 / neurons).max(64);
        for rows in self.unembedding.chunks(step * self.width) {
            let tokens = rows.len() / self.width;
            let directions: Vec<f32> = rows
                .par_chunks_exact(self.width)
                .flat_map_iter(|row| {
                    let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                    unit(&mut row.iter().map(|x| f64::from(*x)), norm)
                })
                .collect();
            let directions = Tensor::<C, 2>::from_data(TensorData::new(directions, [tokens, self.width]), device);
            let cosines = numbers(ops::matmul(units.clone(), directions.transpose()))?;
            let of_neurons = cosines.par_chunks_exact(tokens).zip(sums.par_iter_mut().zip(&mut squares));
            of_neurons.for_each(|(cosines, (sum, square))| {
                for cosine in cosines.iter().map(|cosine| f64::from(*cosine)) {
                    *sum += cosine;
                    *square += cosine * cosine;
                }
            });
        }
        let n = (self.unembedding.len() / self.width) as f64;
        let candidate = |(neuron, norm): (usize, f64)| Candidate {
            neuron,
            norm,
            logit_var: (squares[neuron] - sums[neuron] * sums[neuron] / n) / (n - 1.0),
        };
        let mut all: Vec<Candidate> = norms.into_iter().enumerate().map(candidate).collect();
        all.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()).then(a.neuron.cmp(&b.neuron)));
        Ok(all)
    }

    /// The singular directions of the unembedding, from the eigenvectors of its Gram matrix.
    pub fn spectrum(&self) -> Spectrum {
        let (width, rows) = (self.width, self.unembedding.len() / self.width);
        let columns: Vec<Vec<f64>> = (0..width)
            .into_par_iter()
            .map(|i| (0..rows).map(|row| f64::from(self.unembedding[row * width + i])).collect())
            .collect();
        let mut gram: Vec<Vec<f64>> =
            (0..width).into_par_iter().map(|i| (0..width).map(|j| dot(&columns[i], &columns[j])).collect()).collect();
        if self.centers {
            // The direction of the mean is in the null space. Lifted above all others, it comes first and is left out.
            let above: f64 = 1.0 + (0..width).map(|i| gram[i][i]).sum::<f64>();
            gram.iter_mut().flatten().for_each(|x| *x += above / width as f64);
        }
        let found = eigenvectors(gram).into_iter().skip(usize::from(self.centers));
        let (values, directions) = found.map(|(value, vector)| (value.sqrt(), signed(vector))).unzip();
        Spectrum { values, directions }
    }

    /// The squared cosine of what a neuron writes with every direction of a spectrum; they sum to 1.
    pub fn profile(&self, neuron: usize, spectrum: &Spectrum) -> Vec<f64> {
        let seen = self.seen(&self.write(neuron).vector);
        let square = dot(&seen, &seen);
        spectrum.directions.iter().map(|direction| dot(&seen, direction).powi(2) / square).collect()
    }
}

/// Whether the rows of an unembedding, `[vocabulary, width]`, read anything along the direction of the mean.
fn reads_mean(rows: &[f32], width: usize) -> bool {
    let (mut along, mut squares) = (0.0, vec![0.0; width]);
    for row in rows.chunks_exact(width) {
        along += row.iter().map(|x| f64::from(*x)).sum::<f64>().powi(2) / width as f64;
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
    }
    // No column is longer than the largest singular value.
    along > NOTHING.powi(2) * squares.into_iter().fold(0.0, f64::max)
}

/// The vector or its opposite, whose first entry of the largest size is positive: a singular direction has no sign of its own.
fn signed(vector: Vec<f64>) -> Vec<f64> {
    let largest = vector.iter().fold(0.0, |most: f64, x| if x.abs() > most.abs() { *x } else { most });
    if largest < 0.0 { vector.into_iter().map(|x| -x).collect() } else { vector }
}
