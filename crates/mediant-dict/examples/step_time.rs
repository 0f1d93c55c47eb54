//! Seconds of a training step on random activations, with the dense product beside it.
//!
//! `cargo run --release --workspace --example step_time -- [--arch topk|relu|gated|batchtopk|matryoshka|jumprelu|
//! matching_pursuit|top_afa]
//! [--d-in 768] [--d-sae 12288] [--k 32] [--batch 4096] [--steps 7] [--dead 0.25]`
//!
//! A step is all of it: forward, losses, backward, clipping, Adam. `--dead` is the part of the latents that counts as dead,
//! so that AuxK works; `--json` prints numbers for `benches/sae.py`. `--bias` is added to b_enc, to set how many latents are active.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mediant_dict::train::{CpuLearner, Learner, Now};
use mediant_dict::{TrainConfig, Weights};
use mediant_tensor::kernels::{Matrix, MatrixMut, matmul_into};
use mediant_tensor::random::{fill_normal, stream};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn option(name: &str, default: &str) -> String {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).unwrap_or_else(|| default.to_owned())
}

fn number<T: std::str::FromStr>(name: &str, default: &str) -> T {
    let text = option(name, default);
    text.parse().unwrap_or_else(|_| panic!("{name} {text} is not a number"))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let (d_in, d_sae, batch): (usize, usize, usize) =
        (number("--d-in", "768"), number("--d-sae", "12288"), number("--batch", "4096"));
    let (steps, dead): (usize, f64) = (number("--steps", "7"), number("--dead", "0"));
    let arch = option("--arch", "topk");
    let sae = match arch.as_str() {
        "topk" | "batchtopk" => json!({ "architecture": arch, "k": number::<f64>("--k", "32") }),
        "matryoshka" => {
            let widths = [d_sae / 8, d_sae / 4, d_sae / 2];
            json!({ "architecture": arch, "k": number::<f64>("--k", "32"), "matryoshka_widths": widths })
        }
        "matching_pursuit" => {
            json!({ "architecture": arch, "residual_threshold": 0, "max_iterations": number::<u32>("--k", "32") })
        }
        _ => json!({ "architecture": arch }),
    };
    let config = json!({ "sae": sae, "d_sae": d_sae, "batch": batch, "steps": 1000 });
    let config: TrainConfig = serde_json::from_value(config).expect("a config");
    let training = config.resolve().expect("right options");
    let mut weights = Weights::init(d_in, d_sae, Some(0.1), 0);
    training.objective.extend(&mut weights);
    weights.b_enc.fill(number("--bias", "0"));
    let mut learner = CpuLearner::new(&training, weights);
    let dead: Vec<bool> = (0..d_sae).map(|i| ((i % 100) as f64) < 100.0 * dead).collect();
    let mut x = vec![0.0; batch * d_in];
    fill_normal(&mut stream(0, "step time"), &mut x, 0.0, 1.0);

    let weight = vec![0.01; d_sae * d_in];
    let mut out = vec![0.0; batch * d_sae];
    let mut product = || {
        let start = Instant::now();
        let (a, b) = (Matrix::new(&x, batch, d_in, d_in), Matrix::new(&weight, d_sae, d_in, d_in).t());
        matmul_into(&mut MatrixMut::new(&mut out, batch, d_sae, d_sae), 1.0, a, b, true);
        start.elapsed().as_secs_f64()
    };
    let mut last = None;
    let mut times = (Vec::new(), Vec::new());
    for step in 0..=steps {
        times.1.push(product());
        let start = Instant::now();
        last = Some(learner.step(x[..].into(), &Now { lr: 3e-4, coefficient: 1.0, dead: &dead }));
        // The first step touches fresh memory.
        if step > 0 {
            times.0.push(start.elapsed().as_secs_f64());
        }
    }
    let (step, product) = (median(times.0), median(times.1));
    let l0 = last.map_or(0.0, |outcome| outcome.l0);
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", json!({ "step": step, "product": product, "l0": l0 }));
        return;
    }
    println!(
        "{arch} d_in={d_in} d_sae={d_sae} batch={batch} l0={l0:.1}: {step:.3} s a step, {:.0} tokens/s; dense product {product:.3} s; {:.2} products",
        batch as f64 / step,
        step / product
    );
}
