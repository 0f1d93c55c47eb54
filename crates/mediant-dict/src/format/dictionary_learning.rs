//! dictionary_learning's `ae.pt`, a state dict of PyTorch, and the `config.json` beside it.
//!
//! | `dict_class` | tensors | how it computes |
//! | --- | --- | --- |
//! | AutoEncoder | bias, encoder.weight, encoder.bias, decoder.weight | ReLU of the input minus `bias` |
//! | AutoEncoderNew | encoder.weight, encoder.bias, decoder.weight, decoder.bias | ReLU of the input |
//! | GatedAutoEncoder | decoder_bias, encoder.weight, gate_bias, mag_bias, r_mag, decoder.weight | gate and magnitude |
//! | AutoEncoderTopK | encoder.weight, encoder.bias, decoder.weight, b_dec, k, threshold | the k largest |
//! | BatchTopKSAE | the same | above `threshold`, one number for all latents |
//! | MatryoshkaBatchTopKSAE | W_enc, b_enc, W_dec, b_dec, k, threshold, group_sizes | the same |
//! | JumpReluAutoEncoder | W_enc, b_enc, W_dec, b_dec, threshold | above a threshold each; the input as it is |
//!
//! encoder.weight is `[d_sae, d_in]`, decoder.weight `[d_in, d_sae]`, W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::foreign::{Foreign, Writes};
use super::input::Input;
use super::json::Config;
use super::layout::{Further, Layout, Matrix};
use super::stored::{Number, TensorFile};
use super::{Format, torch, write};
use crate::{Activation, Error, InputNorm, Result, Sae};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "ae.pt";

/// The classes that are read.
const CLASSES: [&str; 7] = [
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
];

pub(super) fn open(path: &Path) -> Result<Foreign> {
    let (weights, config) = if path.is_dir() {
        (path.join(WEIGHTS), Some(Config::read(&path.join(CONFIG))?))
    } else {
        (path.to_owned(), None)
    };
    let file = torch::of(Input::open(&weights)?)?;
    let trainer = config.as_ref().map(|config| config.section("trainer")).transpose()?;
    let class = match &trainer {
        None => class_of(&file)?,
        Some(trainer) => {
            let class = trainer.text("dict_class")?.unwrap_or_default();
            CLASSES.into_iter().find(|name| *name == class).ok_or_else(|| {
                trainer.error(format!("`dict_class: {class}` is not built, only {}", CLASSES.join(", ")))
            })?
        }
    };
    let (layout, also) = layout(class);
    file.only(&[&layout.names(), also].concat(), &format!("a {class} of dictionary_learning"))?;
    let (d_in, d_sae) = layout.w_enc.sizes(&file)?;
    if let Some(trainer) = &trainer {
        for (field, found) in [("activation_dim", d_in), ("dict_size", d_sae)] {
            if trainer.get(field).is_some() && trainer.count(field)? != found {
                return Err(trainer.error(format!("`{field}` is not {found}, as the weights have it")));
            }
        }
    }
    let activation = match class {
        "AutoEncoder" | "AutoEncoderNew" => Activation::Relu,
        "GatedAutoEncoder" => Activation::Gated,
        "AutoEncoderTopK" => Activation::TopK { k: k(&file, trainer.as_ref())?, rescale_acts_by_decoder_norm: false },
        _ => Activation::JumpRelu,
    };
    Ok(Foreign {
        format: Format::DictionaryLearning,
        activation,
        apply_b_dec_to_input: !matches!(class, "AutoEncoderNew" | "JumpReluAutoEncoder"),
        input_norm: InputNorm::None,
        d_in,
        d_out: d_in,
        d_sae,
        writes: Writes::WhatItReads,
        hook: trainer.as_ref().and_then(hook),
        said: config.map(|config| config.fields).unwrap_or_default(),
        file,
        layout,
    })
}

/// The parameters of a class, and its buffers.
fn layout(class: &str) -> (Layout, &'static [&'static str]) {
    match class {
        "AutoEncoder" => (linear("encoder.bias", "bias", Further::None), &[]),
        "AutoEncoderNew" => (linear("encoder.bias", "decoder.bias", Further::None), &[]),
        "GatedAutoEncoder" => (linear("gate_bias", "decoder_bias", Further::Gate("mag_bias", "r_mag")), &[]),
        "AutoEncoderTopK" => (linear("encoder.bias", "b_dec", Further::None), &["k", "threshold"]),
        "BatchTopKSAE" => (linear("encoder.bias", "b_dec", Further::OneThreshold("threshold")), &["k"]),
        "MatryoshkaBatchTopKSAE" => (
            Layout { extra: Further::OneThreshold("threshold"), ..Layout::saelens(Activation::JumpRelu) },
            &["k", "group_sizes"],
        ),
        _ => (Layout::saelens(Activation::JumpRelu), &[]),
    }
}

/// A class whose matrices are those of `nn.Linear`.
fn linear(b_enc: &'static str, b_dec: &'static str, extra: Further) -> Layout {
    let (w_enc, w_dec) = (Matrix::Rows("encoder.weight"), Matrix::Columns("decoder.weight"));
    Layout { w_enc, b_enc, w_dec, b_dec, extra, w_skip: None }
}

