//! SAELens' directories, version 6: `cfg.json` and `sae_weights.safetensors`, in the inference form.
//!
//! The architectures `standard`, `gated`, `topk` and `jumprelu`, which `batchtopk` and `matryoshka_batchtopk` are
//! saved as. W_enc is `[d_in, d_sae]` there, W_dec `[d_sae, d_in]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mediant_artifact::DType;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Map, Value, json};

use super::tensors;
use crate::{Activation, Error, Result, Sae, Weights};

const CONFIG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";

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

    let tensors = tensors::named(sae.weights());
    let path = folder.join(WEIGHTS);
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        view.map(|view| (*name, view)).map_err(|error| Error::format(&path, error.to_string()))
    });
    let views = views.collect::<Result<BTreeMap<_, _>>>()?;
    let file = safetensors::serialize(views, None).map_err(|error| Error::format(&path, error.to_string()))?;
    fs::write(&path, file).map_err(Error::io(&path))
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
/// When a file is missing or damaged, or says something that cannot be honoured: another architecture, activations that
/// are normalised at run time or reshaped, a version before 6.
pub fn load(folder: &Path) -> Result<(Sae, Metadata)> {
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
    let bad = |reason: String| Error::format(&path, reason);

    let metadata = config.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let version = metadata.get("sae_lens_version").and_then(Value::as_str).unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse::<u64>().ok()).is_none_or(|major| major < 6) {
        return Err(bad("written before SAELens 6; load and save it in SAELens 6 first".to_owned()));
    }
    for (option, expected) in [("normalize_activations", "none"), ("reshape_activations", "none")] {
        let value = config.get(option).and_then(Value::as_str).unwrap_or("none");
        if value != expected {
            return Err(bad(format!("`{option}: {value}` is not supported, only `{expected}`")));
        }
    }
    let number = |option: &str| {
        let value = config.get(option).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| bad(format!("`{option}` is missing or not a whole number")))
    };
    let flag = |option: &str, default: bool| match config.get(option) {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| bad(format!("`{option}` is not true or false"))),
    };
    let activation = match config.get("architecture").and_then(Value::as_str) {
        Some("standard") => Activation::Relu,
        Some("gated") => Activation::Gated,
        Some("jumprelu") => Activation::JumpRelu,
        Some("topk") => {
            let rescale_acts_by_decoder_norm = flag("rescale_acts_by_decoder_norm", false)?;
            Activation::TopK { k: number("k")?, rescale_acts_by_decoder_norm }
        }
        other => {
            return Err(bad(format!(
                "architecture {} is not supported, only standard, gated, topk and jumprelu",
                json!(other)
            )));
        }
    };
    let weights = weights(&folder.join(WEIGHTS), activation, number("d_in")?, number("d_sae")?)?;
    let sae = Sae::new(weights, activation, flag("apply_b_dec_to_input", true)?)?;
    Ok((sae, Metadata(metadata)))
}

fn weights(path: &Path, activation: Activation, d_in: usize, d_sae: usize) -> Result<Weights> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::format(path, error.to_string()))?;
    let expected = tensors::names(activation);
    if let Some(other) = file.names().into_iter().find(|name| !expected.contains(name)) {
        return Err(Error::format(path, format!("tensor `{other}` has no place in this architecture")));
    }
    let tensor = |name: &str, shape: &[usize]| {
        let view = file.tensor(name).map_err(|error| Error::format(path, error.to_string()))?;
        if view.shape() != shape {
            return Err(Error::format(path, format!("tensor `{name}` has shape {:?}, not {shape:?}", view.shape())));
        }
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            other => return Err(Error::format(path, format!("tensor `{name}` holds {other:?}"))),
        };
        let mut numbers = vec![0.0; view.data().len() / dtype.size()];
        dtype.decode(view.data(), &mut numbers)?;
        Ok(numbers)
    };
    tensors::weights(activation, d_in, d_sae, tensor)
}
