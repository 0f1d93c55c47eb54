//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each part, biases everywhere, `gelu_new`.

use std::borrow::Cow;

use super::{Architecture, BlockSlot, Fields, Piece, Slot, d_head, with_prefix};
use crate::{Activation, Biases, LmConfig, NormKind, Result};

pub(super) static GPT2: Architecture = Architecture {
    model_type: "gpt2",
    norm_eps: "layer_norm_epsilon",
    read,
    pieces,
    canonical,
    buffers: &[".attn.bias", ".attn.masked_bias"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // Dropout is off at inference; the summary head is not part of the language model; n_ctx repeats n_positions.
    fields.harmless(&["attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "predict_special_tokens"]);
    fields.harmless(&[
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ]);
    // Computes the same attention in another precision.
    fields.harmless(&["reorder_and_upcast_attn"]);
    fields.only("activation_function", "gelu_new")?;
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("add_cross_attention", false)?;
    fields.only("is_encoder_decoder", false)?;
    let (d_model, n_heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    let d_head = d_head("n_head", d_model, n_heads)?;
    Ok(LmConfig {
        n_layers: fields.layers("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        d_mlp: fields.optional_size("n_inner")?.unwrap_or(d_model.saturating_mul(4)),
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("n_positions")?,
        norm: NormKind::Layer,
        norm_eps: fields.optional_positive(architecture.norm_eps)?.unwrap_or(1e-5),
        activation: Activation::GeluNew,
        biases: Biases { qkv: true, out: true, mlp: true, unembed: false },
        tied: fields.flag("tie_word_embeddings", true)?,
        ..LmConfig::plain(architecture, d_model, d_head)
    })
}

/// The bare `GPT2Model` has no `transformer.` before its names.
fn canonical(name: &str) -> Cow<'_, str> {
    with_prefix(name, "transformer.", &["wte.", "wpe.", "h.", "ln_f."])
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let name = match slot {
        Slot::Embed => "transformer.wte.weight".to_owned(),
        Slot::PosEmbed => "transformer.wpe.weight".to_owned(),
        Slot::FinalNormWeight => "transformer.ln_f.weight".to_owned(),
        Slot::FinalNormBias => "transformer.ln_f.bias".to_owned(),
        Slot::Unembed => "lm_head.weight".to_owned(),
        Slot::UnembedBias => return vec![],
        Slot::Block(layer, part) => {
            let part = match part {
                BlockSlot::Norm1Weight => "ln_1.weight",
                BlockSlot::Norm1Bias => "ln_1.bias",
                BlockSlot::QkvWeight => "attn.c_attn.weight",
                BlockSlot::QkvBias => "attn.c_attn.bias",
                BlockSlot::OutWeight => "attn.c_proj.weight",
                BlockSlot::OutBias => "attn.c_proj.bias",
                BlockSlot::Norm2Weight => "ln_2.weight",
                BlockSlot::Norm2Bias => "ln_2.bias",
                BlockSlot::UpWeight => "mlp.c_fc.weight",
                BlockSlot::UpBias => "mlp.c_fc.bias",
                BlockSlot::DownWeight => "mlp.c_proj.weight",
                BlockSlot::DownBias => "mlp.c_proj.bias",
                BlockSlot::GateWeight | BlockSlot::PostNorm1Weight | BlockSlot::PostNorm2Weight => return vec![],
            };
            format!("transformer.h.{layer}.{part}")
        }
    };
    // GPT-2's Conv1D stores its weights [in, out], as the forward pass wants them.
    vec![Piece::stored(name, slot.shape(config))]
}
