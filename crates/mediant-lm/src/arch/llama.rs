//! The Llama family (Touvron et al. 2023): rotary positions, RMSNorm, grouped queries, SwiGLU, no biases.

use std::borrow::Cow;

use super::fields::positive;
use super::{Architecture, BlockSlot, Fields, Piece, Slot};
use crate::{Error, LmConfig, MlpKind, NormKind, PositionKind, Result};

pub(super) static LLAMA: Architecture =
    Architecture { model_type: "llama", read, pieces, canonical, buffers: &[".rotary_emb.inv_freq"] };

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // Dropout is off at inference; pretraining_tp splits products without changing them.
    fields.harmless(&["attention_dropout", "pretraining_tp"]);
    fields.only("hidden_act", "silu")?;
    fields.only("attention_bias", false)?;
    fields.only("mlp_bias", false)?;
    fields.only("is_encoder_decoder", false)?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = match fields.optional_size("head_dim")? {
        Some(size) => size,
        None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            let why = format!("is {n_heads}, which does not divide hidden_size = {d_model}, and there is no head_dim");
            return Err(Error::config("num_attention_heads", why));
        }
    };
    Ok(LmConfig {
        architecture,
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        n_kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(n_heads),
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_eps: fields.positive("rms_norm_eps")?,
        positions: PositionKind::Rotary { theta: theta(fields)? },
        mlp: MlpKind::SiluGated,
        tied: fields.flag("tie_word_embeddings", false)?,
    })
}

/// The rotary base: `rope_theta` at the top (transformers 4) or in `rope_parameters` (transformers 5); 10,000 if absent.
fn theta(fields: &Fields<'_>) -> Result<f64> {
    if let Some(scaling) = fields.mapping("rope_scaling")? {
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
        if scaling.len() != 1 || kind.and_then(|kind| kind.as_str()) != Some("default") {
            let scaling = serde_json::Value::from(scaling.clone());
            return Err(Error::config(
                "rope_scaling",
                format!("is {scaling}, but scaled rotary positions are not built yet"),
            ));
        }
    }
    let outer = fields.optional_positive("rope_theta")?;
    let Some(parameters) = fields.mapping("rope_parameters")? else {
        return Ok(outer.unwrap_or(10_000.0));
    };
    let mut inner = None;
    for (name, value) in parameters {
        let field = format!("rope_parameters.{name}");
        match name.as_str() {
            "rope_theta" => inner = Some(positive(&field, value)?),
            "rope_type" if value == "default" => {}
            _ => {
                return Err(Error::config(field, format!("is {value}, but scaled rotary positions are not built yet")));
            }
        }
    }
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer != inner => {
            Err(Error::config("rope_theta", format!("is {outer}, but rope_parameters.rope_theta is {inner}")))
        }
        _ => Ok(inner.or(outer).unwrap_or(10_000.0)),
    }
}

/// The bare `LlamaModel` has no `model.` before its names.
fn canonical(name: &str) -> Cow<'_, str> {
    let bare = ["embed_tokens.", "layers.", "norm."].iter().any(|start| name.starts_with(start));
    if bare { Cow::Owned(format!("model.{name}")) } else { Cow::Borrowed(name) }
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let d = config.d_model;
    let stored = |name: String| vec![Piece::stored(name, slot.shape(config))];
    match slot {
        Slot::Embed => stored("model.embed_tokens.weight".to_owned()),
        Slot::FinalNormWeight => stored("model.norm.weight".to_owned()),
        Slot::Unembed if !config.tied => stored("lm_head.weight".to_owned()),
        Slot::PosEmbed | Slot::FinalNormBias | Slot::Unembed => vec![],
        Slot::Block(layer, part) => {
            let linear = |name: &str, inputs, outputs| {
                Piece::linear(format!("model.layers.{layer}.{name}.weight"), inputs, outputs)
            };
            let (queries, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
            match part {
                BlockSlot::Norm1Weight => stored(format!("model.layers.{layer}.input_layernorm.weight")),
                BlockSlot::Norm2Weight => stored(format!("model.layers.{layer}.post_attention_layernorm.weight")),
                BlockSlot::QkvWeight => vec![
                    linear("self_attn.q_proj", d, queries),
                    linear("self_attn.k_proj", d, keys),
                    linear("self_attn.v_proj", d, keys),
                ],
                BlockSlot::OutWeight => vec![linear("self_attn.o_proj", queries, d)],
                BlockSlot::GateWeight => vec![linear("mlp.gate_proj", d, config.d_mlp)],
                BlockSlot::UpWeight => vec![linear("mlp.up_proj", d, config.d_mlp)],
                BlockSlot::DownWeight => vec![linear("mlp.down_proj", config.d_mlp, d)],
                BlockSlot::Norm1Bias
                | BlockSlot::QkvBias
                | BlockSlot::OutBias
                | BlockSlot::Norm2Bias
                | BlockSlot::UpBias
                | BlockSlot::DownBias => vec![],
            }
        }
    }
}
