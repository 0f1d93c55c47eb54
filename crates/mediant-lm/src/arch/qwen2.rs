//! Qwen2 (Yang et al. 2024, arXiv:2407.10671): Llama with biases on queries, keys and values.

use super::llama::{canonical, named, rotary_rms_gated, shared_pieces};
use super::{Architecture, BlockSlot, Fields, Piece, Slot};
use crate::{Biases, Error, LmConfig, Result};

pub(super) static QWEN2: Architecture = Architecture {
    model_type: "qwen2",
    norm_eps: "rms_norm_eps",
    read,
    pieces,
    canonical,
    buffers: &[".rotary_emb.inv_freq"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    fields.only("hidden_act", "silu")?;
    let plain = rotary_rms_gated(fields, architecture)?;
    let windows = windows(fields, plain.n_layers)?;
    Ok(LmConfig { biases: Biases { qkv: true, ..Biases::default() }, windows, ..plain })
}

/// Sliding windows: by layer in `layer_types` (transformers 5), else in the layers from `max_window_layers` on; none unless
/// `use_sliding_window` says so.
fn windows(fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>> {
    let (window, first) = (fields.optional_size("sliding_window")?, fields.optional_size("max_window_layers")?);
    let slides = fields.layer_types("layer_types", "sliding_attention", "full_attention", layers)?;
    if !fields.flag("use_sliding_window", false)? {
        return match slides.is_some_and(|slides| slides.contains(&true)) {
            true => Err(Error::config("layer_types", "has sliding layers, but use_sliding_window is not true")),
            false => Ok(vec![None; layers]),
        };
    }
    let window = window.ok_or_else(|| Error::config("sliding_window", "is missing"))?;
    let slides = slides.unwrap_or_else(|| (0..layers).map(|layer| layer >= first.unwrap_or(28)).collect());
    Ok(slides.into_iter().map(|slides| slides.then_some(window)).collect())
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    match slot {
        Slot::Block(layer, BlockSlot::Norm2Weight) => named(config, slot, layer, "post_attention_layernorm.weight"),
        _ => shared_pieces(config, slot),
    }
}
