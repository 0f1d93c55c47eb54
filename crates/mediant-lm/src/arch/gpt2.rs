//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each part, biases everywhere, `gelu_new`.

use std::borrow::Cow;

use super::{Architecture, BlockSlot, Fields, Piece, Slot};
use crate::{Error, LmConfig, MlpKind, NormKind, PositionKind, Result};

pub(super) static GPT2: Architecture =
    Architecture { model_type: "gpt2", read, pieces, canonical, buffers: &[".attn.bias", ".attn.masked_bias"] };

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
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return Err(Error::config("n_head", format!("is {n_heads}, which does not divide n_embd = {d_model}")));
    }
    Ok(LmConfig {
        architecture,
        n_layers: fields.size("n_layer")?,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head: d_model / n_heads,
        d_mlp: fields.optional_size("n_inner")?.unwrap_or(d_model.saturating_mul(4)),
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("n_positions")?,
        norm: NormKind::Layer,
        norm_eps: fields.optional_positive("layer_norm_epsilon")?.unwrap_or(1e-5),
        positions: PositionKind::Learned,
        mlp: MlpKind::GeluNew,
        tied: fields.flag("tie_word_embeddings", true)?,
    })
}

/// The bare `GPT2Model` has no `transformer.` before its names.
fn canonical(name: &str) -> Cow<'_, str> {
    let bare = ["wte.", "wpe.", "h.", "ln_f."].iter().any(|start| name.starts_with(start));
    if bare { Cow::Owned(format!("transformer.{name}")) } else { Cow::Borrowed(name) }
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let name = match slot {
        Slot::Embed => "transformer.wte.weight".to_owned(),
        Slot::PosEmbed => "transformer.wpe.weight".to_owned(),
        Slot::FinalNormWeight => "transformer.ln_f.weight".to_owned(),
        Slot::FinalNormBias => "transformer.ln_f.bias".to_owned(),
        Slot::Unembed if config.tied => return vec![],
        Slot::Unembed => "lm_head.weight".to_owned(),
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
                BlockSlot::GateWeight => return vec![],
                BlockSlot::UpWeight => "mlp.c_fc.weight",
                BlockSlot::UpBias => "mlp.c_fc.bias",
                BlockSlot::DownWeight => "mlp.c_proj.weight",
                BlockSlot::DownBias => "mlp.c_proj.bias",
            };
            format!("transformer.h.{layer}.{part}")
        }
    };
    // GPT-2's Conv1D stores its weights [in, out], as the forward pass wants them.
    vec![Piece::stored(name, slot.shape(config))]
}
