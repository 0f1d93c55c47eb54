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
/// `dropout` and `init_std` are those of the training.
pub fn gpt2_config(shape: &Gpt2Shape, bos: Option<u32>, eos: Option<u32>, dropout: f64, init_std: f64) -> Value {
    json!({
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": bos,
        "embd_pdrop": dropout,
        "eos_token_id": eos,
        "initializer_range": init_std,
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

/// How initial weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// Standard deviation of initial weights; GPT-2's is 0.02.
    pub std: f64,
    /// Whether the embeddings of positions begin as sinusoids rather than at random. They are trained in either case.
    pub sinusoidal: bool,
}

/// The initial values of a parameter, from the stream `init/<slot>` of the seed (Radford et al. 2019, §2.3): weights from
/// N(0, std²), those into the residual stream smaller.
pub fn initial(config: &LmConfig, slot: Slot, start: Start, seed: u64) -> Vec<f32> {
    let std = start.std;
    let mut values = vec![0.0; slot.shape(config).iter().product()];
    let std = match slot {
        Slot::PosEmbed if start.sinusoidal => {
            sinusoids(&mut values, config.d_model, std);
            return values;
        }
        Slot::Embed | Slot::PosEmbed | Slot::Unembed => std,
        Slot::FinalNormWeight
        | Slot::Block(
            _,
            BlockSlot::Norm1Weight | BlockSlot::PostNorm1Weight | BlockSlot::Norm2Weight | BlockSlot::PostNorm2Weight,
        ) => {
            values.fill(1.0);
            return values;
        }
        // 2 · layers branches add to the residual stream: its variance stays that of one.
        Slot::Block(_, BlockSlot::OutWeight | BlockSlot::DownWeight) => std / (2.0 * config.n_layers as f64).sqrt(),
        Slot::Block(_, BlockSlot::QkvWeight | BlockSlot::GateWeight | BlockSlot::UpWeight) => std,
        Slot::FinalNormBias
        | Slot::UnembedBias
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

/// Sines and cosines of the position, in pairs, at wavelengths from 2π to 10000·2π (Vaswani et al. 2017, §3.5), with a mean
/// square of `std`². To attend a fixed distance back is then one rotation for all positions rather than something to be
/// learned for each.
fn sinusoids(values: &mut [f32], d_model: usize, std: f64) {
    for (position, row) in values.chunks_exact_mut(d_model).enumerate() {
        for (i, pair) in row.chunks_mut(2).enumerate() {
            let angle = position as f64 / 10_000f64.powf((2 * i) as f64 / d_model as f64);
            let waves = [angle.sin(), angle.cos()];
            for (value, wave) in pair.iter_mut().zip(waves) {
                *value = (wave * std * std::f64::consts::SQRT_2) as f32;
            }
        }
    }
}
