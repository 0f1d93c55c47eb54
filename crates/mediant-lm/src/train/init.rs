//! What a training starts from.

use mediant_tensor::random::{fill_normal, stream};
use serde_json::{Value, json};

use crate::{BlockSlot, LmConfig, Slot};

/// Sizes of a GPT-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpt2Shape {
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Heads; divides `d_model`.
    pub n_heads: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
}

/// The `config.json` of a GPT-2 as transformers writes it. `bos` and `eos` are ids of special tokens, if there are any;
/// `dropout` is that of the training.
pub fn gpt2_config(shape: &Gpt2Shape, bos: Option<u32>, eos: Option<u32>, dropout: f64) -> Value {
    json!({
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": bos,
        "embd_pdrop": dropout,
        "eos_token_id": eos,
        "initializer_range": STD,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": shape.d_model,
        "n_head": shape.n_heads,
        "n_inner": shape.d_mlp,
        "n_layer": shape.n_layers,
        "n_positions": shape.context,
        "resid_pdrop": dropout,
        "scale_attn_weights": true,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": shape.vocab_size,
    })
}

/// Standard deviation of initial weights.
const STD: f64 = 0.02;

/// The initial values of a parameter, from the stream `init/<slot>` of the seed (Radford et al. 2019, §2.3).
pub fn initial(config: &LmConfig, slot: Slot, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; slot.shape(config).iter().product()];
    let std = match slot {
        Slot::Embed | Slot::PosEmbed | Slot::Unembed => STD,
        Slot::FinalNormWeight | Slot::Block(_, BlockSlot::Norm1Weight | BlockSlot::Norm2Weight) => {
            values.fill(1.0);
            return values;
        }
        // 2 · layers branches add to the residual stream: its variance stays that of one.
        Slot::Block(_, BlockSlot::OutWeight | BlockSlot::DownWeight) => STD / (2.0 * config.n_layers as f64).sqrt(),
        Slot::Block(_, BlockSlot::QkvWeight | BlockSlot::GateWeight | BlockSlot::UpWeight) => STD,
        Slot::FinalNormBias
        | Slot::Block(
            _,
            BlockSlot::Norm1Bias
            | BlockSlot::Norm2Bias
            | BlockSlot::QkvBias
            | BlockSlot::OutBias
            | BlockSlot::UpBias
            | BlockSlot::DownBias,
        ) => return values,
    };
    fill_normal(&mut stream(seed, &format!("init/{slot}")), &mut values, 0.0, std as f32);
    values
}
