//! Codes chosen as BatchTopK chooses them in training, over whole batches.

use mediant_artifact::DictionaryMeta;
use mediant_tensor::kernels::sparse::Codes;

use super::Largest;
use crate::{Activation, Error, Extra, Objective, Result, Sae};

/// Rows whose positive pre-activations are held at a time.
const ROWS: usize = 256;

/// An autoencoder whose active latents are, of every batch, the ⌊k · batch⌋ largest activations together, where they are
/// positive. The batches are found in one pass over all vectors ([`Self::look`], [`Self::end`]), with at most a few times as many
/// numbers in memory as a batch has active latents; then any vector can be encoded by the batch it is in. Of activations
/// that are equal to the least of a batch all are active. Codes are decoded as those of the autoencoder are.
#[derive(Clone, Debug)]
pub struct ByBatch {
    /// The same parameters without thresholds.
    sae: Sae,
    k: f64,
    batch: usize,
    /// The least activation that is active, of each batch.
    least: Vec<f32>,
    /// Candidates of the batch under way.
    waiting: Vec<f32>,
    rows: usize,
}

impl ByBatch {
    /// For a `jumprelu` autoencoder made by BatchTopK with this k and batch.
    ///
    /// # Errors
    /// If it is no `jumprelu` autoencoder, or k or the batch is 0.
    pub fn new(sae: &Sae, k: f64, batch: usize) -> Result<Self> {
        if sae.activation() != Activation::JumpRelu {
            return Err(Error::Data(format!(
                "a {} autoencoder does not choose by batch",
                sae.activation().architecture()
            )));
        }
        if k.is_nan() || k <= 0.0 || batch == 0 {
            return Err(Error::Data(format!("{k} active latents of each vector, in batches of {batch}")));
        }
        let mut weights = sae.weights().clone();
        weights.extra = Extra::None;
        let sae = Sae::new(weights, Activation::Relu, sae.apply_b_dec_to_input())?.with_input_norm(sae.input_norm())?;
        Ok(Self { sae, k, batch, least: Vec::new(), waiting: Vec::new(), rows: 0 })
    }

    /// The k and the batch that a dictionary was trained with.
    ///
    /// # Errors
    /// If it was not trained by choosing latents over batches, as far as is known.
    pub fn of_training(meta: &DictionaryMeta) -> Result<(f64, usize)> {
        let training = &meta.config["training"];
        let objective = serde_json::from_value::<Objective>(training["objective"].clone()).ok();
        let k = objective.as_ref().and_then(Objective::batch_choice).map(|choice| choice.k);
        let batch = training["batch"].as_u64().map(|batch| batch as usize);
        k.zip(batch).ok_or_else(|| {
            let why =
                "this dictionary was not trained as `batchtopk` or `matryoshka`: there is no k to choose by batch";
            Error::Data(why.to_owned())
        })
    }

    /// Looks at the next vectors, `[rows, d_in]`. `largest` takes all activations in, those too that are then not chosen.
    pub fn look(&mut self, x: &[f32], largest: &mut Largest) {
        let width = self.sae.weights().d_in;
        let mut rest = x;
        while !rest.is_empty() {
            let rows = (rest.len() / width).min(ROWS).min(self.batch - self.rows);
            let (now, later) = rest.split_at(rows * width);
            let codes = self.sae.encode(now);
            largest.add(&codes);
            self.waiting.extend_from_slice(codes.values());
            self.rows += rows;
            if self.rows == self.batch {
                self.end();
            } else {
                self.keep_largest(self.entries(self.batch));
            }
            rest = later;
        }
    }

    /// Ends the last batch, which may have fewer rows.
    pub fn end(&mut self) {
        if self.rows == 0 {
            return;
        }
        let entries = self.entries(self.rows);
        self.keep_largest(entries);
        let least = match entries {
            0 => f32::INFINITY,
            _ if self.waiting.len() < entries => 0.0,
            _ => self.waiting.iter().copied().fold(f32::INFINITY, f32::min),
        };
        self.least.push(least);
        self.waiting.clear();
        self.rows = 0;
    }

