//! A dictionary in a file format of another tool.

use std::path::Path;

use serde_json::{Map, Value};

use super::layout::Layout;
use super::stored::TensorFile;
use super::tensors::Sizes;
use super::{Format, dictionary_learning, gemma_scope, saelens, sparsify};
use crate::{Activation, InputNorm, Result, Sae};

/// A dictionary whose configs and headers were read and fit together; its numbers are still to be read.
#[derive(Debug)]
pub struct Foreign {
    /// The format of its files.
    pub format: Format,
    /// The activation rule.
    pub activation: Activation,
    /// Whether b_dec is subtracted from the input.
    pub apply_b_dec_to_input: bool,
    /// What happens to every vector before it is encoded.
    pub input_norm: InputNorm,
    /// Width of its input.
    pub d_in: usize,
    /// Width of its output.
    pub d_out: usize,
    /// Number of latents.
    pub d_sae: usize,
    /// The hook that it reads, where the files say so.
    pub hook: Option<String>,
    /// What it writes, as far as the files say.
    pub writes: Writes,
    /// What the files say besides, as they say it.
    pub said: Map<String, Value>,
    pub(super) file: TensorFile,
    pub(super) layout: Layout,
}

/// What a dictionary writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// What it reads: an autoencoder.
    WhatItReads,
    /// Another hook, which the files may name: a transcoder.
    Another(Option<String>),
    /// One or the other: autoencoders and transcoders look alike.
    NotSaid,
}

impl Foreign {
    /// Opens a folder or a file, of the format given or of the one that its content has.
    ///
    /// # Errors
    /// When a file is missing or damaged, parts do not fit together, or something in them cannot be honoured.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self> {
        let format = match format {
            Some(format) => format,
            None => Format::of(path)?,
        };
        let opened = match format {
            Format::Saelens => saelens::open(path),
            Format::Sparsify => sparsify::open(path),
            Format::GemmaScope => gemma_scope::open(path),
            Format::DictionaryLearning => dictionary_learning::open(path),
        };
        opened?.checked()
    }

    /// Checks sizes and shapes.
    pub(super) fn checked(self) -> Result<Self> {
        let Self { d_in, d_out, d_sae, .. } = self;
        if d_in.min(d_out) < 2 || d_sae < 2 {
            return Err(self.file.error(format!("a dictionary of {} dimensions and {d_sae} latents", d_in.min(d_out))));
        }
        if let Activation::TopK { k, .. } = self.activation
            && (k == 0 || k > d_sae)
        {
            return Err(self.file.error(format!("{k} active latents of {d_sae}")));
        }
        self.layout.check(&self.file, self.sizes())?;
        Ok(self)
    }

    /// Reads the numbers.
    ///
    /// # Errors
    /// When they cannot be read or one is not finite.
    pub fn load(&self) -> Result<Sae> {
        let weights = self.layout.read(&self.file, self.sizes())?;
        Sae::new(weights, self.activation, self.apply_b_dec_to_input)?.with_input_norm(self.input_norm)
    }

    /// Whether something skips the latents.
    pub fn skips(&self) -> bool {
        self.layout.w_skip.is_some()
    }

    fn sizes(&self) -> Sizes {
        Sizes { d_in: self.d_in, d_out: self.d_out, d_sae: self.d_sae, skip: self.skips() }
    }
}
