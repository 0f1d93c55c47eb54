//! GPT-Neo (Black et al. 2021), which the TinyStories models are: GPT-2 with windows in some layers, unscaled attention
//! scores, and no biases on queries, keys and values.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::shown;
use super::{Architecture, BlockSlot, Fields, Piece, Slot, d_head, with_prefix};
use crate::{Activation, Biases, Error, LmConfig, NormKind, Result};

pub(super) static GPT_NEO: Architecture = Architecture {
    model_type: "gpt_neo",
    norm_eps: "layer_norm_epsilon",
    read,
    pieces,
    canonical,
    buffers: &[".attention.bias", ".attention.masked_bias"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // Dropout is off at inference; the classifier and the summary head are not part of the language model.
    fields.harmless(&["attention_dropout", "embed_dropout", "resid_dropout", "classifier_dropout"]);
    fields.harmless(&[
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ]);
    fields.only("activation_function", "gelu_new")?;
    fields.only("is_encoder_decoder", false)?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_heads")?);
    let d_head = d_head("num_heads", d_model, n_heads)?;
    let n_layers = fields.layers("num_layers")?;
    Ok(LmConfig {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_mlp: fields.optional_size("intermediate_size")?.unwrap_or(d_model.saturating_mul(4)),
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("max_position_embeddings")?,
        norm: NormKind::Layer,
        norm_eps: fields.optional_positive(architecture.norm_eps)?.unwrap_or(1e-5),
        attention_scale: 1.0,
        windows: windows(fields, n_layers)?,
        activation: Activation::GeluNew,
        biases: Biases { out: true, mlp: true, ..Biases::default() },
        tied: fields.flag("tie_word_embeddings", true)?,
        ..LmConfig::plain(architecture, d_model, d_head)
    })
}

/// The window of each layer: `attention_layers`, or its short form `attention_types`, `[[["global", "local"], 12]]`.
fn windows(fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = fields.optional_size("window_size")?.unwrap_or(256);
    let listed = fields.layer_types("attention_layers", "local", "global", layers)?;
    let types = fields.value("attention_types");
    let local = match (listed, types) {
        (Some(listed), _) => listed,
        (None, Some(types)) => {
            let wrong =
                || Error::config("attention_types", format!("is {}, not a list of [kinds, times]", shown(types)));
            let mut local = Vec::new();
            for part in types.as_array().ok_or_else(wrong)? {
                let kinds = part.get(0).and_then(Value::as_array).ok_or_else(wrong)?;
                let times = part.get(1).and_then(Value::as_u64).ok_or_else(wrong)?;
                let kinds = kinds.iter().map(|kind| match kind.as_str() {
                    Some("local") => Ok(true),
                    Some("global") => Ok(false),
                    _ => Err(wrong()),
                });
                let kinds = kinds.collect::<Result<Vec<_>>>()?;
                // What is beyond the layers is an error below, without a list of any length that a file may ask for.
                let times = if kinds.is_empty() { 0 } else { times.min(layers as u64 + 1) as usize };
                local.extend(kinds.iter().cycle().take(kinds.len() * times).take(layers + 1));
                if local.len() > layers {
                    break;
                }
            }
            if local.len() != layers {
                let why = format!("does not name the kind of {layers} layers, which num_layers is");
                return Err(Error::config("attention_types", why));
            }
            local
        }
        (None, None) => return Err(Error::config("attention_types", "is missing")),
    };
    Ok(local.into_iter().map(|local| local.then_some(window)).collect())
}

/// The bare `GPTNeoModel` has no `transformer.` before its names.
fn canonical(name: &str) -> Cow<'_, str> {
    with_prefix(name, "transformer.", &["wte.", "wpe.", "h.", "ln_f."])
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let stored = |name: &str| vec![Piece::stored(format!("transformer.{name}"), slot.shape(config))];
    match slot {
        Slot::Embed => stored("wte.weight"),
        Slot::PosEmbed => stored("wpe.weight"),
        Slot::FinalNormWeight => stored("ln_f.weight"),
        Slot::FinalNormBias => stored("ln_f.bias"),
        Slot::Unembed => vec![Piece::stored("lm_head.weight".to_owned(), slot.shape(config))],
        Slot::UnembedBias => vec![],
        Slot::Block(layer, part) => {
            let (d, d_mlp) = (config.d_model, config.d_mlp);
            let named = |name: &str| stored(&format!("h.{layer}.{name}"));
            let linear = |name: &str, i, o| Piece::linear(format!("transformer.h.{layer}.{name}.weight"), i, o);
            match part {
                BlockSlot::Norm1Weight => named("ln_1.weight"),
                BlockSlot::Norm1Bias => named("ln_1.bias"),
                BlockSlot::QkvWeight => {
                    ["q_proj", "k_proj", "v_proj"].map(|name| linear(&format!("attn.attention.{name}"), d, d)).into()
                }
                BlockSlot::OutWeight => vec![linear("attn.attention.out_proj", d, d)],
                BlockSlot::OutBias => named("attn.attention.out_proj.bias"),
                BlockSlot::Norm2Weight => named("ln_2.weight"),
                BlockSlot::Norm2Bias => named("ln_2.bias"),
                BlockSlot::UpWeight => vec![linear("mlp.c_fc", d, d_mlp)],
                BlockSlot::UpBias => named("mlp.c_fc.bias"),
                BlockSlot::DownWeight => vec![linear("mlp.c_proj", d_mlp, d)],
                BlockSlot::DownBias => named("mlp.c_proj.bias"),
                _ => vec![],
            }
        }
    }
}
