//! SAELens' directories, version 6: `cfg.json` and `sae_weights.safetensors`, in the inference form.
//!
//! The architectures `standard`, `gated`, `topk` and `jumprelu`, which `batchtopk` and `matryoshka_batchtopk` are
//! saved as. W_enc is `[d_in, d_sae]` there, W_dec `[d_sae, d_in]`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::foreign::Foreign;
use super::json::Config;
use super::layout::Layout;
use super::{Format, safetensors, tensors, write};
use crate::{Activation, Error, Result, Sae};

pub(super) const CONFIG: &str = "cfg.json";
pub(super) const WEIGHTS: &str = "sae_weights.safetensors";

/// The version of SAELens whose form the written files have; it reads files without a version as older than 6.
const VERSION: &str = "6.54.12";

/// What `cfg.json` says about an autoencoder besides how it computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Adds an entry, such as `hook_name`, `context_size` or `training_architecture_details`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// An entry.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Every entry, as another file had them.
    pub(crate) fn of(entries: Map<String, Value>) -> Self {
        Self(entries)
    }

    /// The hook that the autoencoder reads, where it is known.
    pub fn hook(&self) -> Option<&str> {
        self.get("hook_name").and_then(Value::as_str)
    }
}

/// Writes an autoencoder into a folder, which is made if it does not exist.
///
/// # Errors
/// When a file cannot be written.
pub fn save(sae: &Sae, metadata: &Metadata, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join(CONFIG);
    fs::write(&path, config(sae, metadata).to_string()).map_err(Error::io(&path))?;

    write::safetensors(&folder.join(WEIGHTS), &tensors::named(sae.weights()))
}

fn config(sae: &Sae, metadata: &Metadata) -> Value {
    let mut config = Map::new();
    if let Activation::TopK { rescale_acts_by_decoder_norm, .. } = sae.activation() {
        config.insert("rescale_acts_by_decoder_norm".into(), rescale_acts_by_decoder_norm.into());
    }
    config.insert("dtype".into(), "float32".into());
    config.insert("normalize_activations".into(), "none".into());
    config.insert("apply_b_dec_to_input".into(), sae.apply_b_dec_to_input().into());
    config.insert("device".into(), "cpu".into());
    config.insert("reshape_activations".into(), "none".into());
    config.insert("d_sae".into(), sae.weights().d_sae.into());
    config.insert("d_in".into(), sae.weights().d_in.into());
    if let Activation::TopK { k, .. } = sae.activation() {
        config.insert("k".into(), k.into());
    }
    let versions = Metadata::default().with("sae_lens_version", VERSION).with("sae_lens_training_version", Value::Null);
    let metadata: Map<String, Value> = versions.0.into_iter().chain(metadata.0.clone()).collect();
    config.insert("metadata".into(), metadata.into());
    config.insert("architecture".into(), architecture(sae.activation()).into());
    Value::Object(config)
}

/// SAELens' name of an architecture.
fn architecture(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "standard",
        Activation::Gated => "gated",
        Activation::TopK { .. } => "topk",
        Activation::JumpRelu => "jumprelu",
    }
}

/// Reads an autoencoder from a folder.
///
/// # Errors
/// As [`Foreign::open`] and [`Foreign::load`].
pub fn load(folder: &Path) -> Result<(Sae, Metadata)> {
    let foreign = open(folder)?.checked()?;
    Ok((foreign.load()?, Metadata(foreign.said)))
}

/// Architectures of SAELens 6 that are not built, each with what it is.
const NOT_BUILT: [(&str, &str); 9] = [
    ("batchtopk", "the training form; SAELens' `save_inference_model` writes the jumprelu that it is at inference"),
    (
        "matryoshka_batchtopk",
        "the training form; SAELens' `save_inference_model` writes the jumprelu that it is at inference",
    ),
    ("abstopk", "latents of either sign"),
    ("matching_pursuit", "a serial choice of latents"),
    ("temporal", "an autoencoder over positions"),
    ("transcoder", "a transcoder"),
    ("skip_transcoder", "a transcoder with a skip connection"),
    ("jumprelu_transcoder", "a transcoder"),
    ("jumprelu_skip_transcoder", "a transcoder with a skip connection"),
];

pub(super) fn open(folder: &Path) -> Result<Foreign> {
    let config = Config::read(&folder.join(CONFIG))?;
    let metadata = match config.get("metadata") {
        None => Map::new(),
        Some(_) => config.section("metadata")?.fields,
    };
    let version = metadata.get("sae_lens_version").and_then(Value::as_str).unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse::<u64>().ok()).is_none_or(|major| major < 6) {
        return Err(config.error("written before SAELens 6; load and save it in SAELens 6 first"));
    }
    for (option, expected) in [("normalize_activations", "none"), ("reshape_activations", "none")] {
        let value = config.text(option)?.unwrap_or("none");
        if value != expected {
            return Err(config.error(format!("`{option}: {value}` is not supported, only `{expected}`")));
        }
    }
    if let Some(head) = metadata.get("hook_head_index").filter(|head| !head.is_null()) {
        return Err(
            config.error(format!("it reads head {head} of its hook, and autoencoders of one head are not built"))
        );
    }
    let activation = match config.text("architecture")?.unwrap_or_default() {
        "standard" => Activation::Relu,
        "gated" => Activation::Gated,
        "jumprelu" => Activation::JumpRelu,
        "topk" => {
            let rescale_acts_by_decoder_norm = config.flag("rescale_acts_by_decoder_norm", false)?;
            Activation::TopK { k: config.count("k")?, rescale_acts_by_decoder_norm }
        }
        other => {
            let what = NOT_BUILT.iter().find(|(name, _)| *name == other).map(|(_, what)| format!(" ({what})"));
            return Err(config.error(format!(
                "architecture \"{}\" is not supported{}, only standard, gated, topk and jumprelu",
                other.escape_debug(),
                what.unwrap_or_default()
            )));
        }
    };
    let file = safetensors::open(&folder.join(WEIGHTS))?;
    let layout = Layout::saelens(activation);
    file.only(&layout.names(), "this architecture")?;
    Ok(Foreign {
        format: Format::Saelens,
        activation,
        apply_b_dec_to_input: config.flag("apply_b_dec_to_input", true)?,
        d_in: config.count("d_in")?,
        d_sae: config.count("d_sae")?,
        hook: metadata.get("hook_name").and_then(Value::as_str).map(str::to_owned),
        said: metadata,
        file,
        layout,
    })
}
