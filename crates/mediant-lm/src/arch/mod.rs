//! Architectures: each file here describes one family as data: how its `config.json` is read and which tensors of a
//! checkpoint make up each part of the forward pass. A new one is one more file and one more line in [`Architecture::ALL`].

mod fields;
mod gpt2;
mod llama;
mod slot;

use std::borrow::Cow;
use std::fmt;

pub(crate) use fields::Fields;
pub use slot::{BlockSlot, Piece, Slot};

use crate::{Error, LmConfig, Result};

/// The description of a model family.
pub struct Architecture {
    /// `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// Reads the config. Fields it does not ask for are unknown, and refused.
    pub(crate) read: fn(&Fields<'_>, &'static Self) -> Result<LmConfig>,
    /// The checkpoint tensors that make up a parameter, side by side along its last dimension; none if this model does
    /// not have it.
    pub(crate) pieces: fn(&LmConfig, Slot) -> Vec<Piece>,
    /// The name that `pieces` uses for a tensor that some checkpoints call otherwise.
    pub(crate) canonical: fn(&str) -> Cow<'_, str>,
    /// Endings of tensors that older checkpoints hold and that carry nothing (causal masks, rotary frequencies).
    pub(crate) buffers: &'static [&'static str],
}

impl Architecture {
    /// Every architecture that is built.
    pub const ALL: [&'static Self; 2] = [&gpt2::GPT2, &llama::LLAMA];

    /// The architecture of this `model_type`.
    ///
    /// # Errors
    /// [`Error::Config`] names those that are built.
    pub fn of(model_type: &str) -> Result<&'static Self> {
        Self::ALL.into_iter().find(|a| a.model_type == model_type).ok_or_else(|| {
            let built: Vec<_> = Self::ALL.iter().map(|a| a.model_type).collect();
            Error::config(
                "model_type",
                format!("is `{model_type}`, which is not built; built are {}", built.join(", ")),
            )
        })
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}
