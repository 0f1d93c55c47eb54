//! Writes the corpus that `checkpoint` starts from.

use std::fs;
use std::io::Result;
use std::path::Path;

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus/checkpoint");
    fs::create_dir_all(&corpus)?;
    for model in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"] {
        let fixture = here.join("../crates/mediant-lm/tests/fixtures").join(model);
        let config = fs::read(fixture.join("config.json"))?;
        let weights = fs::read(fixture.join("model.safetensors"))?;
        let (length, rest) = weights.split_at(8);
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        fs::write(corpus.join(model), [&config[..], &[0], &rest[..length]].concat())?;
        // Cut off: the length and the header alone.
        fs::write(corpus.join(format!("{model}-file")), [&config[..], &[0, 0], &weights[..8 + length]].concat())?;
    }
    Ok(())
}