/// The class by the names of the tensors, where they tell.
fn class_of(file: &TensorFile) -> Result<&'static str> {
    let has = |name| file.has(name);
    if has("k") && has("encoder.weight") {
        let why =
            "may be of top-k or of batch top-k, which the file alone does not tell; give its folder with `config.json`";
        return Err(file.error(why));
    }
    let signs = [
        ("gate_bias", "GatedAutoEncoder"),
        ("group_sizes", "MatryoshkaBatchTopKSAE"),
        ("threshold", "JumpReluAutoEncoder"),
        ("decoder.bias", "AutoEncoderNew"),
        ("bias", "AutoEncoder"),
    ];
    let found = signs.into_iter().find(|(name, _)| has(name)).map(|(_, class)| class);
    found.ok_or_else(|| file.error(format!("has the tensors of none of {}", CLASSES.join(", "))))
}

/// How many latents are active; older files say it in the config alone.
fn k(file: &TensorFile, trainer: Option<&Config>) -> Result<usize> {
    if !file.has("k") {
        return trainer.map_or_else(|| Err(file.error("tensor `k` is missing")), |trainer| trainer.count("k"));
    }
    let k = file.scalar("k")?;
    // Exact up to 2^24, which is more than there are latents; the cast of anything else gives what is refused later.
    Ok(k as usize)
}

/// The places whose submodules the demos of dictionary_learning give a name, and their hooks here.
const PLACES: [(&str, &str); 4] = [
    ("resid_post", "hook_resid_post"),
    ("attention_out", "hook_attn_out"),
    ("attn_out", "hook_attn_out"),
    ("mlp_out", "hook_mlp_out"),
];

/// The hook, by such a name, or by its own, as it is written here.
fn hook(trainer: &Config) -> Option<String> {
    let name = trainer.get("submodule_name").and_then(Value::as_str)?;
    if name.starts_with("blocks.") {
        return Some(name.to_owned());
    }
    let (place, layer) = name.split_once("_layer_")?;
    let layer: u32 = layer.parse().ok()?;
    let (_, hook) = PLACES.into_iter().find(|(known, _)| *known == place)?;
    Some(format!("blocks.{layer}.{hook}"))
}

/// The layer of a hook, and the name of its submodule.
fn submodule(hook: &str) -> (Option<u32>, String) {
    let parts = hook.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    let Some((layer, place)) = parts.and_then(|(layer, place)| Some((layer.parse().ok()?, place))) else {
        return (None, hook.to_owned());
    };
    let named = PLACES.into_iter().find(|(_, known)| *known == place);
    (Some(layer), named.map_or_else(|| hook.to_owned(), |(name, _)| format!("{name}_layer_{layer}")))
}

/// Writes an autoencoder into a folder that exists. `said` is what `config.json` is to say besides how it computes, by section.
///
/// # Errors
/// When dictionary_learning has no such class, or a file cannot be written.
pub(crate) fn save(sae: &Sae, hook: &str, mut said: Map<String, Value>, folder: &Path) -> Result<()> {
    // Of each class: the trainer that makes it, and whether it subtracts b_dec from the input.
    let (class, trainer, subtracts) = match (sae.activation(), sae.apply_b_dec_to_input()) {
        (Activation::Relu, true) => ("AutoEncoder", "StandardTrainer", true),
        (Activation::Relu, false) => ("AutoEncoderNew", "StandardTrainerAprilUpdate", false),
        (Activation::Gated, _) => ("GatedAutoEncoder", "GatedSAETrainer", true),
        (Activation::TopK { .. }, _) => ("AutoEncoderTopK", "TopKTrainer", true),
        (Activation::JumpRelu, _) => ("JumpReluAutoEncoder", "JumpReluTrainer", false),
        (other @ (Activation::TopAfa | Activation::MatchingPursuit(_)), _) => {
            return Err(Error::Data(format!("dictionary_learning has no class like {}", other.architecture())));
        }
    };
    let plain = write::plain_topk(sae)?;
    let sae = write::subtracting_b_dec(&plain, subtracts)?;
    let weights = sae.weights();
    let k = if let Activation::TopK { k, .. } = sae.activation() { Some(k) } else { None };

    let (layer, submodule) = submodule(hook);
    let fields = json!({
        "dict_class": class,
        "activation_dim": weights.d_in,
        "dict_size": weights.d_sae,
        "layer": layer,
        "submodule_name": submodule,
        "device": "cpu",
    });
    if let (Some(Value::Object(section)), Value::Object(fields)) = (said.get_mut("trainer"), fields) {
        // What was loaded as this class has the trainer that made it.
        if section.get("dict_class") != Some(&Value::from(class)) {
            section.insert("trainer_class".to_owned(), trainer.into());
        }
        section.extend(fields);
        section.extend(k.map(|k| ("k".to_owned(), k.into())));
    }
    let path = folder.join(CONFIG);
    fs::write(&path, Value::Object(said).to_string()).map_err(Error::io(&path))?;

    let (layout, _) = layout(class);
    let tensors = layout.tensors(weights);
    let f32s = tensors.iter().map(|(name, shape, numbers)| torch::Given {
        name,
        number: Number::F32,
        shape: shape.clone(),
        bytes: bytemuck::cast_slice(numbers),
    });
    let mut given: Vec<torch::Given<'_>> = f32s.collect();
    // Buffers of top-k: how many, and the threshold that could stand for them, which there is not.
    let (k, none) = (k.map(|k| (k as i32).to_le_bytes()), (-1.0f32).to_le_bytes());
    if let Some(k) = &k {
        let buffer = |name, number, bytes| torch::Given { name, number, shape: Vec::new(), bytes };
        given.extend([buffer("k", Number::I32, &k[..]), buffer("threshold", Number::F32, &none[..])]);
    }
    let path = folder.join(WEIGHTS);
    let file = File::create(&path).map_err(Error::io(&path))?;
    torch::write(BufWriter::new(file), &given).map_err(Error::io(&path))
}
