//! Gemma Scope's `params.npz`: W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_out]`, b_enc, b_dec and threshold of a JumpReLU
//! autoencoder or transcoder, whose input is the activation itself (Lieberum et al. 2024, arXiv:2408.05147). The file does not
//! say which it is.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde_json::Map;

use super::foreign::{Foreign, Writes};
use super::input::Input;
use super::layout::{Layout, Matrix};
use super::{Format, npz, tensors, write};
use crate::{Activation, Error, Extra, InputNorm, Result, Sae};

pub(super) const WEIGHTS: &str = "params.npz";

pub(super) fn open(path: &Path) -> Result<Foreign> {
    let path = if path.is_dir() { path.join(WEIGHTS) } else { path.to_owned() };
    let file = npz::of(Input::open(&path)?)?;
    let mut layout = Layout::saelens(Activation::JumpRelu);
    if file.has("w_enc") {
        // Some releases write it so.
        layout.w_enc = Matrix::Columns("w_enc");
        layout.w_dec = Matrix::Rows("w_dec");
    }
    file.only(&layout.names(), "an autoencoder of Gemma Scope")?;
    let (d_in, d_sae) = layout.w_enc.sizes(&file)?;
    let (d_out, _) = layout.w_dec.sizes(&file)?;
    Ok(Foreign {
        format: Format::GemmaScope,
        activation: Activation::JumpRelu,
        apply_b_dec_to_input: false,
        input_norm: InputNorm::None,
        d_in,
        d_out,
        d_sae,
        hook: None,
        writes: if d_in == d_out { Writes::NotSaid } else { Writes::Another(None) },
        said: Map::new(),
        file,
        layout,
    })
}

/// Writes a jumprelu dictionary, or a relu one, whose thresholds are 0, into a folder that exists.
///
/// # Errors
/// When it is of another kind, or a file cannot be written.
pub(crate) fn save(sae: &Sae, folder: &Path) -> Result<()> {
    if !matches!(sae.activation(), Activation::JumpRelu | Activation::Relu) {
        return Err(Error::Data("Gemma Scope holds jumprelu dictionaries alone".to_owned()));
    }
    let sae = write::subtracting_b_dec(sae, false)?;
    let mut weights = sae.weights().clone();
    if weights.extra == Extra::None {
        weights.extra = Extra::Threshold(vec![0.0; weights.d_sae]);
    }
    let named = tensors::named(&weights);
    let arrays: Vec<npz::Given<'_>> =
        named.iter().map(|(name, shape, data)| (*name, shape.clone(), &data[..])).collect();
    let path = folder.join(WEIGHTS);
    let file = File::create(&path).map_err(Error::io(&path))?;
    npz::write(BufWriter::new(file), &arrays).map_err(Error::io(&path))
}
