//! GPT-NeoX (Black et al. 2022, arXiv:2204.06745), which Pythia is: attention and MLP side by side, rotary positions on a
//! part of each head, queries, keys and values of one head next to each other.

use std::borrow::Cow;

use super::rope::rotary;
use super::{Architecture, BlockSlot, Fields, Piece, Slot, d_head, with_prefix};
use crate::{Activation, Biases, Error, LmConfig, NormKind, Result};

pub(super) static GPT_NEOX: Architecture = Architecture {
    model_type: "gpt_neox",
    norm_eps: "layer_norm_eps",
    read,
    pieces,
    canonical,
    buffers: &[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"],
};

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // Dropout is off at inference; the classifier is not part of the language model.
    fields.harmless(&["attention_dropout", "hidden_dropout", "classifier_dropout"]);
    fields.only("is_encoder_decoder", false)?;
    fields.only("attention_bias", true)?;
    let activation = match fields.text("hidden_act")? {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluNew,
        other => return Err(Error::config("hidden_act", format!("is `{other}`; gelu and gelu_new are built"))),
    };
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = d_head("num_attention_heads", d_model, n_heads)?;
    Ok(LmConfig {
        n_layers: fields.layers("num_hidden_layers")?,
        n_heads,
        n_kv_heads: n_heads,
        d_mlp: fields.size("intermediate_size")?,
        vocab_size: fields.size("vocab_size")?,
        context: fields.size("max_position_embeddings")?,
        norm: NormKind::Layer,
        norm_eps: fields.optional_positive(architecture.norm_eps)?.unwrap_or(1e-5),
        positions: rotary(fields, d_head, "rotary_emb_base", Some(("rotary_pct", 0.25)))?,
        parallel: fields.flag("use_parallel_residual", true)?,
        activation,
        biases: Biases { qkv: true, out: true, mlp: true, unembed: false },
        tied: fields.flag("tie_word_embeddings", false)?,
        ..LmConfig::plain(architecture, d_model, d_head)
    })
}

/// The bare `GPTNeoXModel` has no `gpt_neox.` before its names.
fn canonical(name: &str) -> Cow<'_, str> {
    with_prefix(name, "gpt_neox.", &["embed_in.", "layers.", "final_layer_norm."])
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let stored = |name: &str| vec![Piece::stored(name.to_owned(), slot.shape(config))];
    match slot {
        Slot::Embed => stored("gpt_neox.embed_in.weight"),
        Slot::FinalNormWeight => stored("gpt_neox.final_layer_norm.weight"),
        Slot::FinalNormBias => stored("gpt_neox.final_layer_norm.bias"),
        Slot::Unembed => stored("embed_out.weight"),
        Slot::PosEmbed | Slot::UnembedBias => vec![],
        Slot::Block(layer, part) => {
            let (d, d_mlp) = (config.d_model, config.d_mlp);
            let named = |name: &str| stored(&format!("gpt_neox.layers.{layer}.{name}"));
            let linear = |name: &str, i, o| Piece::linear(format!("gpt_neox.layers.{layer}.{name}.weight"), i, o);
            match part {
                BlockSlot::Norm1Weight => named("input_layernorm.weight"),
                BlockSlot::Norm1Bias => named("input_layernorm.bias"),
                BlockSlot::QkvWeight => {
                    vec![linear("attention.query_key_value", d, 3 * d).by_head(config.n_heads)]
                }
                BlockSlot::QkvBias => {
                    named("attention.query_key_value.bias").into_iter().map(|p| p.by_head(config.n_heads)).collect()
                }
                BlockSlot::OutWeight => vec![linear("attention.dense", d, d)],
                BlockSlot::OutBias => named("attention.dense.bias"),
                BlockSlot::Norm2Weight => named("post_attention_layernorm.weight"),
                BlockSlot::Norm2Bias => named("post_attention_layernorm.bias"),
                BlockSlot::UpWeight => vec![linear("mlp.dense_h_to_4h", d, d_mlp)],
                BlockSlot::UpBias => named("mlp.dense_h_to_4h.bias"),
                BlockSlot::DownWeight => vec![linear("mlp.dense_4h_to_h", d_mlp, d)],
                BlockSlot::DownBias => named("mlp.dense_4h_to_h.bias"),
                _ => vec![],
            }
        }
    }
}
