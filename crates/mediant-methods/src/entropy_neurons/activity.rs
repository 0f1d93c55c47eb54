//! How active neurons are, and how large the residual stream is.

use std::ops::Range;

use mediant_artifact::Tokens;
use mediant_lm::{Batch, HookPoint, Hooks, Model, NormKind, Site, batch_of, batches, predicted};
use mediant_tensor::{Compute, Tensor, ops};

use super::{LastLayer, Spectrum, Write};
use crate::predictions::{chosen, numbers};
use crate::{Error, Result};

/// Moments of the last MLP's neurons, and the size of the residual stream after it, at the rows that predict a token that counts.
#[derive(Clone, Debug)]
pub struct Activity {
    /// Mean activation of each neuron.
    pub mean: Vec<f64>,
    /// Its standard deviation.
    pub sd: Vec<f64>,
    /// Mean over rows of the root mean square of the residual stream; of what its mean leaves where the norms are or were LayerNorms.
    pub resid: f64,
}

impl Activity {
    /// On this corpus. `progress` hears how many tokens of how many are done.
    ///
    /// # Errors
    /// [`Error::Data`] if no token is predicted; as the passes, and whatever `progress` gives.
    pub fn of<C: Compute, E: From<Error>>(
        model: &Model<C>,
        tokens: &Tokens,
        mut progress: impl FnMut(u64, u64) -> Result<(), E>,
    ) -> Result<Self, E> {
        let config = model.config();
        let neurons = config.d_mlp;
        let (mut sums, mut squares, mut resid, mut n) = (vec![0.0; neurons], vec![0.0; neurons], 0.0, 0.0);
        for range in batches(tokens, config, 0) {
            let Some(rows) = Rows::of(model, tokens, range.clone())? else { continue };
            for row in numbers(rows.active)?.chunks_exact(neurons) {
                for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(row) {
                    *sum += f64::from(*x);
                    *square += f64::from(*x).powi(2);
                }
            }
            let of_rows = numbers(ops::norm_scales(rows.resid, config.norm == NormKind::Layer, 0.0))?;
            resid += of_rows.iter().map(|size| f64::from(*size)).sum::<f64>();
            n += of_rows.len() as f64;
            progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
        }
        if n == 0.0 {
            return Err(Error::Data("the corpus has no token that is predicted and counts".to_owned()).into());
        }
        let sd = |(sum, square): (&f64, &f64)| (square / n - (sum / n).powi(2)).max(0.0).sqrt();
        Ok(Self {
            sd: sums.iter().zip(&squares).map(sd).collect(),
            mean: sums.iter().map(|sum| sum / n).collect(),
            resid: resid / n,
        })
    }

    /// The neuron that varies most, made to write along the direction that the unembedding reads least: what an entropy neuron is. One
    /// standard deviation of its activation moves the residual stream by half of its usual length.
    pub fn planted(&self, layer: &LastLayer, spectrum: &Spectrum) -> Result<Write> {
        let varies = self.sd.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (Some((neuron, sd)), Some(direction)) = (varies, spectrum.directions.last()) else {
            return Err(Error::Data("there is no neuron to plant".to_owned()));
        };
        let length = layer.write(neuron).vector.len() as f64;
        let factor = 0.5 * self.resid * length.sqrt() / sd;
        Ok(Write { neuron, vector: direction.iter().map(|x| (factor * x) as f32).collect() })
    }
}

/// The rows of some sequences that predict a token that counts.
pub(super) struct Rows<C: Compute> {
    /// All rows of the sequences.
    pub(super) batch: Batch<C>,
    /// The predicted tokens, by index.
    pub(super) predicted: Vec<usize>,
    /// `mlp.hook_post` of the last block, `[rows, d_mlp]`.
    pub(super) active: Tensor<C, 2>,
    /// The residual stream after the last block, `[rows, d_model]`.
    pub(super) resid: Tensor<C, 2>,
}

impl<C: Compute> Rows<C> {
    /// None if there are none.
    pub(super) fn of(model: &Model<C>, tokens: &Tokens, sequences: Range<usize>) -> Result<Option<Self>> {
        let batch = batch_of(model, tokens, sequences.clone())?;
        let first = tokens.offsets[sequences.start];
        let (predicted, rows): (Vec<usize>, Vec<usize>) =
            predicted(tokens, sequences).map(|(token, _)| (token, token - 1 - first)).unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        let last = model.config().n_layers - 1;
        let points = [Site::MlpPost, Site::ResidPost].map(|site| HookPoint::Block(last, site));
        let mut read = Vec::new();
        let mut take = |_, x: Tensor<C, 3>| {
            let [_, _, width] = x.dims();
            read.push(chosen(&x, &rows).reshape([rows.len(), width]));
            Ok(())
        };
        model.read(&batch, Hooks::none().read(points, &mut take))?;
        match <[Tensor<C, 2>; 2]>::try_from(read) {
            Ok([active, resid]) => Ok(Some(Self { batch, predicted, active, resid })),
            Err(_) => Err(Error::Data("the pass did not come to the end of the last block".to_owned())),
        }
    }
}
