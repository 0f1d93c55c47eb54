//! The last norm and the unembedding taken apart: what a logit makes of a residual stream, given what the norm divides it by.

use std::collections::BTreeMap;

use mediant_lm::{Batch, Edit, HookPoint, Hooks, Model, NormKind, Parameter, Rows, Slot, State};
use mediant_tensor::{Compute, Tensor};
use rayon::prelude::*;

use crate::predictions::numbers;
use crate::{Error, Result};

/// What every token's logit makes of the residual stream before the last norm has divided it: logit = ⟨x, row⟩ / scale + a constant. The
/// norm's gain is in it, and taking the mean away (LayerNorm); logits are relative to their mean over the vocabulary. So it is TransformerLens'
/// unembedding after `fold_ln` and `center_unembed`, whatever processing the weights had.
pub(crate) struct Readout {
    gain: Option<Vec<f32>>,
    centers: bool,
    width: usize,
    /// `[vocabulary, d_model]`
    unembedding: Vec<f32>,
    /// Mean over the vocabulary of the gained rows.
    mean: Vec<f64>,
}

impl Readout {
    /// Of this model. A soft cap on logits is not part of it.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub(crate) fn of<C: Compute>(model: &Model<C>) -> Result<Self> {
        let mut parameters: BTreeMap<Slot, Parameter<C>> = model.parameters().into_iter().collect();
        let gain = parameters.remove(&Slot::FinalNormWeight).map(Parameter::into_values);
        let centers = gain.is_some() && model.config().norm == NormKind::Layer;
        let width = model.config().d_model;
        let unembedding = numbers(model.unembedding())?;
        let mut readout = Self { gain, centers, width, unembedding, mean: vec![0.0; width] };
        let rows = (readout.unembedding.len() / width) as f64;
        let mut sums = vec![0.0; width];
        for token in 0..rows as usize {
            sums.iter_mut().zip(readout.row(token)).for_each(|(sum, x)| *sum += x);
        }
        readout.mean = sums.into_iter().map(|sum| sum / rows).collect();
        Ok(readout)
    }

    /// The row of a token.
    pub(crate) fn row(&self, token: usize) -> Vec<f64> {
        let own = &self.unembedding[token * self.width..][..self.width];
        let mut row: Vec<f64> = match &self.gain {
            Some(gain) => own.iter().zip(gain).map(|(x, gain)| f64::from(*x) * f64::from(*gain)).collect(),
            None => own.iter().map(|x| f64::from(*x)).collect(),
        };
        if self.centers {
            center(&mut row);
        }
        row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x -= mean);
        row
    }

    /// All rows, `[vocabulary, d_model]`.
    pub(crate) fn rows(&self) -> Vec<f32> {
        let rows = (0..self.unembedding.len() / self.width).into_par_iter();
        rows.flat_map_iter(|token| self.row(token).into_iter().map(|x| x as f32)).collect()
    }
}

/// Takes the mean away.
pub(crate) fn center(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|x| *x -= mean);
}

/// What the last norm divides residual streams `[rows, d_model]` by, `[rows, 1, 1]`; ones in a model without norms. `batch` is any of the
/// model's: only the rows matter here.
pub(crate) fn scales<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    resid: Tensor<C, 2>,
) -> mediant_lm::Result<Tensor<C, 3>> {
    let mut scales = Tensor::ones([resid.dims()[0], 1, 1], &resid.device());
    if model.config().has_hook(HookPoint::FinalScale) {
        let mut take = |_, x| {
            scales = x;
            Ok(())
        };
        after(model, batch, resid, Hooks::none().read([HookPoint::FinalScale], &mut take))?;
    }
    Ok(scales)
}

/// What the unembedding takes of residual streams `[rows, d_model]` that the last norm divides by `scales`.
pub(crate) fn hidden_at<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    resid: Tensor<C, 2>,
    scales: Tensor<C, 3>,
) -> mediant_lm::Result<Tensor<C, 2>> {
    let given = Given(scales);
    match model.config().has_hook(HookPoint::FinalScale) {
        true => after(model, batch, resid, Hooks::none().edit(HookPoint::FinalScale, &given)),
        false => after(model, batch, resid, Hooks::none()),
    }
}

fn after<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    resid: Tensor<C, 2>,
    hooks: Hooks<'_, C>,
) -> mediant_lm::Result<Tensor<C, 2>> {
    model.hidden_from(batch, State::Block { layer: model.config().n_layers, resid }, Rows::All, hooks)
}

/// Puts these values in the place of an activation.
struct Given<C: Compute>(Tensor<C, 3>);

impl<C: Compute> Edit<C> for Given<C> {
    fn apply(&self, _: HookPoint, _: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        Ok(self.0.clone())
    }
}

/// The `[in, out]` matrix of a slot, row-major.
///
/// # Errors
/// [`Error::Data`] if the model does not have it.
pub(crate) fn matrix<C: Compute>(model: &Model<C>, slot: Slot) -> Result<Vec<f32>> {
    let found = model.parameters().into_iter().find(|(of, _)| *of == slot);
    let (_, found) = found.ok_or_else(|| Error::Data(format!("the model has no matrix `{slot}`")))?;
    Ok(found.into_values())
}
