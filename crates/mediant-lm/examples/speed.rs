//! How fast a GPT-2-small-shaped model with random weights runs, 8 sequences of 128 tokens, best of `ROUNDS` (default 5):
//!
//! `RAYON_NUM_THREADS=2 cargo run --release -p mediant-lm --example speed [ROUNDS]`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use mediant_lm::{Batch, HookPoint, Hooks, LmConfig, Model, Parameter, Site};
use mediant_tensor::random::{below, fill_normal, stream};
use mediant_tensor::{Flex, Tensor};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let rounds = std::env::args().nth(1).map_or(5, |n| n.parse().unwrap());
    let config = LmConfig::from_json(&json!({
        "model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024
    }))
    .unwrap();
    let parameters = config.slots().into_iter().map(|slot| {
        let shape = slot.shape(&config);
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(&mut stream(0, &slot.to_string()), &mut values, 0.0, 0.02);
        (slot, Parameter::new(values, &shape, &Default::default()).unwrap())
    });
    let model: Model<Flex> = Model::new(config.clone(), parameters).unwrap();
    let mut draws = stream(0, "ids");
    let ids: Vec<i32> = (0..8 * 128).map(|_| below(&mut draws, 50257) as i32).collect();
    let sequences: Vec<&[i32]> = ids.chunks(128).collect();
    let batch = Batch::new(&config, &sequences, &model.device()).unwrap();

    let residual = |layers: usize| {
        let sites = [Site::ResidPre, Site::ResidMid, Site::ResidPost];
        (0..layers).flat_map(move |layer| sites.map(|site| HookPoint::Block(layer, site)))
    };
    let read = |points: Vec<HookPoint>| {
        let mut kept: Vec<Vec<f32>> = Vec::new();
        let mut take = |_, x: Tensor<Flex, 3>| {
            kept.push(x.into_data().into_vec().unwrap());
            Ok(())
        };
        model.read(&batch, Hooks::none().read(points, &mut take)).unwrap();
        black_box(kept.len());
    };
    time("forward without logits", rounds, || drop(black_box(model.hidden(&batch, Hooks::none()).unwrap())));
    time("forward with logits", rounds, || {
        black_box(model.logits(model.hidden(&batch, Hooks::none()).unwrap()));
    });
    time("losses", rounds, || drop(black_box(model.losses(&batch, Hooks::none()).unwrap())));
    time("to block 6", rounds, || read(vec![HookPoint::Block(5, Site::ResidPost)]));
    time("all residuals read", rounds, || read(residual(12).collect()));
    time("last residual read", rounds, || read(vec![HookPoint::Block(11, Site::ResidPost)]));
}

fn time(what: &str, rounds: usize, mut run: impl FnMut()) {
    run();
    let (mut times, before) = (Vec::new(), processor_seconds());
    for _ in 0..rounds {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    let processor = (processor_seconds() - before) / rounds as f64;
    times.sort_by(f64::total_cmp);
    println!("{what:24} best {:.3} s, median {:.3} s, processor time {processor:.3} s", times[0], times[rounds / 2]);
}

/// Time that all threads have computed, which other processes disturb less than the clock (Linux; in ticks of 10 ms).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
