//! A model: its shape in words, its tensors.

use mediant_artifact::{Artifact, ModelReader, Norms};
use serde_json::Value;

use super::tensors;
use crate::error::Result;
use crate::number::count;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, page: &mut Page) -> Result<()> {
    let model = ModelReader::open(artifact)?;
    let meta = &model.meta;
    page.facts(
        "Model",
        [
            ("architecture", Cell::text(&meta.architecture)),
            ("shape", Cell::text(summary(&meta.config))),
            ("parameters", Cell::Count(meta.parameters)),
            ("norms", Cell::text(norms(&meta.norms, &meta.config))),
            ("processing", Cell::text(processing(&serde_json::to_value(meta.processing).unwrap_or_default()))),
            ("tokenizer", Cell::or_empty(meta.tokenizer, |digest| Cell::Digest(digest.to_string()))),
        ],
    );
    if let Norms::Frozen(scales) = &meta.norms {
        let mut table = TextTable::new(["frozen norm", "divides by"]);
        for (name, scale) in scales {
            table.push([Cell::text(name), Cell::Float(f64::from(*scale))]);
        }
        page.table("Norms", table);
    }
    page.table("Tensors", tensors::table(&model.tensors));
    let mut files = TextTable::new(["file", "bytes"]);
    for name in model.files.names() {
        files.push([Cell::text(name), Cell::Bytes(model.files.get(name).map_or(0, |bytes| bytes.len() as u64))]);
    }
    page.table("Files", files);
    Ok(())
}

/// Where some are frozen: how many of them, and how many others are live.
fn norms(norms: &Norms, config: &Value) -> String {
    match norms {
        Norms::Live => "live".to_owned(),
        Norms::Frozen(scales) => {
            // Three in a layer (before attention for queries and keys, for values; before the MLP), and the last.
            let all = number(config, LAYERS).map(|layers| layers.saturating_mul(3).saturating_add(1));
            match all.map_or(0, |all| all.saturating_sub(scales.len() as u64)) {
                0 => format!("{} frozen", scales.len()),
                live => format!("{} frozen, {live} live", scales.len()),
            }
        }
        Norms::Absent => "none, or part of the weights".to_owned(),
    }
}

/// Names of the number of layers.
const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "num_layers", "n_layers"];

/// A number of the config of a Hugging Face model, under any of its names.
fn number(config: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| config.get(*name).and_then(Value::as_u64))
}

/// What the config of a Hugging Face model says in most architectures.
fn summary(config: &Value) -> String {
    const FIELDS: [(&str, &[&str]); 7] = [
        ("layers", LAYERS),
        ("d_model", &["hidden_size", "n_embd", "d_model"]),
        ("heads", &["num_attention_heads", "n_head", "n_heads"]),
        ("key-value heads", &["num_key_value_heads"]),
        ("d_mlp", &["intermediate_size", "n_inner"]),
        ("vocabulary", &["vocab_size", "C"]),
        ("context", &["max_position_embeddings", "n_positions", "n_ctx"]),
    ];
    let known = FIELDS.iter().filter_map(|(label, names)| Some(format!("{label} {}", count(number(config, names)?))));
    known.collect::<Vec<_>>().join(", ")
}

/// The steps that were applied, in words.
fn processing(flags: &Value) -> String {
    let flags = flags.as_object().into_iter().flatten();
    let applied: Vec<String> =
        flags.filter(|(_, on)| **on == Value::Bool(true)).map(|(name, _)| name.replace('_', " ")).collect();
    if applied.is_empty() { "none".to_string() } else { applied.join(", ") }
}
