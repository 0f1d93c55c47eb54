//! Dictionaries in the file formats of other tools.
//!
//! A folder or file is [opened](Foreign::open), which reads configs and headers and checks them against each other, and
//! then [loaded](Foreign::load), which reads the numbers.

pub(crate) mod dictionary_learning;
mod foreign;
pub(crate) mod gemma_scope;
mod input;
mod json;
mod layout;
mod npz;
mod pickle;
pub mod saelens;
mod safetensors;
pub(crate) mod sparsify;
mod stored;
pub(crate) mod tensors;
mod torch;
mod write;
mod zip;

use std::path::Path;

pub use foreign::{Foreign, Writes};
pub use input::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use stored::TensorFile;
pub use write::{Held, fold_decoder_norms, fold_refusal, refusal};

use crate::{Error, Result};

/// A file format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// SAELens 6: `cfg.json` and `sae_weights.safetensors`.
    Saelens,
    /// EleutherAI's sparsify: `cfg.json` and `sae.safetensors`.
    Sparsify,
    /// Gemma Scope: `params.npz`.
    GemmaScope,
    /// dictionary_learning: `ae.pt` and `config.json`.
    DictionaryLearning,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Saelens, Self::Sparsify, Self::GemmaScope, Self::DictionaryLearning];

    /// The name in pipelines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saelens => "saelens",
            Self::Sparsify => "sparsify",
            Self::GemmaScope => "gemma_scope",
            Self::DictionaryLearning => "dictionary_learning",
        }
    }

    /// The file that only this format has.
    fn weights(self) -> &'static str {
        match self {
            Self::Saelens => saelens::WEIGHTS,
            Self::Sparsify => sparsify::WEIGHTS,
            Self::GemmaScope => gemma_scope::WEIGHTS,
            Self::DictionaryLearning => dictionary_learning::WEIGHTS,
        }
    }

    /// The format of what lies there, by the files of a folder and by the content of a file.
    fn of(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let found: Vec<Self> =
                Self::ALL.into_iter().filter(|format| path.join(format.weights()).exists()).collect();
            let list = |formats: &[Self]| formats.iter().map(|f| f.weights()).collect::<Vec<_>>().join(", ");
            return match found[..] {
                [one] => Ok(one),
                [] => {
                    Err(Error::format(path, format!("there is none of the files {} in this folder", list(&Self::ALL))))
                }
                _ => Err(Error::format(path, format!("there are {}; `format` must say which to read", list(&found)))),
            };
        }
        let input = Input::open(path)?;
        if zip::is_zip(&input) {
            let pickled = zip::entries(&input)?.keys().any(|name| name.ends_with(".pkl"));
            return Ok(if pickled { Self::DictionaryLearning } else { Self::GemmaScope });
        }
        let weights = path.extension().is_some_and(|extension| extension == "safetensors");
        Err(input.error(if weights {
            "does not say how to compute; give the folder that `cfg.json` is in too"
        } else {
            "is of no format that is known"
        }))
    }
}

/// The files that are read of a folder, of whatever format.
pub const FILES: [&str; 6] = [
    saelens::CONFIG,
    dictionary_learning::CONFIG,
    saelens::WEIGHTS,
    sparsify::WEIGHTS,
    gemma_scope::WEIGHTS,
    dictionary_learning::WEIGHTS,
];

/// For tests: any bytes as the files of which whole formats are made.
pub mod parse {
    pub use super::npz::of as npz;
    pub use super::pickle::state_dict;
    pub use super::safetensors::of as safetensors;
    pub use super::torch::of as torch;
}
