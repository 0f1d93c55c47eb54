//! How fast a tiny GPT-2 trains (4 layers, d_model 128, 4 heads, random tokens):
//!
//! `RAYON_NUM_THREADS=2 cargo run --release -p mediant-lm --example training [CONTEXT] [BATCH] [STEPS] [VOCABULARY]`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use mediant_artifact::{Tokens, TokensMeta};
use mediant_lm::LmConfig;
use mediant_lm::train::{Gpt2Shape, Start, Trainer, Training, gpt2_config};
use mediant_tensor::Flex;
use mediant_tensor::optim::Adam;
use mediant_tensor::random::{below, stream};
use mediant_tensor::schedule::Schedule;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let number = |at: usize, default: usize| std::env::args().nth(at).map_or(default, |text| text.parse().unwrap());
    let [context, batch, steps, vocab_size] = [number(1, 64), number(2, 32), number(3, 40), number(4, 2000)];
    let shape = Gpt2Shape { n_layers: 4, d_model: 128, n_heads: 4, d_mlp: 512, vocab_size, context, tied: true };
    let config = LmConfig::from_json(&gpt2_config(&shape, None, None, 0.0, 0.02)).unwrap();
    let tokens = random_tokens(2000, context, vocab_size);
    let adam = Adam { betas: (0.9, 0.95), weight_decay: 0.1, decoupled: true, ..Adam::default() };
    let schedule = Schedule::Constant { lr: 1e-3 };
    let training = Training { seed: 0, batch, accumulate: 1, schedule, adam, clip: Some(1.0), dropout: 0.0 };
    let start = Start { std: 0.02, sinusoidal: false };
    let mut trainer = Trainer::<Flex>::from_scratch(config, start, training, &tokens, Default::default()).unwrap();
    let mut seconds: Vec<f64> = (0..steps)
        .map(|_| {
            let start = Instant::now();
            trainer.step().unwrap();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rate = |seconds: f64| (batch * context) as f64 / seconds;
    println!("best {:.0} tokens/s, median {:.0}", rate(seconds[0]), rate(seconds[steps / 2]));
}

fn random_tokens(rows: usize, context: usize, vocab_size: usize) -> Tokens {
    let mut draws = stream(0, "tokens");
    let ids: Vec<i32> = (0..rows * context).map(|_| below(&mut draws, vocab_size as u64) as i32).collect();
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size,
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
