//! Fixtures and comparisons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mediant_dict::train::{
    Activations, Buffers, CpuLearner, Estimates, Feed, InMemory, Now, Pass, Samples, Trained, Trainer, pass,
};
use mediant_dict::{Objective, TrainConfig, Weights};
use mediant_tensor::random::{fill_normal, stream};
use safetensors::SafeTensors;
use serde_json::json;

/// What the reference script wrote with SAELens 6.54.12.
pub(crate) fn fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/saelens").join(case)
}

/// The f32 tensors of a safetensors file; other types become f32.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |view: &safetensors::tensor::TensorView<'_>| match view.dtype() {
        safetensors::Dtype::U8 => view.data().iter().map(|&x| f32::from(x)).collect(),
        _ => view.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect(),
    };
    file.iter().map(|(name, view)| (name.to_owned(), numbers(&view))).collect()
}

/// Asserts max |a − b| ≤ tolerance · max |b|.
#[track_caller]
pub(crate) fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let worst = a.iter().zip(b).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: {worst} against a largest value of {scale}");
}

/// `[rows, cols]` to `[cols, rows]`.
pub(crate) fn transpose(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| data[row * cols + col])).collect()
}

/// One pass after all warm-up with gradients, and x̂ − x.
pub(crate) fn run(
    weights: &Weights,
    objective: &Objective,
    subtract: bool,
    x: &[f32],
    dead: &[bool],
) -> (Pass, Weights, Vec<f32>) {
    run_on(weights, objective, subtract, x.into(), dead)
}

/// The same where another vector is reconstructed.
pub(crate) fn run_on(
    weights: &Weights,
    objective: &Objective,
    subtract: bool,
    samples: Samples<'_>,
    dead: &[bool],
) -> (Pass, Weights, Vec<f32>) {
    let mut gradients = weights.zeros_like();
    let mut buffers = Buffers::default();
    let now = Now { lr: 0.0, coefficient: objective.coefficient_at(u64::MAX), dead };
    // Twice, since the buffers of one step are those of the next.
    pass(weights, objective, subtract, samples, &now, &mut gradients, &mut buffers);
    let found = pass(weights, objective, subtract, samples, &now, &mut gradients, &mut buffers);
    (found, gradients, buffers.errors().to_vec())
}

/// Normal numbers.
pub(crate) fn normal(len: usize, seed: u64, std: f32) -> Vec<f32> {
    let mut out = vec![0.0; len];
    fill_normal(&mut stream(seed, "test"), &mut out, 0.0, std);
    out
}

/// Vectors that are sums of a few of `features` directions, in examples of `length` rows: something to learn.
pub(crate) fn synthetic(rows: usize, width: usize, features: usize, length: usize) -> InMemory {
    let directions = normal(features * width, 100, (1.0 / width as f32).sqrt());
    let mut rng = stream(0, "test features");
    let mut data = vec![0.0; rows * width];
    for row in data.chunks_exact_mut(width) {
        for _ in 0..3 {
            let feature = mediant_tensor::random::below(&mut rng, features as u64) as usize;
            let size = 1.0 + mediant_tensor::random::unit_f32(&mut rng);
            row.iter_mut().zip(&directions[feature * width..]).for_each(|(x, d)| *x += size * d);
        }
        row.iter_mut().for_each(|x| *x += 0.5);
    }
    let offsets = (0..=rows.div_ceil(length)).map(|i| (i * length).min(rows) as u64).collect();
    InMemory { data, width, offsets }
}

/// Two hook points of the same positions.
pub(crate) struct Two {
    data: [InMemory; 2],
    widths: [usize; 2],
}

impl Activations for Two {
    fn widths(&self) -> &[usize] {
        &self.widths
    }

    fn offsets(&self) -> &[u64] {
        &self.data[0].offsets
    }

    fn fill(&self, hook: usize, rows: &[u64], out: &mut [f32]) -> mediant_dict::Result<()> {
        self.data[hook].fill(0, rows, out)
    }
}

impl Two {
    /// The vectors of each hook point times a factor.
    pub(crate) fn times(mut self, factors: [f32; 2]) -> Self {
        for (hook, factor) in self.data.iter_mut().zip(factors) {
            hook.data.iter_mut().for_each(|x| *x *= factor);
        }
        self
    }
}

/// [`synthetic`] vectors, and a linear function of them: something for a transcoder to learn.
pub(crate) fn synthetic_pair(rows: usize, [width, out]: [usize; 2], features: usize, length: usize) -> Two {
    let x = synthetic(rows, width, features, length);
    let matrix = normal(width * out, 101, (1.0 / width as f32).sqrt());
    let of_row = |row: &[f32]| -> Vec<f32> {
        let product = |j: usize| row.iter().enumerate().map(|(i, x)| x * matrix[i * out + j]).sum::<f32>();
        (0..out).map(product).collect()
    };
    let data = x.data.chunks_exact(width).flat_map(of_row).collect();
    let y = InMemory { data, width: out, offsets: x.offsets.clone() };
    Two { data: [x, y], widths: [width, out] }
}

/// A config from JSON, the rest by default.
pub(crate) fn config(options: &serde_json::Value) -> TrainConfig {
    let mut all = json!({ "d_sae": 64, "steps": 30, "batch": 48, "lr": 1e-3 });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// A training before its first step.
pub(crate) fn start(config: &TrainConfig, source: &dyn Activations) -> Trainer<CpuLearner> {
    Trainer::start(config.resolve().unwrap(), 0, &mut Estimates::new(source), CpuLearner::new).unwrap()
}

/// A training that goes on from a checkpoint.
pub(crate) fn resume(
    config: &TrainConfig,
    source: &dyn Activations,
    folder: &std::path::Path,
) -> mediant_dict::Result<Trainer<CpuLearner>> {
    Trainer::resume(config.resolve().unwrap(), 0, source, folder, CpuLearner::new)
}

/// Trains until so many steps are done.
pub(crate) fn steps(
    trainer: &mut Trainer<CpuLearner>,
    source: &dyn Activations,
    until: u64,
) -> mediant_dict::Result<()> {
    let mut feed = Feed::new(source, trainer.training());
    while trainer.steps_done() < until {
        trainer.step(feed.batch(trainer.steps_done())?)?;
    }
    Ok(())
}

/// A whole training.
pub(crate) fn train(config: &TrainConfig, source: &dyn Activations) -> Trained {
    let mut trainer = start(config, source);
    let all = trainer.training().steps;
    steps(&mut trainer, source, all).unwrap();
    trainer.finish().unwrap()
}
