//! What an autoencoder becomes so that a format of another tool can hold it, and what none can.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::tensor::{Dtype, TensorView};
use rayon::prelude::*;

use super::Format;
use super::tensors::Named;
use crate::{Activation, Error, Extra, Result, Sae, Weights};

/// What a format is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The activation rule.
    pub architecture: &'a str,
    /// Width of the input.
    pub d_in: usize,
    /// Width of the output, of a transcoder.
    pub d_out: Option<usize>,
    /// Whether something skips the latents.
    pub skips: bool,
    /// What happens to every vector before it is encoded, if anything.
    pub input_norm: Option<&'a str>,
}

impl Held<'_> {
    /// Whether a format has a place for it.
    fn fits(self, format: Format) -> bool {
        let architectures: &[&str] = match (format, self.d_out) {
            (Format::Saelens, None) => &["relu", "gated", "topk", "jumprelu", "matching_pursuit"],
            (Format::Saelens, Some(_)) => &["relu", "jumprelu"],
            (Format::Sparsify, d_out) if d_out.is_none_or(|d_out| d_out == self.d_in) => &["topk"],
            (Format::DictionaryLearning, None) => &["relu", "gated", "topk", "jumprelu"],
            (Format::GemmaScope, _) if !self.skips => &["jumprelu", "relu"],
            _ => &[],
        };
        architectures.contains(&self.architecture) && (self.input_norm.is_none() || format == Format::Saelens)
    }

    /// In words, several of them.
    fn name(self) -> String {
        let Self { architecture, d_in, .. } = self;
        let what = match self.d_out {
            None => format!("{architecture} autoencoders"),
            Some(d_out) if d_out == d_in => format!("{architecture} transcoders"),
            Some(d_out) => format!("{architecture} transcoders of vectors of {d_in} to vectors of {d_out}"),
        };
        match (self.input_norm, self.skips) {
            (Some(norm), _) => format!("{what} with `normalize_activations: {norm}`"),
            (None, true) => format!("{what} with a skip connection"),
            (None, false) => what,
        }
    }
}

/// Why such dictionaries cannot be written in a format, and what to do instead; `None` if they can.
pub fn refusal(format: Format, held: Held<'_>) -> Option<(String, String)> {
    if held.fits(format) {
        return None;
    }
    let why = format!("the format `{}` has no place for {}", format.name(), held.name());
    let others = Format::ALL.into_iter().filter(|other| held.fits(*other));
    let others: Vec<String> = others.map(|other| format!("`{}`", other.name())).collect();
    let help = if others.is_empty() { "no format has".to_owned() } else { format!("write {}", others.join(" or ")) };
    Some((why, help))
}

/// Why decoder norms cannot be moved into the encoder, and what to do instead; `None` if they can. `plain_topk` says that a
/// topk chooses by its pre-activations as they are.
pub fn fold_refusal(architecture: &str, plain_topk: bool) -> Option<(&'static str, &'static str)> {
    if plain_topk {
        let why = "decoder norms cannot be folded into a plain top-k autoencoder: its k largest pre-activations would be others \
                   once each is multiplied by the norm of its decoder row";
        let help = "leave `fold_decoder_norms` out, or train with `rescale_acts_by_decoder_norm: true`, which chooses by that \
                    product";
        return Some((why, help));
    }
    let why = "decoder norms cannot be folded into a matching pursuit, whose encoder is the decoder";
    (architecture == "matching_pursuit").then_some((why, "leave `fold_decoder_norms` out"))
}

/// The autoencoder with decoder rows of norm 1, their norms moved into the encoder.
///
/// # Errors
/// Where that would change what it computes.
pub fn fold_decoder_norms(sae: &Sae) -> Result<Sae> {
    if let Some((why, help)) = fold_refusal(sae.activation().architecture(), sae.activation().is_plain_topk()) {
        return Err(Error::Data(format!("{why}; {help}")));
    }
    let activation = match sae.activation() {
        // Chosen by the product, which is the pre-activation now.
        Activation::TopK { k, .. } => Activation::TopK { k, rescale_acts_by_decoder_norm: false },
        other => other,
    };
    let mut weights = sae.weights().clone();
    weights.fold_decoder_norms();
    Sae::new(weights, activation, sae.apply_b_dec_to_input())?.with_input_norm(sae.input_norm())
}

/// A top-k autoencoder that chooses by its pre-activations as they are.
pub(super) fn plain_topk(sae: &Sae) -> Result<Cow<'_, Sae>> {
    match sae.activation() {
        Activation::TopK { rescale_acts_by_decoder_norm: true, .. } => fold_decoder_norms(sae).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(sae)),
    }
}

/// The same function with b_dec subtracted from the input, or not: `x W + b = (x − b_dec) W + (b + b_dec W)`, and of gated
/// ones `x W e^r + b = (x − b_dec) W e^r + (b + b_dec W e^r)` too.
pub(super) fn subtracting_b_dec(sae: &Sae, subtract: bool) -> Result<Cow<'_, Sae>> {
    if sae.apply_b_dec_to_input() == subtract {
        return Ok(Cow::Borrowed(sae));
    }
    let sign = if subtract { 1.0 } else { -1.0 };
    let mut weights = sae.weights().clone();
    let Weights { d_in, w_enc, b_enc, b_dec, extra, .. } = &mut weights;
    let products: Vec<f64> = w_enc
        .par_chunks_exact(*d_in)
        .map(|row| row.iter().zip(&*b_dec).map(|(w, b)| f64::from(*w) * f64::from(*b)).sum())
        .collect();
    let shift = |bias: &mut f32, by: f64| *bias = (f64::from(*bias) + sign * by) as f32;
    b_enc.iter_mut().zip(&products).for_each(|(bias, product)| shift(bias, *product));
    if let Extra::Gate { b_mag, r_mag } = extra {
        let stretched = products.iter().zip(r_mag).map(|(product, r)| product * f64::from(*r).exp());
        b_mag.iter_mut().zip(stretched).for_each(|(bias, product)| shift(bias, product));
    }
    Ok(Cow::Owned(Sae::new(weights, sae.activation(), subtract)?.with_input_norm(sae.input_norm())?))
}

/// Writes a safetensors file of f32.
pub(super) fn safetensors(path: &Path, tensors: &[Named<'_>]) -> Result<()> {
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data));
        view.map(|view| (*name, view)).map_err(|error| Error::format(path, error.to_string()))
    });
    let views = views.collect::<Result<BTreeMap<_, _>>>()?;
    let file = ::safetensors::serialize(views, None).map_err(|error| Error::format(path, error.to_string()))?;
    std::fs::write(path, file).map_err(Error::io(path))
}
