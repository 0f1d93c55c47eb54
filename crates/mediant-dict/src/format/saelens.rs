//! SAELens' directories, version 6: `cfg.json` and `sae_weights.safetensors`, in the inference form.
//!
//! The architectures `standard`, `gated`, `topk`, `matching_pursuit` and `jumprelu`, which `batchtopk` and `matryoshka_batchtopk` are
//! saved as, and the transcoders `transcoder`, `skip_transcoder`, `jumprelu_transcoder` and `jumprelu_skip_transcoder`. W_enc is
//! `[d_in, d_sae]` there, W_dec `[d_sae, d_out]`, W_skip `[d_out, d_in]`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::foreign::{Foreign, Writes};
use super::json::Config;
use super::layout::Layout;
use super::{Format, safetensors, tensors, write};
use crate::{Activation, Error, InputNorm, MatchingPursuit, Result, Sae};

pub(super) const CONFIG: &str = "cfg.json";
pub(super) const WEIGHTS: &str = "sae_weights.safetensors";

/// The version of SAELens whose form the written files have; it reads files without a version as older than 6.
const VERSION: &str = "6.54.12";

/// Where the metadata name the hook that a transcoder writes.
pub(crate) const HOOK_OUT: &str = "hook_name_out";

/// What `cfg.json` says about a dictionary besides how it computes.
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

    /// The hook that the dictionary reads, where it is known.
    pub fn hook(&self) -> Option<&str> {
        self.get("hook_name").and_then(Value::as_str)
    }

    /// The hook that it writes, if that is another: of a transcoder.
    pub fn hook_out(&self) -> Option<&str> {
        self.get(HOOK_OUT).and_then(Value::as_str)
    }
}

/// Writes an autoencoder, or a transcoder if the metadata name the hook that it writes, into a folder, which is made if it
/// does not exist.
///
/// # Errors
/// When SAELens has no such architecture, or a file cannot be written.
pub fn save(sae: &Sae, metadata: &Metadata, folder: &Path) -> Result<()> {
    let architecture = architecture(sae, metadata)?;
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join(CONFIG);
    fs::write(&path, config(sae, architecture, metadata).to_string()).map_err(Error::io(&path))?;

    write::safetensors(&folder.join(WEIGHTS), &tensors::named(sae.weights()))
}

fn config(sae: &Sae, architecture: &str, metadata: &Metadata) -> Value {
    let mut config = Map::new();
    if let Activation::TopK { rescale_acts_by_decoder_norm, .. } = sae.activation() {
        config.insert("rescale_acts_by_decoder_norm".into(), rescale_acts_by_decoder_norm.into());
    }
    config.insert("dtype".into(), "float32".into());
    config.insert("normalize_activations".into(), sae.input_norm().name().into());
    config.insert("apply_b_dec_to_input".into(), sae.apply_b_dec_to_input().into());
    config.insert("device".into(), "cpu".into());
    // Heads are read as one vector; SAELens' transcoders take no notice of the option.
    let transcodes = metadata.hook_out().is_some();
    let of_heads = !transcodes && metadata.hook().is_some_and(|hook| hook.ends_with("attn.hook_z"));
    config.insert("reshape_activations".into(), if of_heads { "hook_z" } else { "none" }.into());
    config.insert("d_sae".into(), sae.weights().d_sae.into());
    config.insert("d_in".into(), sae.weights().d_in.into());
    if transcodes {
        config.insert("d_out".into(), sae.weights().d_out.into());
    }
    if let Activation::TopK { k, .. } = sae.activation() {
        config.insert("k".into(), k.into());
    }
    if let Activation::MatchingPursuit(rule) = sae.activation() {
        config.insert("residual_threshold".into(), rule.residual_threshold.into());
        config.insert("max_iterations".into(), rule.max_iterations.into());
        config.insert("stop_on_duplicate_support".into(), rule.stop_on_duplicate_support.into());
    }
    let versions = Metadata::default().with("sae_lens_version", VERSION).with("sae_lens_training_version", Value::Null);
    let metadata: Map<String, Value> = versions.0.into_iter().chain(metadata.0.clone()).collect();
    config.insert("metadata".into(), metadata.into());
    config.insert("architecture".into(), architecture.into());
    Value::Object(config)
}

/// SAELens' name of an architecture.
fn architecture(sae: &Sae, metadata: &Metadata) -> Result<&'static str> {
    let skips = sae.weights().w_skip.is_some();
    Ok(match (sae.activation(), metadata.hook_out()) {
        (Activation::Relu, None) => "standard",
        (Activation::Relu, Some(_)) => {
            if skips {
                "skip_transcoder"
            } else {
                "transcoder"
            }
        }
        (Activation::JumpRelu, None) => "jumprelu",
        (Activation::JumpRelu, Some(_)) => {
            if skips {
                "jumprelu_skip_transcoder"
            } else {
                "jumprelu_transcoder"
            }
        }
        (Activation::Gated, None) => "gated",
        (Activation::TopK { .. }, None) => "topk",
        (Activation::MatchingPursuit(_), None) => "matching_pursuit",
        (other, out) => {
            let what = if out.is_some() { "transcoders" } else { "architecture" };
            return Err(Error::Data(format!("SAELens has no {what} like {}", other.architecture())));
        }
    })
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
const NOT_BUILT: [(&str, &str); 4] = [
    ("batchtopk", "the training form; SAELens' `save_inference_model` writes the jumprelu that it is at inference"),
    (
        "matryoshka_batchtopk",
        "the training form; SAELens' `save_inference_model` writes the jumprelu that it is at inference",
    ),
    ("abstopk", "latents of either sign"),
    ("temporal", "an autoencoder over positions"),
];

