//! The Llama family (Touvron et al. 2023): rotary positions, RMSNorm, grouped queries, SwiGLU, no biases.

use std::borrow::Cow;

use super::rope::rotary;
use super::{Architecture, BlockSlot, Fields, Piece, Slot, d_head, with_prefix};
use crate::{Activation, LmConfig, NormKind, Result};

pub(super) static LLAMA: Architecture = Architecture {
    model_type: "llama",
    norm_eps: "rms_norm_eps",
    read,
    pieces,
    canonical,
    buffers: &[".rotary_emb.inv_freq"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // pretraining_tp splits products without changing them.
    fields.harmless(&["pretraining_tp"]);
    fields.only("hidden_act", "silu")?;
    fields.only("attention_bias", false)?;
    fields.only("mlp_bias", false)?;
    rotary_rms_gated(fields, architecture)
}

/// What Llama and its descendants share: the sizes, rotary positions, RMSNorm, and a gated MLP with `silu`.
pub(super) fn rotary_rms_gated(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // Dropout is off at inference.
    fields.harmless(&["attention_dropout"]);
    fields.only("is_encoder_decoder", false)?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = match fields.optional_size("head_dim")? {
        Some(size) => size,
        None => d_head("num_attention_heads", d_model, n_heads)?,
    };
    Ok(LmConfig {
        n_layers: fields.layers("num_hidden_layers")?,
        n_heads,
        n_kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(n_heads),
        d_mlp: fields.size("intermediate_size")?,
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_eps: fields.positive(architecture.norm_eps)?,
        positions: rotary(fields, d_head, "rope_theta", None)?,
        activation: Activation::Silu,
        gated: true,
        tied: fields.flag("tie_word_embeddings", false)?,
        ..LmConfig::plain(architecture, d_model, d_head)
    })
}

/// The bare `LlamaModel` has no `model.` before its names.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    with_prefix(name, "model.", &["embed_tokens.", "layers.", "norm."])
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    match slot {
        Slot::Block(layer, BlockSlot::Norm2Weight) => named(config, slot, layer, "post_attention_layernorm.weight"),
        _ => shared_pieces(config, slot),
    }
}

/// A parameter of a block that is stored as it is.
pub(super) fn named(config: &LmConfig, slot: Slot, layer: usize, name: &str) -> Vec<Piece> {
    vec![Piece::stored(format!("model.layers.{layer}.{name}"), slot.shape(config))]
}

/// The tensors that Llama and its descendants name alike: all but the norm before the MLP.
pub(super) fn shared_pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let d = config.d_model;
    let stored = |name: &str| vec![Piece::stored(name.to_owned(), slot.shape(config))];
    match slot {
        Slot::Embed => stored("model.embed_tokens.weight"),
        Slot::FinalNormWeight => stored("model.norm.weight"),
        Slot::Unembed => stored("lm_head.weight"),
        Slot::PosEmbed | Slot::FinalNormBias | Slot::UnembedBias => vec![],
        Slot::Block(layer, part) => {
            let linear = |name: &str, inputs, outputs| {
                Piece::linear(format!("model.layers.{layer}.{name}.weight"), inputs, outputs)
            };
            let bias = |name: &str, size| Piece::stored(format!("model.layers.{layer}.{name}.bias"), vec![size]);
            let (queries, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
            match part {
                BlockSlot::Norm1Weight => named(config, slot, layer, "input_layernorm.weight"),
                BlockSlot::QkvWeight => vec![
                    linear("self_attn.q_proj", d, queries),
                    linear("self_attn.k_proj", d, keys),
                    linear("self_attn.v_proj", d, keys),
                ],
                BlockSlot::QkvBias => vec![
                    bias("self_attn.q_proj", queries),
                    bias("self_attn.k_proj", keys),
                    bias("self_attn.v_proj", keys),
                ],
                BlockSlot::OutWeight => vec![linear("self_attn.o_proj", queries, d)],
                BlockSlot::GateWeight => vec![linear("mlp.gate_proj", d, config.d_mlp)],
                BlockSlot::UpWeight => vec![linear("mlp.up_proj", d, config.d_mlp)],
                BlockSlot::DownWeight => vec![linear("mlp.down_proj", config.d_mlp, d)],
                _ => vec![],
            }
        }
    }
}
