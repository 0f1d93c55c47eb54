//! Which tensors of a file make the parameters of a dictionary.

use std::borrow::Cow;

use super::stored::TensorFile;
use super::tensors::{Named, Sizes};
use crate::product::transposed;
use crate::{Activation, Extra, Result, Weights};

/// The tensors of a dictionary by their names in a file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) w_enc: Matrix,
    pub(super) b_enc: &'static str,
    pub(super) w_dec: Matrix,
    pub(super) b_dec: &'static str,
    pub(super) extra: Further,
    /// `[d_out, d_in]`.
    pub(super) w_skip: Option<&'static str>,
}

/// A matrix, which has either a row or a column for each latent; `d` is the width of what is read or written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matrix {
    /// `[d_sae, d]`.
    Rows(&'static str),
    /// `[d, d_sae]`.
    Columns(&'static str),
}

/// What only some families have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Further {
    None,
    /// No encoder: it is the decoder.
    Tied,
    /// `[d_sae]`.
    Threshold(&'static str),
    /// One number for all latents.
    OneThreshold(&'static str),
    /// The bias and the scale of the magnitudes.
    Gate(&'static str, &'static str),
}

impl Matrix {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rows(name) | Self::Columns(name) => name,
        }
    }

    fn check(self, file: &TensorFile, d: usize, d_sae: usize) -> Result<()> {
        match self {
            Self::Rows(name) => file.expect(name, &[d_sae, d]),
            Self::Columns(name) => file.expect(name, &[d, d_sae]),
        }
    }

    /// As a tensor, from one with a row of `width` for each latent.
    fn tensor(self, matrix: &[f32], width: usize) -> Named<'_> {
        let d_sae = matrix.len() / width;
        match self {
            Self::Rows(name) => (name, vec![d_sae, width], Cow::Borrowed(matrix)),
            Self::Columns(name) => (name, vec![width, d_sae], Cow::Owned(transposed(matrix, d_sae, width))),
        }
    }

    /// With a row for each latent.
    fn read(self, file: &TensorFile) -> Result<Vec<f32>> {
        match self {
            Self::Rows(name) => file.read(name),
            Self::Columns(name) => file.read_transposed(name),
        }
    }

    /// d and d_sae, by its shape.
    pub(super) fn sizes(self, file: &TensorFile) -> Result<(usize, usize)> {
        match (self, file.shape(self.name())?) {
            (Self::Rows(_), &[d_sae, d]) | (Self::Columns(_), &[d, d_sae]) => Ok((d, d_sae)),
            (_, shape) => {
                Err(file.error(format!("tensor `{}` has shape {shape:?}, not that of a matrix", self.name())))
            }
        }
    }
}

impl Layout {
    /// The names of all tensors.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names = vec![self.w_dec.name(), self.b_dec];
        if !self.is_tied() {
            names.extend([self.w_enc.name(), self.b_enc]);
        }
        match self.extra {
            Further::None | Further::Tied => {}
            Further::Threshold(name) | Further::OneThreshold(name) => names.push(name),
            Further::Gate(bias, scale) => names.extend([bias, scale]),
        }
        names.extend(self.w_skip);
        names
    }

    fn is_tied(&self) -> bool {
        matches!(self.extra, Further::Tied)
    }

    /// Checks that every tensor is there in its shape.
    pub(super) fn check(&self, file: &TensorFile, sizes: Sizes) -> Result<()> {
        let Sizes { d_in, d_out, d_sae, .. } = sizes;
        if !self.is_tied() {
            self.w_enc.check(file, d_in, d_sae)?;
            file.expect(self.b_enc, &[d_sae])?;
        }
        self.w_dec.check(file, d_out, d_sae)?;
        file.expect(self.b_dec, &[d_out])?;
        self.w_skip.map_or(Ok(()), |name| file.expect(name, &[d_out, d_in]))?;
        match self.extra {
            Further::None | Further::Tied => Ok(()),
            Further::Threshold(name) => file.expect(name, &[d_sae]),
            Further::OneThreshold(name) => file.expect(name, &[]),
            Further::Gate(bias, scale) => [bias, scale].into_iter().try_for_each(|name| file.expect(name, &[d_sae])),
        }
    }

    /// Reads the parameters.
    pub(super) fn read(&self, file: &TensorFile, sizes: Sizes) -> Result<Weights> {
        let Sizes { d_in, d_out, d_sae, .. } = sizes;
        Ok(Weights {
            d_in,
            d_out,
            d_sae,
            w_enc: if self.is_tied() { Vec::new() } else { self.w_enc.read(file)? },
            b_enc: if self.is_tied() { Vec::new() } else { file.read(self.b_enc)? },
            w_dec: self.w_dec.read(file)?,
            b_dec: file.read(self.b_dec)?,
            w_skip: self.w_skip.map(|name| file.read(name)).transpose()?,
            extra: match self.extra {
                Further::None => Extra::None,
                Further::Tied => Extra::Tied,
                Further::Threshold(name) => Extra::Threshold(file.read(name)?),
                Further::OneThreshold(name) => Extra::Threshold(vec![file.scalar(name)?; d_sae]),
                Further::Gate(bias, scale) => Extra::Gate { b_mag: file.read(bias)?, r_mag: file.read(scale)? },
            },
        })
    }

    /// Parameters as tensors of a file.
    pub(super) fn tensors<'w>(&self, weights: &'w Weights) -> Vec<Named<'w>> {
        let Weights { d_in, d_out, d_sae, w_enc, b_enc, w_dec, b_dec, .. } = weights;
        let latents = |name, values: &'w [f32]| (name, vec![*d_sae], Cow::Borrowed(values));
        let mut all = vec![self.w_dec.tensor(w_dec, *d_out), (self.b_dec, vec![*d_out], Cow::Borrowed(&b_dec[..]))];
        if !self.is_tied() {
            all.extend([self.w_enc.tensor(w_enc, *d_in), latents(self.b_enc, b_enc)]);
        }
        match (self.extra, &weights.extra) {
            (Further::Threshold(name), Extra::Threshold(threshold)) => all.push(latents(name, threshold)),
            (Further::Gate(bias, scale), Extra::Gate { b_mag, r_mag }) => {
                all.extend([latents(bias, b_mag), latents(scale, r_mag)]);
            }
            _ => {}
        }
        all
    }

    /// SAELens' names, which Gemma Scope and parts of dictionary_learning share.
    pub(super) fn saelens(activation: Activation) -> Self {
        let (b_enc, extra) = match activation {
            Activation::Relu | Activation::TopK { .. } | Activation::TopAfa => ("b_enc", Further::None),
            Activation::JumpRelu => ("b_enc", Further::Threshold("threshold")),
            Activation::Gated => ("b_gate", Further::Gate("b_mag", "r_mag")),
            Activation::MatchingPursuit(_) => ("b_enc", Further::Tied),
        };
        let (w_enc, w_dec) = (Matrix::Columns("W_enc"), Matrix::Rows("W_dec"));
        Self { w_enc, b_enc, w_dec, b_dec: "b_dec", extra, w_skip: None }
    }
}
