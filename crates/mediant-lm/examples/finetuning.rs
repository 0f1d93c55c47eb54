//! Times of the step of `finetune` and `remove_layernorm` on random weights and tokens, one measure a run, as one JSON line:
//!
//! `cargo run --release -p mediant-lm --example finetuning -- MEASURE LAYERS D_MODEL HEADS VOCABULARY CONTEXT BATCH STEPS`
//!
//! MEASURE: `live` (norms stay), `dropout` (the same with dropout of 0.1), `removing` (norms live, their scales and the auxiliary loss computed), `frozen`
//! (no norm is live, values read theirs at a scale of their own). `products`: the dense products of a step, forward and backward, and
//! nothing else. `benches/finetune.py` runs them beside PyTorch.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use mediant_artifact::{Tokens, TokensMeta};
use mediant_lm::train::{AuxiliaryWeight, Removal, Start, Trainer, Training, initial};
use mediant_lm::{LmConfig, Model, NormStates, Parameter};
use mediant_tensor::optim::Adam;
use mediant_tensor::random::{below, fill_normal, stream};
use mediant_tensor::schedule::Schedule;
use mediant_tensor::{Flex, Tensor, TensorData};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments[1..].iter().map(|text| text.parse().unwrap()).collect();
    let [layers, width, heads, vocabulary, context, batch, steps] = numbers[..].try_into().unwrap();
    let measure = arguments[0].as_str();
    let rows = batch * context;
    let tokens = tokens(8 * batch, context, vocabulary);
    let mut times = Vec::new();
    if measure == "products" {
        let mut shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)].repeat(layers);
        shapes.push((width, vocabulary));
        let filled: Vec<_> =
            shapes.iter().map(|&(from, to)| [filled(rows, from), filled(from, to), filled(rows, to)]).collect();
        for _ in 0..=steps {
            let start = Instant::now();
            for [x, weight, y] in &filled {
                drop(black_box(x.clone().matmul(weight.clone())));
                drop(black_box(y.clone().matmul(weight.clone().transpose())));
                drop(black_box(x.clone().transpose().matmul(y.clone())));
            }
            times.push(start.elapsed().as_secs_f64());
        }
    } else {
        let model = model(layers, width, heads, vocabulary, context, measure == "frozen");
        let training = Training {
            seed: 0,
            batch,
            accumulate: 1,
            schedule: Schedule::Constant { lr: 1e-5 },
            adam: Adam { weight_decay: 0.01, decoupled: true, ..Adam::default() },
            clip: Some(1.0),
            dropout: if measure == "dropout" { 0.1 } else { 0.0 },
        };
        let mut trainer = Trainer::from_model(&model, training, &tokens).unwrap();
        if measure == "removing" {
            let sites = model.config().norm_sites().into_iter().map(|site| (site, u64::MAX)).collect();
            let removal =
                Removal { sites, momentum: 0.9, first_position: true, auxiliary: AuxiliaryWeight::Scaled(0.1) };
            trainer = trainer.removing(removal).unwrap();
        }
        for _ in 0..=steps {
            let start = Instant::now();
            trainer.step().unwrap();
            times.push(start.elapsed().as_secs_f64());
        }
    }
    // The first is to get warm.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    println!("{}", json!({ "measure": measure, "seconds": seconds, "tokens_per_second": rows as f64 / seconds }));
}

fn model(layers: usize, width: usize, heads: usize, vocabulary: usize, context: usize, frozen: bool) -> Model<Flex> {
    let mut config = LmConfig::from_json(&json!({
        "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary, "n_positions": context
    }))
    .unwrap();
    if frozen {
        let scales: BTreeMap<_, _> =
            config.norm_sites().into_iter().enumerate().map(|(i, site)| (site, 0.5 + 0.01 * i as f32)).collect();
        config.norms = NormStates::Present(scales);
    }
    let start = Start { std: 0.02, sinusoidal: false };
    let parameters = config.slots().into_iter().map(|slot| {
        let values = initial(&config, slot, start, 0);
        (slot, Parameter::new(values, &slot.shape(&config), &Default::default()).unwrap())
    });
    Model::new(config.clone(), parameters).unwrap()
}

fn filled(rows: usize, columns: usize) -> Tensor<Flex, 2> {
    let mut values = vec![0.0; rows * columns];
    fill_normal(&mut stream(0, &format!("{rows} {columns}")), &mut values, 0.0, 1.0);
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Default::default())
}

fn tokens(rows: usize, context: usize, vocabulary: usize) -> Tokens {
    let mut draws = stream(0, "tokens");
    let ids: Vec<i32> = (0..rows * context).map(|_| below(&mut draws, vocabulary as u64) as i32).collect();
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size: vocabulary,
        context,
        packed: true,
        prepend_bos: false,
        bos: None,
        separator: None,
        split: "train".to_owned(),
        documents: 1,
        tokens: ids.len() as u64,
        sequences: rows as u64,
    };
    Tokens { meta, offsets: (0..=rows).map(|row| row * context).collect(), mask: vec![true; ids.len()], ids }
}
