//! Gemma 2 (Gemma Team 2024, arXiv:2408.00118): norms before and after each part, soft-capped scores and logits, sliding
//! windows in every other layer, scaled embeddings, GeGLU. Gains are stored less one.

use super::llama::{canonical, named, rotary_rms_gated, shared_pieces};
use super::{Architecture, BlockSlot, Fields, Piece, Slot};
use crate::{Activation, LmConfig, Result};

pub(super) static GEMMA2: Architecture = Architecture {
    model_type: "gemma2",
    norm_eps: "rms_norm_eps",
    read,
    pieces,
    canonical,
    buffers: &[".rotary_emb.inv_freq"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    fields.only("hidden_activation", "gelu_pytorch_tanh")?;
    // The older name, which transformers overrides by the one above.
    fields.harmless(&["hidden_act", "cache_implementation"]);
    fields.only("attention_bias", false)?;
    fields.only("use_bidirectional_attention", false)?;
    let plain = rotary_rms_gated(fields, architecture)?;
    let window = fields.size("sliding_window")?;
    let slides = fields.layer_types("layer_types", "sliding_attention", "full_attention", plain.n_layers)?;
    let slides = slides.unwrap_or_else(|| (0..plain.n_layers).map(|layer| layer % 2 == 0).collect());
    Ok(LmConfig {
        post_norms: true,
        activation: Activation::GeluNew,
        attention_scale: (1.0 / fields.positive("query_pre_attn_scalar")?.sqrt()) as f32,
        attention_softcap: fields.optional_positive("attn_logit_softcapping")?,
        logit_softcap: fields.optional_positive("final_logit_softcapping")?,
        windows: slides.into_iter().map(|slides| slides.then_some(window)).collect(),
        embed_scale: Some((plain.d_model as f32).sqrt()),
        tied: fields.flag("tie_word_embeddings", true)?,
        ..plain
    })
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let mut pieces = match slot {
        Slot::Block(layer, BlockSlot::PostNorm1Weight) => named(config, slot, layer, "post_attention_layernorm.weight"),
        Slot::Block(layer, BlockSlot::Norm2Weight) => named(config, slot, layer, "pre_feedforward_layernorm.weight"),
        Slot::Block(layer, BlockSlot::PostNorm2Weight) => {
            named(config, slot, layer, "post_feedforward_layernorm.weight")
        }
        _ => shared_pieces(config, slot),
    };
    let gain = slot == Slot::FinalNormWeight
        || matches!(
            slot,
            Slot::Block(
                _,
                BlockSlot::Norm1Weight
                    | BlockSlot::PostNorm1Weight
                    | BlockSlot::Norm2Weight
                    | BlockSlot::PostNorm2Weight
            )
        );
    pieces.iter_mut().for_each(|piece| piece.less_one = gain);
    pieces
}