    fn entries(&self, rows: usize) -> usize {
        (self.k * rows as f64) as usize
    }

    fn keep_largest(&mut self, entries: usize) {
        if self.waiting.len() > entries {
            if entries > 0 {
                self.waiting.select_nth_unstable_by(entries - 1, |a, b| b.total_cmp(a));
            }
            self.waiting.truncate(entries);
        }
    }

    /// Codes of `x`, `[rows, d_in]`, whose rows are the vectors with these numbers in the order in which they were looked at.
    pub fn encode(&self, x: &[f32], numbers: &[usize]) -> Codes {
        let width = self.sae.weights().d_in;
        let mut all = Codes::default();
        for (x, numbers) in x.chunks(ROWS * width).zip(numbers.chunks(ROWS)) {
            let codes = self.sae.encode(x);
            for (row, number) in numbers.iter().enumerate() {
                let least = self.least.get(number / self.batch).copied().unwrap_or(f32::INFINITY);
                let (latents, values) = codes.row(row);
                let entries = latents.iter().copied().zip(values.iter().copied());
                all.push_row(entries.filter(|(_, value)| *value >= least));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Largest;
    use super::ByBatch;
    use crate::{Activation, Extra, Sae, Weights};
    use mediant_tensor::random::{fill_normal, stream};

    const D: usize = 6;
    const H: usize = 40;

    fn sae(threshold: f32) -> Sae {
        let mut weights = Weights::init(D, H, Some(1.0), 3);
        weights.extra = Extra::Threshold(vec![threshold; H]);
        Sae::new(weights, Activation::JumpRelu, true).unwrap()
    }

    #[test]
    fn the_largest_of_each_batch_are_active() {
        let (rows, batch, k) = (700, 300, 2.5);
        let mut x = vec![0.0; rows * D];
        fill_normal(&mut stream(1, "test"), &mut x, 0.0, 1.0);
        let mut chosen = ByBatch::new(&sae(1.0), k, batch).unwrap();
        // In pieces that do not fit the batches.
        let mut largest = Largest::new(H);
        x.chunks(77 * D).for_each(|piece| chosen.look(piece, &mut largest));
        chosen.end();
        let numbers: Vec<usize> = (0..rows).collect();
        let codes = chosen.encode(&x, &numbers);
        assert_eq!(codes.rows(), rows);
        // All positive activations, sorted batch by batch.
        let all = sae(0.0).encode(&x);
        for first in (0..rows).step_by(batch) {
            let last = rows.min(first + batch);
            let values = |codes: &crate::Codes| -> Vec<f32> {
                let mut values: Vec<f32> = (first..last).flat_map(|row| codes.row(row).1.to_vec()).collect();
                values.sort_by(|a, b| b.total_cmp(a));
                values
            };
            let entries = (k * (last - first) as f64) as usize;
            assert_eq!(values(&codes), values(&all)[..entries], "batch from {first}");
        }
        // A row is encoded by its own batch, whatever is beside it.
        let alone = chosen.encode(&x[650 * D..651 * D], &[650]);
        assert_eq!(alone.row(0), codes.row(650));
    }

    #[test]
    fn more_than_there_is_takes_all_and_less_than_one_nothing() {
        let x = vec![1.0; 3 * D];
        for (k, expected) in [(1000.0, sae(0.0).encode(&x).entries()), (0.1, 0)] {
            let mut chosen = ByBatch::new(&sae(1.0), k, 4).unwrap();
            chosen.look(&x, &mut Largest::new(H));
            chosen.end();
            assert_eq!(chosen.encode(&x, &[0, 1, 2]).entries(), expected);
        }
        assert!(ByBatch::new(&sae(1.0), 0.0, 4).is_err());
    }
}
