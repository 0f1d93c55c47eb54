//! The tensors of an autoencoder, by the names and in the shapes that SAELens gives them: W_enc is `[d_in, d_sae]`.

use std::borrow::Cow;

use crate::product::transposed;
use crate::{Activation, Extra, Result, Weights};

/// A name, a shape, and the numbers.
pub(crate) type Named<'a> = (&'static str, Vec<usize>, Cow<'a, [f32]>);

/// All tensors.
pub(crate) fn named(weights: &Weights) -> Vec<Named<'_>> {
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let tensors = weights.shapes().into_iter().zip(weights.each());
    let tensors = tensors.map(|((name, shape), values)| match name {
        "W_enc_T" => ("W_enc", vec![d_in, d_sae], Cow::Owned(transposed(values, d_sae, d_in))),
        _ => (name, shape, Cow::Borrowed(values)),
    });
    tensors.collect()
}

/// Parameters from tensors, which `tensor` gives by name and shape.
///
/// # Errors
/// Whatever `tensor` gives.
pub(crate) fn weights(
    activation: Activation,
    d_in: usize,
    d_sae: usize,
    mut tensor: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
) -> Result<Weights> {
    let gated = activation == Activation::Gated;
    Ok(Weights {
        d_in,
        d_sae,
        w_enc: transposed(&tensor("W_enc", &[d_in, d_sae])?, d_in, d_sae),
        b_enc: tensor(if gated { "b_gate" } else { "b_enc" }, &[d_sae])?,
        w_dec: tensor("W_dec", &[d_sae, d_in])?,
        b_dec: tensor("b_dec", &[d_in])?,
        extra: match activation {
            Activation::Relu | Activation::TopK { .. } => Extra::None,
            Activation::JumpRelu => Extra::Threshold(tensor("threshold", &[d_sae])?),
            Activation::Gated => Extra::Gate { b_mag: tensor("b_mag", &[d_sae])?, r_mag: tensor("r_mag", &[d_sae])? },
        },
    })
}
