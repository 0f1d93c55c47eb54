//! How fast vectors of SynthSAEBench-16k are drawn, and how long it takes to pair 4,096 latents with its features.
//!
//! `cargo run --release -p mediant-dict --example synth_time`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mediant_dict::Error;
use mediant_dict::synth::{Matching, Set, SynthConfig, Synthetic};
use mediant_tensor::random;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config: SynthConfig = serde_json::from_value(serde_json::json!({ "rows": 1 }))?;
    let begun = Instant::now();
    let generator = Synthetic::draw(config, |_, _| Ok::<_, Error>(()))?;
    println!("features pushed apart: {:.1} s", begun.elapsed().as_secs_f64());

    let rows: Vec<u64> = (0..100_000).collect();
    let begun = Instant::now();
    let firing = generator.firing().sample(Set::Training, &rows);
    let drawn = begun.elapsed().as_secs_f64();
    let vectors = generator.vectors(&firing);
    let all = begun.elapsed().as_secs_f64();
    let l0 = firing.entries() as f64 / rows.len() as f64;
    println!("{:.0} vectors a second, {:.0} % of the time for what fires; L0 {l0:.2}", 1e5 / all, 100.0 * drawn / all);
    let mean = |i: usize| vectors.iter().skip(i).step_by(768).map(|x| f64::from(*x)).sum::<f64>() / 1e5;
    let of_mean: f64 = (0..768).map(|i| mean(i).powi(2)).sum();
    let square = vectors.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 1e5;
    println!("‖E x‖² / E‖x‖² = {:.4}", of_mean / square);

    // Latents near features that fire often, several near one, and some near none.
    let mut rng = random::stream(0, "example");
    for noise in [0.3f32, 1.0, 4.0] {
        let mut latents = vec![0.0; 4096 * 768];
        random::fill_normal(&mut rng, &mut latents, 0.0, noise / 768f32.sqrt());
        for row in latents.chunks_exact_mut(768) {
            let feature = random::below(&mut rng, 4500) as usize;
            row.iter_mut().zip(&generator.features()[feature * 768..]).for_each(|(x, g)| *x += g);
        }
        let begun = Instant::now();
        let matching = Matching::new(&latents, generator.features(), 768);
        let (sum, pairs) = matching.correlation();
        let uniqueness = matching.distinct() as f64 / 4096.0;
        let seconds = begun.elapsed().as_secs_f64();
        println!("noise {noise}: mcc {:.4}, uniqueness {uniqueness:.4}, {seconds:.1} s", sum / pairs as f64);
    }
    Ok(())
}