fn matching_pursuit(config: &Config) -> Result<MatchingPursuit> {
    if !config.flag("apply_b_dec_to_input", true)? {
        return Err(config.error("a matching pursuit that does not subtract b_dec is not supported"));
    }
    let threshold = config.get("residual_threshold").map_or(Some(1e-2), Value::as_f64).filter(|norm| *norm >= 0.0);
    let threshold = threshold.ok_or_else(|| config.error("`residual_threshold` is not a number of at least 0"))?;
    let max_iterations = match config.get("max_iterations") {
        None | Some(Value::Null) => None,
        Some(_) => Some(config.count("max_iterations")?),
    };
    Ok(MatchingPursuit {
        residual_threshold: threshold,
        max_iterations,
        stop_on_duplicate_support: config.flag("stop_on_duplicate_support", true)?,
    })
}

/// An option's value, one of those that are honoured, the first where it is absent.
fn one_of<'a>(config: &'a Config, option: &str, known: &[&'a str]) -> Result<&'a str> {
    let value = config.text(option)?.unwrap_or(known[0]);
    if known.contains(&value) {
        return Ok(value);
    }
    Err(config.error(format!("`{option}: {value}` is not supported, only `{}`", known.join("` and `"))))
}

pub(super) fn open(folder: &Path) -> Result<Foreign> {
    let config = Config::read(&folder.join(CONFIG))?;
    // First, since other tools name their configs so too.
    let file = safetensors::open(&folder.join(WEIGHTS))?;
    let metadata = match config.get("metadata") {
        None => Map::new(),
        Some(_) => config.section("metadata")?.fields,
    };
    let version = metadata.get("sae_lens_version").and_then(Value::as_str).unwrap_or_default();
    if version.split('.').next().and_then(|major| major.parse::<u64>().ok()).is_none_or(|major| major < 6) {
        return Err(config.error("written before SAELens 6; load and save it in SAELens 6 first"));
    }
    one_of(&config, "reshape_activations", &["none", "hook_z"])?;
    let norms = [InputNorm::None, InputNorm::LayerNorm, InputNorm::ConstantNormRescale];
    let name = one_of(&config, "normalize_activations", &norms.map(InputNorm::name))?;
    let input_norm = norms.into_iter().find(|norm| norm.name() == name).unwrap_or_default();
    for (index, verb) in [("hook_head_index", "reads"), ("hook_head_index_out", "writes")] {
        if let Some(head) = metadata.get(index).filter(|head| !head.is_null()) {
            let why = format!("it {verb} head {head} of its hook, and autoencoders of one head are not built");
            return Err(config.error(why));
        }
    }
    let architecture = config.text("architecture")?.unwrap_or_default();
    let activation = match architecture {
        "standard" | "transcoder" | "skip_transcoder" => Activation::Relu,
        "gated" => Activation::Gated,
        "jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder" => Activation::JumpRelu,
        "topk" => {
            let rescale_acts_by_decoder_norm = config.flag("rescale_acts_by_decoder_norm", false)?;
            Activation::TopK { k: config.count("k")?, rescale_acts_by_decoder_norm }
        }
        "matching_pursuit" => Activation::MatchingPursuit(matching_pursuit(&config)?),
        other => {
            let what = NOT_BUILT.iter().find(|(name, _)| *name == other).map(|(_, what)| format!(" ({what})"));
            return Err(config.error(format!(
                "architecture \"{}\" is not supported{}, only standard, gated, topk, jumprelu, matching_pursuit and transcoders",
                other.escape_debug(),
                what.unwrap_or_default()
            )));
        }
    };
    let transcodes = architecture.ends_with("transcoder");
    let w_skip = architecture.ends_with("skip_transcoder").then_some("W_skip");
    let layout = Layout { w_skip, ..Layout::saelens(activation) };
    file.only(&layout.names(), "this architecture")?;
    let apply_b_dec_to_input = config.flag("apply_b_dec_to_input", true)?;
    if transcodes && apply_b_dec_to_input {
        return Err(config.error("`apply_b_dec_to_input` is not false, as it is of every transcoder"));
    }
    if transcodes && !input_norm.is_none() {
        let why = "is not supported of a transcoder, whose output is no vector that was normalised";
        return Err(config.error(format!("`normalize_activations: {name}` {why}")));
    }
    let d_in = config.count("d_in")?;
    let hook = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Foreign {
        format: Format::Saelens,
        activation,
        apply_b_dec_to_input,
        input_norm,
        d_in,
        d_out: if transcodes { config.count("d_out")? } else { d_in },
        d_sae: config.count("d_sae")?,
        writes: if transcodes { Writes::Another(hook(HOOK_OUT)) } else { Writes::WhatItReads },
        hook: hook("hook_name"),
        said: metadata,
        file,
        layout,
    })
}
