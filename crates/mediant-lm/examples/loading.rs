//! Peak memory and time of loading a checkpoint of GPT-2 small's shape with random weights, against 4 bytes a parameter:
//!
//! `cargo run --release -p mediant-lm --example loading` (Linux)
//!
//! For one file and for shards, in f32, bf16 and f16: the import into an artifact without and with weight processing, and
//! from the artifact to the processor. Each step is a process of its own, as in a run. `own` is the peak of the process'
//! own memory; `resident` counts the mapped pages of the checkpoint too, which the system takes back when it needs them.
//! Where the kernel gives huge pages, the allocator's rounding of sizes counts too (GPT-2's 9 MiB matrices take 10):
//! `MIMALLOC_ALLOW_THP=0` shows the figures without.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use half::{bf16, f16};
use mediant_artifact::{Artifact, ArtifactWriter, Kind, Processing};
use mediant_lm::{Error, HfFolder, LmConfig, Model, import, load};
use mediant_tensor::Flex;
use mediant_tensor::random::{fill_normal, stream};
use safetensors::serialize_to_file;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALL: Processing =
    Processing { fold_ln: true, center_writing_weights: true, center_unembed: true, fold_value_biases: true };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [step, from, to] = arguments[..] {
        return measured(|| run(step, Path::new(from), Path::new(to)));
    }
    let work = tempfile::tempdir().unwrap();
    let config = LmConfig::from_json(&config()).unwrap();
    println!("{:.1} MB of weights in f32", config.parameters() as f64 * 4e-6);
    for (format, shards) in [(Dtype::F32, 1), (Dtype::F32, 4), (Dtype::BF16, 1), (Dtype::F16, 4)] {
        let path = |name: &str| work.path().join(name);
        for name in ["hf", "import", "process"] {
            let _ = fs::remove_dir_all(path(name));
        }
        write_checkpoint(&path("hf"), &config, format, shards);
        for (step, from, to) in [
            ("import", "hf", "import"),
            ("process", "hf", "process"),
            ("load", "import", "-"),
            ("load", "process", "-"),
        ] {
            let program = std::env::current_exe().unwrap();
            let output = Command::new(program).arg(step).arg(path(from)).arg(path(to)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let figures = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{format} in {shards} files, {step:7} from {from:7} {figures}", figures = figures.trim());
        }
    }
}

fn config() -> Value {
    json!({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024})
}

fn run(step: &str, from: &Path, to: &Path) {
    if step == "load" {
        let model: Model<Flex> = load(&Artifact::open(from).unwrap(), &Default::default()).unwrap();
        std::hint::black_box(&model);
        return;
    }
    let processing = if step == "process" { ALL } else { Processing::default() };
    fs::create_dir_all(to).unwrap();
    let writer = ArtifactWriter::create(to, Kind::Model).unwrap();
    import(&HfFolder::open(from).unwrap(), processing, writer, |_, _| Ok::<_, Error>(())).unwrap();
}

/// Runs the work and prints its time and how far memory rose above what the process had before.
fn measured(work: impl FnOnce()) {
    let megabytes = |kilobytes: u64| kilobytes as f64 * 1.024e-3;
    let (before, own_before) = (status("VmRSS"), status("RssAnon"));
    let (done, own) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                own.fetch_max(status("RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
    println!(
        "own {:6.1} MB, resident {:6.1} MB, {:.2} s",
        megabytes(own.load(Ordering::Relaxed).saturating_sub(own_before)),
        megabytes(status("VmHWM").saturating_sub(before)),
        start.elapsed().as_secs_f64()
    );
}

/// A field of `/proc/self/status`, in kB.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Random weights, the tensors dealt out to `shards` files.
fn write_checkpoint(folder: &Path, config: &LmConfig, format: Dtype, shards: usize) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), self::config().to_string()).unwrap();
    let pieces = config.slots().into_iter().flat_map(|slot| config.pieces(slot));
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = pieces
        .map(|piece| {
            let mut values = vec![0.0; piece.shape.iter().product()];
            fill_normal(&mut stream(0, &piece.tensor), &mut values, 0.0, 0.02);
            let bytes = match format {
                Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
                Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
                _ => bytemuck::cast_slice(&values).to_vec(),
            };
            (piece.tensor, piece.shape, bytes)
        })
        .collect();
    let file = |index: usize| match shards {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{shards:05}.safetensors", index % shards + 1),
    };
    for shard in 0..shards {
        let own = tensors.iter().skip(shard).step_by(shards);
        let views = own.map(|(name, shape, bytes)| (name, TensorView::new(format, shape.clone(), bytes).unwrap()));
        serialize_to_file(views, None, &folder.join(file(shard))).unwrap();
    }
    if shards > 1 {
        let places = tensors.iter().enumerate().map(|(index, (name, ..))| (name.clone(), json!(file(index))));
        let index = json!({"metadata": {}, "weight_map": Value::Object(places.collect())});
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
}
