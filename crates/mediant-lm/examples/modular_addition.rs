//! How many sums a model of modular addition gets right:
//!
//! `cargo run --release -p mediant-lm --example modular_addition FOLDER...`
//!
//! Each folder holds `config.json` and `model.safetensors` of a model of Zhong et al. 2023 (arXiv:2306.17844).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;

use mediant_artifact::{Artifact, ArtifactWriter, Kind, Processing};
use mediant_lm::{Batch, Error, HfFolder, Hooks, Model, Rows, State, import, load};
use mediant_tensor::Flex;

fn main() {
    for folder in std::env::args().skip(1) {
        let work = tempfile::tempdir().unwrap();
        let writer = ArtifactWriter::create(work.path(), Kind::Model).unwrap();
        let source = HfFolder::open(Path::new(&folder)).unwrap();
        import(&source, Processing::default(), writer, |_, _| Ok::<_, Error>(())).unwrap();
        let model: Model<Flex> = load(&Artifact::open(work.path()).unwrap(), &Default::default()).unwrap();
        let numbers = model.config().vocab_size;
        let pairs: Vec<[i32; 2]> =
            (0..numbers * numbers).map(|i| [(i / numbers) as i32, (i % numbers) as i32]).collect();
        let ids: Vec<&[i32]> = pairs.iter().map(<[i32; 2]>::as_slice).collect();
        let batch = Batch::new(model.config(), &ids, &Default::default()).unwrap();
        let logits = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        let logits: Vec<f32> = logits.into_data().into_vec().unwrap();
        let best = |row: &[f32]| (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap();
        let right = pairs.iter().zip(logits.chunks_exact(numbers));
        let right = right.filter(|(pair, row)| best(row) == (pair[0] + pair[1]) as usize % numbers).count();
        println!("{folder}: {right} of {} sums are right", pairs.len());
    }
}
