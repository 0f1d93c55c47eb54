//! The modular-addition transformers of Zhong et al. 2023 ("The Clock and the Pizza", arXiv:2306.17844), in the files that their code
//! saves: two numbers go in, no position is hidden from another, and attention is a share of softmax and a share of all positions
//! alike. No norms, ReLU, biases in the MLP alone.
//!
//! Their `config.json` has no `model_type`; it is known by its `attn_coeff`.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{Architecture, BlockSlot, Fields, Piece, Slot, d_head, shown};
use crate::{Activation, Biases, Error, LmConfig, NormStates, Result};

pub(crate) static MODULAR_ADDITION: Architecture = Architecture {
    model_type: "modular_addition",
    norm_eps: "",
    read,
    pieces,
    canonical: |name| Cow::Borrowed(name),
    buffers: &[".attn.mask"],
};

/// Numbers that go in, and where the sum is read: after the last.
const CONTEXT: usize = 2;

/// Whether a `config.json` is of such a model.
pub(crate) fn recognises(config: &Map<String, Value>) -> bool {
    !config.contains_key("model_type") && config.contains_key("attn_coeff")
}

fn read(fields: &Fields<'_>, architecture: &'static Architecture) -> Result<LmConfig> {
    // How it was trained, and on what.
    fields.harmless(&["name", "funcs", "func", "epoch", "batch_size", "lr", "weight_decay", "frac", "runid"]);
    fields.only("act_fn", "ReLU")?;
    // "casual" is the one value of their models; there is no mask for all that.
    fields.only("attention_dir", "casual")?;
    for name in ["diff_vocab", "eqn_sign"] {
        off(fields, name)?;
    }
    let (d_model, n_heads) = (fields.size("d_model")?, fields.size("n_heads")?);
    let d_head = d_head("n_heads", d_model, n_heads)?;
    Ok(LmConfig {
        n_layers: fields.layers("n_layers")?,
        n_heads,
        n_kv_heads: n_heads,
        d_mlp: d_model.saturating_mul(4),
        vocab_size: fields.size("C")?,
        context: CONTEXT,
        // No norm takes it.
        norm_eps: 1e-5,
        norms: NormStates::Absent,
        causal: false,
        softmax_share: Some(share(fields)?),
        activation: Activation::Relu,
        biases: Biases { qkv: false, out: false, mlp: true, unembed: false },
        tied: false,
        ..LmConfig::plain(architecture, d_model, d_head)
    })
}

/// A switch that is false, or 0, or absent.
fn off(fields: &Fields<'_>, name: &str) -> Result<()> {
    match fields.value(name) {
        Some(value) if value != &json!(false) && value.as_f64() != Some(0.0) => {
            Err(Error::config(name, format!("is {}, but only false is built", shown(value))))
        }
        _ => Ok(()),
    }
}

fn share(fields: &Fields<'_>) -> Result<f32> {
    let Some(value) = fields.value("attn_coeff") else { return Err(Error::config("attn_coeff", "is missing")) };
    match value.as_f64().filter(|share| (0.0..=1.0).contains(share)) {
        Some(share) => Ok(share as f32),
        None => Err(Error::config("attn_coeff", format!("is {}, not a number from 0 to 1", shown(value)))),
    }
}

/// A tokenizer whose tokens are the numbers: "3 5" is 3 and 5.
pub(crate) fn tokenizer_json(config: &LmConfig) -> Vec<u8> {
    let vocab: Map<String, Value> = (0..config.vocab_size).map(|number| (number.to_string(), json!(number))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    tokenizer.to_string().into_bytes()
}

fn pieces(config: &LmConfig, slot: Slot) -> Vec<Piece> {
    let (d, heads, d_head) = (config.d_model, config.n_heads, config.d_head);
    match slot {
        Slot::Embed => vec![Piece::linear("embed.W_E".to_owned(), config.vocab_size, d)],
        Slot::PosEmbed => vec![Piece::stored("pos_embed.W_pos".to_owned(), slot.shape(config))],
        Slot::Unembed => vec![Piece::linear("unembed.W_U".to_owned(), config.vocab_size, d)],
        Slot::FinalNormWeight | Slot::FinalNormBias | Slot::UnembedBias => vec![],
        Slot::Block(layer, part) => {
            let named = |name: &str| format!("blocks.{layer}.{name}");
            let by_head =
                |name: &str| Piece { shape: vec![heads, d_head, d], ..Piece::linear(named(name), d, heads * d_head) };
            match part {
                BlockSlot::QkvWeight => ["attn.W_Q", "attn.W_K", "attn.W_V"].map(by_head).into(),
                BlockSlot::OutWeight => vec![Piece::linear(named("attn.W_O"), heads * d_head, d)],
                BlockSlot::UpWeight => vec![Piece::linear(named("mlp.W_in"), d, config.d_mlp)],
                BlockSlot::UpBias => vec![Piece::stored(named("mlp.b_in"), slot.shape(config))],
                BlockSlot::DownWeight => vec![Piece::linear(named("mlp.W_out"), config.d_mlp, d)],
                BlockSlot::DownBias => vec![Piece::stored(named("mlp.b_out"), slot.shape(config))],
                _ => vec![],
            }
        }
    }
}
