//! Architectures: each file here describes one family as data: how its `config.json` is read and which tensors of a
//! checkpoint make up each part of the forward pass. A new one is one more file and one more line in [`Architecture::ALL`].

mod fields;
mod gemma2;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod llama;
pub(crate) mod modular_addition;
mod qwen2;
mod rope;
mod slot;

use std::borrow::Cow;
use std::fmt;

pub(crate) use fields::{Fields, shown};
pub use slot::{BlockSlot, Piece, Slot};

use crate::{Error, LmConfig, Result};

/// The description of a model family.
pub struct Architecture {
    /// `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// The field with the epsilon of the norms.
    pub(crate) norm_eps: &'static str,
    /// Reads the config. Fields it does not ask for are unknown, and refused.
    pub(crate) read: fn(&Fields<'_>, &'static Self) -> Result<LmConfig>,
    /// The checkpoint tensors that make up a parameter that the model has ([`LmConfig::has`]), side by side along its last
    /// dimension.
    pub(crate) pieces: fn(&LmConfig, Slot) -> Vec<Piece>,
    /// The name that `pieces` uses for a tensor that some checkpoints call otherwise.
    pub(crate) canonical: fn(&str) -> Cow<'_, str>,
    /// Endings of tensors that older checkpoints hold and that carry nothing (causal masks, rotary frequencies).
    pub(crate) buffers: &'static [&'static str],
}

impl Architecture {
    /// Every architecture that a `model_type` names. Models of modular addition, whose `config.json` has none, stand beside them.
    pub const ALL: [&'static Self; 6] =
        [&gpt2::GPT2, &gpt_neo::GPT_NEO, &gpt_neox::GPT_NEOX, &llama::LLAMA, &qwen2::QWEN2, &gemma2::GEMMA2];

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

impl Architecture {
    /// The `tokenizer.json` of a model that needs none to be known: its tokens are numbers.
    pub(crate) fn tokenizer_json(&self, config: &LmConfig) -> Option<Vec<u8>> {
        (*self == modular_addition::MODULAR_ADDITION).then(|| modular_addition::tokenizer_json(config))
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

/// Width of a head: `d_model` divided by the number of heads.
fn d_head(field: &str, d_model: usize, n_heads: usize) -> Result<usize> {
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(Error::config(field, format!("is {n_heads}, which does not divide the width {d_model}")));
    }
    Ok(d_model / n_heads)
}

/// Adds `start` to the names of a bare model, which has no head and no prefix; `bare` lists how its tensors begin.
fn with_prefix<'n>(name: &'n str, start: &str, bare: &[&str]) -> Cow<'n, str> {
    if bare.iter().any(|begin| name.starts_with(begin)) {
        Cow::Owned(format!("{start}{name}"))
    } else {
        Cow::Borrowed(name)
    }
}
