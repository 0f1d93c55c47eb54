//! What caching all residual hooks costs over the bare forward pass, in rounds that alternate between the two:
//!
//! `cargo run --release -p mediant-lm --example caching -- TOKENS LENGTH ROUNDS [FOLDER]`
//!
//! in sequences of LENGTH random tokens; FOLDER is a model in Hugging Face layout, else one of GPT-2 small's shape.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use mediant_artifact::{
    ActivationsMeta, ActivationsWriter, Artifact, ArtifactWriter, DType, Digest, HookFact, Kind, Processing, Tokens,
    TokensMeta,
};
use mediant_lm::{
    Batch, Capture, Error, HfFolder, HookPoint, Hooks, LmConfig, Model, Parameter, Positions, Site, batches, import,
    load,
};
use mediant_tensor::Flex;
use mediant_tensor::random::{below, fill_normal, stream};
use serde_json::json;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments[i].parse::<usize>().unwrap();
    let (count, length, rounds) = (number(0), number(1), number(2));
    let model = arguments.get(3).map_or_else(random_model, |folder| read_model(Path::new(folder)));
    let tokens = random_tokens(count, length, model.config().vocab_size);
    let sites = [Site::ResidPre, Site::ResidMid, Site::ResidPost];
    let points = (0..model.config().n_layers).flat_map(|layer| sites.map(|site| HookPoint::Block(layer, site)));
    let capture = Capture { hooks: points.collect(), positions: Positions::All };
    let (mut bare_time, mut capture_time) = (Used::default(), Used::default());
    for round in 0..=rounds {
        let (bare, captured) =
            (measure(|| forward(&model, &tokens, &capture)), measure(|| write(&model, &tokens, &capture)));
        if round > 0 {
            bare_time.add(bare);
            capture_time.add(captured);
        }
    }
    let bytes = 4.0 * (capture.width(model.config(), length) * tokens.ids.len()) as f64;
    println!("{} tokens, {:.2} GB of activations, peak memory {} MB", tokens.ids.len(), bytes / 1e9, peak_megabytes());
    println!("bare forward   {bare_time}");
    println!("with caching   {capture_time}");
    println!(
        "ratio of clock {:.3}, of processor time {:.3}",
        capture_time.clock / bare_time.clock,
        capture_time.processor / bare_time.processor
    );
}

/// To the last residual hook, keeping nothing.
fn forward(model: &Model<Flex>, tokens: &Tokens, capture: &Capture) {
    let last = *capture.hooks.last().unwrap();
    for range in batches(tokens, model.config(), capture.width(model.config(), tokens.meta.context)) {
        let sequences: Vec<&[i32]> = range.map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &sequences, &model.device()).unwrap();
        let mut drop_it = |_, _| Ok(());
        model.read(&batch, Hooks::none().read([last], &mut drop_it)).unwrap();
    }
}

fn write(model: &Model<Flex>, tokens: &Tokens, capture: &Capture) {
    let folder = TempDir::new().unwrap();
    let context = tokens.meta.context;
    let fact = |hook: &HookPoint| HookFact { name: hook.to_string(), shape: hook.shape(model.config(), context) };
    let hooks: Vec<HookFact> = capture.hooks.iter().map(fact).collect();
    let writer = ArtifactWriter::create(folder.path(), Kind::Activations).unwrap();
    let writer = ActivationsWriter::new(writer, &hooks, DType::F32).unwrap();
    let writer = capture.run(model, tokens, Hooks::none, writer, |_, _| Ok::<_, Error>(()), |_| Ok(())).unwrap();
    let rows = writer.rows();
    let nothing = Digest::of(b"");
    let meta = ActivationsMeta {
        model: nothing,
        tokens: nothing,
        hooks,
        dtype: DType::F32,
        positions: "all".to_owned(),
        prepend_bos: false,
        context,
        rows,
        processing: Processing::default(),
    };
    writer.finish(&meta).unwrap();
}

fn random_tokens(count: usize, length: usize, vocab_size: usize) -> Tokens {
    let sequences = count / length;
    let count = sequences * length;
    let mut draws = stream(0, "ids");
    Tokens {
        ids: (0..count).map(|_| below(&mut draws, vocab_size as u64) as i32).collect(),
        mask: vec![true; count],
        offsets: (0..=sequences).map(|i| i * length).collect(),
        meta: TokensMeta {
            tokenizer: None,
            vocab_size,
            context: length,
            packed: true,
            prepend_bos: false,
            bos: None,
            separator: None,
            split: "train".to_owned(),
            documents: 1,
            tokens: count as u64,
            sequences: sequences as u64,
        },
    }
}

fn random_model() -> Model<Flex> {
    let config = LmConfig::from_json(&json!({
        "model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024
    }))
    .unwrap();
    let parameter = |slot: mediant_lm::Slot| {
        let shape = slot.shape(&config);
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(&mut stream(0, &slot.to_string()), &mut values, 0.0, 0.02);
        (slot, Parameter::new(values, &shape, &Default::default()).unwrap())
    };
    let parameters: Vec<_> = config.slots().into_iter().map(parameter).collect();
    Model::new(config, parameters).unwrap()
}

fn read_model(folder: &Path) -> Model<Flex> {
    let artifact = TempDir::new().unwrap();
    let writer = ArtifactWriter::create(artifact.path(), Kind::Model).unwrap();
    import(&HfFolder::open(folder).unwrap(), Processing::default(), writer, |_, _| Ok::<_, Error>(())).unwrap();
    load(&Artifact::open(artifact.path()).unwrap(), &Default::default()).unwrap()
}

/// Seconds.
#[derive(Default)]
struct Used {
    clock: f64,
    processor: f64,
}

impl Used {
    fn add(&mut self, other: Self) {
        self.clock += other.clock;
        self.processor += other.processor;
    }
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s, processor time {:.2} s", self.clock, self.processor)
    }
}

fn measure(run: impl FnOnce()) -> Used {
    let (start, before) = (Instant::now(), processor_seconds());
    run();
    Used { clock: start.elapsed().as_secs_f64(), processor: processor_seconds() - before }
}

/// Time that all threads have computed, which other processes disturb less than the clock (Linux; in ticks of 10 ms).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
