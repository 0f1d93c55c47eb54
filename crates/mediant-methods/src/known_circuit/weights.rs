//! From a wiring to a GPT-2 without norms: its configuration, its parameters in closed form, its tokenizer.
//!
//! Every variable has directions of its own, value i is the unit vector of direction i. In a head, each variable that keys are told
//! apart by takes as many dimensions as it has values: keys hold its value there, queries the scores in nats (times √d_head, which
//! the model divides by). Values and outputs are selections of unit vectors.

use mediant_artifact::Processing;
use mediant_lm::{BlockSlot, LmConfig, NormStates, Slot};
use serde_json::{Value, json};

use super::wiring::{Head, Var, Weighted, Wiring};
use crate::Result;

/// By how many nats the right answer is ahead of every other.
pub(crate) const MARGIN: f64 = 10.0;

/// The token before every prompt, with id 0.
const BOS: &str = "<bos>";
/// What is not in the vocabulary, so that an unknown word is an error.
const UNKNOWN: &str = "<unk>";

impl Wiring {
    fn n_heads(&self) -> usize {
        self.layers.iter().map(|layer| layer.heads.len()).max().unwrap_or(1)
    }

    /// Enough for the keys and the values of every head, and for the residual stream.
    fn d_head(&self) -> usize {
        let heads = self.layers.iter().flat_map(|layer| layer.heads.iter().flatten());
        let needs = heads.map(|head| self.key_width(head).max(self.size(head.write)));
        needs.max().unwrap_or(1).max(self.width().div_ceil(self.n_heads()))
    }

    /// The `config.json`.
    pub(crate) fn config_json(&self) -> Value {
        let neurons = self.layers.iter().map(|layer| layer.neurons.len()).max().unwrap_or(0);
        json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "activation_function": "gelu_new",
            "n_layer": self.layers.len(),
            "n_head": self.n_heads(),
            "n_embd": self.n_heads() * self.d_head(),
            "n_inner": neurons.max(1),
            "n_positions": self.context,
            "vocab_size": self.words.len() + 1,
            "bos_token_id": 0,
            "eos_token_id": 0,
        })
    }

    /// What the model is made of: GPT-2 whose norms are gone.
    ///
    /// # Errors
    /// For sizes that no model has.
    pub(crate) fn config(&self) -> Result<LmConfig> {
        let processing = Processing { fold_ln: true, ..Processing::default() };
        let config = LmConfig::from_json(&self.config_json())?.processed(processing)?;
        Ok(LmConfig { norms: NormStates::Absent, ..config })
    }

    /// `tokenizer.json` and `tokenizer_config.json`: words between spaces.
    pub(crate) fn tokenizer_files(&self) -> [(&'static str, Vec<u8>); 2] {
        let words = [BOS].into_iter().chain(self.words.iter().map(String::as_str));
        let vocab: serde_json::Map<String, Value> =
            words.zip(0..).map(|(word, id)| (word.to_owned(), json!(id))).collect();
        let bos = json!({
            "id": 0, "content": BOS, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        });
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [bos],
            "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null,
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN },
        });
        let config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": BOS });
        [
            ("tokenizer.json", tokenizer.to_string().into_bytes()),
            ("tokenizer_config.json", config.to_string().into_bytes()),
        ]
    }

    /// A parameter of the model, row-major in the shape of its slot.
    pub(crate) fn parameter(&self, config: &LmConfig, slot: Slot) -> Vec<f32> {
        let mut to = Matrix::zeros(&slot.shape(config));
        match slot {
            Slot::Embed => {
                to.add(0, self.offset(self.bos), 1.0);
                (0..self.words.len()).for_each(|word| to.add(word + 1, self.offset(self.token) + word, 1.0));
            }
            Slot::PosEmbed => (0..self.context).for_each(|at| to.add(at, self.offset(self.position) + at, 1.0)),
            Slot::Unembed => {
                for (value, word) in self.answers.iter().enumerate() {
                    to.add(word + 1, self.offset(self.answer) + value, MARGIN);
                }
            }
            Slot::Block(layer, part) => self.block_parameter(config, layer, part, &mut to),
            Slot::FinalNormWeight | Slot::FinalNormBias | Slot::UnembedBias => {}
        }
        to.values
    }

    fn block_parameter(&self, config: &LmConfig, layer: usize, part: BlockSlot, to: &mut Matrix) {
        let heads = self.layers[layer].heads.iter().enumerate().filter_map(|(at, head)| Some((at, head.as_ref()?)));
        let neurons = self.layers[layer].neurons.iter().enumerate();
        let place = |(var, value, weight): Weighted| (self.offset(var) + value, weight);
        match part {
            BlockSlot::QkvWeight | BlockSlot::QkvBias => {
                heads.for_each(|(at, head)| self.queries_keys_values(config, part, at, head, to));
            }
            BlockSlot::OutWeight => {
                for (at, head) in heads {
                    let write = self.offset(head.write);
                    (0..self.size(head.write)).for_each(|i| to.add(at * config.d_head + i, write + i, 1.0));
                }
            }
            BlockSlot::UpWeight => neurons.for_each(|(at, neuron)| {
                neuron.reads.iter().map(|&read| place(read)).for_each(|(row, weight)| to.add(row, at, weight));
            }),
            BlockSlot::UpBias => neurons.for_each(|(at, neuron)| to.add(0, at, neuron.bias)),
            BlockSlot::DownWeight => neurons.for_each(|(at, neuron)| {
                neuron.writes.iter().map(|&write| place(write)).for_each(|(column, weight)| to.add(at, column, weight));
            }),
            _ => {}
        }
    }

    fn queries_keys_values(&self, config: &LmConfig, part: BlockSlot, at: usize, head: &Head, to: &mut Matrix) {
        let all = config.n_heads * config.d_head;
        let first = at * config.d_head;
        let (weights, root) = (part == BlockSlot::QkvWeight, (config.d_head as f64).sqrt());
        for score in &head.scores {
            let dims = first + self.key_place(head, score.key);
            for (query, row) in score.nats.iter().enumerate() {
                for (key, nats) in row.iter().enumerate() {
                    match score.query {
                        Some(var) if weights => to.add(self.offset(var) + query, dims + key, nats * root),
                        None if !weights => to.add(0, dims + key, nats * root),
                        _ => {}
                    }
                }
            }
        }
        if weights {
            for var in key_variables(head) {
                let dims = all + first + self.key_place(head, var);
                (0..self.size(var)).for_each(|i| to.add(self.offset(var) + i, dims + i, 1.0));
            }
            for (value, written) in head.table.iter().enumerate() {
                if let Some(written) = written {
                    to.add(self.offset(head.value) + value, 2 * all + first + written, 1.0);
                }
            }
        }
    }

    /// The first of a head's dimensions that hold a key's variable.
    fn key_place(&self, head: &Head, var: Var) -> usize {
        key_variables(head).into_iter().take_while(|other| *other != var).map(|other| self.size(other)).sum()
    }

    fn key_width(&self, head: &Head) -> usize {
        key_variables(head).into_iter().map(|var| self.size(var)).sum()
    }
}

/// The variables that a head tells keys apart by, each once.
fn key_variables(head: &Head) -> Vec<Var> {
    let mut all: Vec<Var> = head.scores.iter().map(|score| score.key).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A parameter in the making; a vector is one row.
struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn zeros(shape: &[usize]) -> Self {
        Self { columns: shape.last().copied().unwrap_or(1), values: vec![0.0; shape.iter().product()] }
    }

    fn add(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.columns + column] += value as f32;
    }
}
