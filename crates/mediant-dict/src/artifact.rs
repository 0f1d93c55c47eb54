//! Autoencoders as `dictionary` artifacts.
//!
//! Tensors have SAELens' names and shapes (W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc, b_dec, …) in the inference
//! form, so that an exported folder is a copy of them.

use std::path::Path;

use mediant_artifact::{
    Artifact, ArtifactWriter, CurveRow, DType, DictionaryMeta, DictionaryReader, DictionaryWriter, Digest, Manifest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::format::saelens::{self, HOOK_OUT, Metadata};
use crate::format::{self, Foreign, Format, Held, dictionary_learning, gemma_scope, sparsify, tensors};
use crate::train::Trained;
use crate::{Activation, AuxLoss, BatchChoice, Error, InputNorm, JumpRelu, Objective, Result, Sae, Sparsity, Training};

/// The `config` of a dictionary's meta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    activation: Activation,
    apply_b_dec_to_input: bool,
    #[serde(default, skip_serializing_if = "InputNorm::is_none")]
    input_norm: InputNorm,
    /// Whether there is a W_skip.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    skip: bool,
    /// Every option of the training, and what it came to know; null if it was loaded.
    training: Value,
    facts: Value,
    /// What SAELens' `cfg.json` says of the data.
    context_size: Option<usize>,
    prepend_bos: Option<bool>,
    /// Where it was loaded from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loaded: Option<Loaded>,
}

/// The files that a dictionary was loaded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Loaded {
    format: Format,
    /// What they say besides how to compute, as they say it.
    said: Map<String, Value>,
}

/// Where the activations of a training came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The hook.
    pub hook: String,
    /// The hook whose activations a transcoder makes of them.
    pub hook_out: Option<String>,
    /// Logical digest of the model.
    pub model: Digest,
    /// Longest sequence.
    pub context: usize,
    /// Whether sequences begin with BOS.
    pub prepend_bos: bool,
}

/// Writes a trained autoencoder with its curve.
///
/// # Errors
/// When it cannot be written.
pub fn write(artifact: ArtifactWriter, trained: &Trained, training: &Training, origin: &Origin) -> Result<Manifest> {
    let config = Config {
        activation: trained.sae.activation(),
        apply_b_dec_to_input: trained.sae.apply_b_dec_to_input(),
        input_norm: trained.sae.input_norm(),
        skip: trained.sae.weights().w_skip.is_some(),
        training: json!(training),
        facts: json!(trained.facts),
        context_size: Some(origin.context),
        prepend_bos: Some(origin.prepend_bos),
        loaded: None,
    };
    let hooks = (origin.hook.as_str(), origin.hook_out.as_deref());
    write_parts(artifact, &trained.sae, &trained.curve, &config, hooks, Some(origin.model))
}

/// Writes a dictionary of another tool: its parameters and what its files say, a transcoder if there is a hook that it
/// writes. `model` is the one whose activations it is said to read.
///
/// # Errors
/// When it cannot be read or written.
pub fn write_loaded(
    artifact: ArtifactWriter,
    foreign: &Foreign,
    hooks: (&str, Option<&str>),
    model: Option<Digest>,
) -> Result<Manifest> {
    let sae = foreign.load()?;
    let said = |name: &str| foreign.said.get(name);
    let config = Config {
        activation: sae.activation(),
        apply_b_dec_to_input: sae.apply_b_dec_to_input(),
        input_norm: sae.input_norm(),
        skip: foreign.skips(),
        training: Value::Null,
        facts: Value::Null,
        context_size: said("context_size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()),
        prepend_bos: said("prepend_bos").and_then(Value::as_bool),
        loaded: Some(Loaded { format: foreign.format, said: foreign.said.clone() }),
    };
    write_parts(artifact, &sae, &[], &config, hooks, model)
}

fn write_parts(
    artifact: ArtifactWriter,
    sae: &Sae,
    curve: &[CurveRow],
    config: &Config,
    (hook, hook_out): (&str, Option<&str>),
    model: Option<Digest>,
) -> Result<Manifest> {
    let weights = sae.weights();
    let mut writer = DictionaryWriter::new(artifact)?;
    for (name, shape, values) in tensors::named(weights) {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.tensor(name, DType::F32, &shape, &bytes)?;
    }
    writer.curve(curve)?;
    Ok(writer.finish(&DictionaryMeta {
        architecture: sae.activation().architecture().to_owned(),
        d_in: weights.d_in,
        d_sae: weights.d_sae,
        hook: hook.to_owned(),
        hook_out: hook_out.map(str::to_owned),
        d_out: hook_out.map(|_| weights.d_out),
        config: json!(config),
        model,
    })?)
}

/// Reads an autoencoder.
///
/// # Errors
/// When the artifact is of another kind, damaged, or of an architecture that is not read here.
pub fn read(artifact: &Artifact) -> Result<(Sae, DictionaryMeta)> {
    let reader = DictionaryReader::open(artifact)?;
    let config = config(&reader.meta)?;
    let DictionaryMeta { d_in, d_sae, d_out, .. } = reader.meta;
    let sizes = tensors::Sizes { d_in, d_out: d_out.unwrap_or(d_in), d_sae, skip: config.skip };
    let tensor = |name: &str, shape: &[usize]| {
        let tensor = reader.tensors.get(name)?;
        if tensor.shape != shape {
            return Err(Error::Data(format!(
                "tensor `{name}` of the dictionary has shape {:?}, not {shape:?}",
                tensor.shape
            )));
        }
        Ok(tensor.to_f32()?)
    };
    let weights = tensors::weights(config.activation, sizes, tensor)?;
    let sae = Sae::new(weights, config.activation, config.apply_b_dec_to_input)?.with_input_norm(config.input_norm)?;
    Ok((sae, reader.meta))
}

/// Writes a dictionary artifact into a folder, which is made, in a format of another tool; with decoder rows of norm 1 if
/// `fold_decoder_norms` asks for them.
///
/// # Errors
/// As [`read`]; when the format has no place for it; or when a file cannot be written.
pub fn export(artifact: &Artifact, format: Format, fold_decoder_norms: bool, folder: &Path) -> Result<()> {
    let (mut sae, meta) = read(artifact)?;
    let held = Held {
        architecture: sae.activation().architecture(),
        d_in: meta.d_in,
        d_out: meta.d_out,
        skips: sae.weights().w_skip.is_some(),
        input_norm: sae.input_norm().given(),
    };
    if let Some((why, help)) = format::refusal(format, held) {
        return Err(Error::Data(format!("{why}; {help}")));
    }
    if fold_decoder_norms {
        sae = format::fold_decoder_norms(&sae)?;
    }
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    match format {
        Format::Sparsify => sparsify::save(&sae, meta.hook_out.is_some(), folder),
        Format::GemmaScope => gemma_scope::save(&sae, folder),
        Format::DictionaryLearning => {
            let said = sections(&meta)?;
            dictionary_learning::save(&sae, &meta.hook, said, folder)
        }
        Format::Saelens => saelens::save(&sae, &metadata(meta)?, folder),
    }
}

/// What SAELens' `cfg.json` is to say.
fn metadata(meta: DictionaryMeta) -> Result<Metadata> {
    let config = config(&meta)?;
    let with_hooks = |metadata: Metadata| {
        let metadata = metadata.with("hook_name", meta.hook);
        match meta.hook_out {
            Some(out) => metadata.with(HOOK_OUT, out),
            None => metadata,
        }
    };
    if let Some(Loaded { format: Format::Saelens, said }) = config.loaded {
        return Ok(with_hooks(Metadata::of(said)));
    }
    let mut metadata = with_hooks(Metadata::default());
    if let Some(context) = config.context_size {
        metadata = metadata.with("context_size", context);
    }
    if let Some(prepend_bos) = config.prepend_bos {
        metadata = metadata.with("prepend_bos", prepend_bos);
    }
    if config.training.is_null() {
        return Ok(metadata);
    }
    let part: Part = serde_json::from_value(config.training)
        .map_err(|error| Error::Data(format!("the training options of the dictionary: {error}")))?;
    metadata = metadata.with("training_architecture", part.objective.saelens_name());
    Ok(metadata.with("training_architecture_details", training_details(&part)))
}

/// What dictionary_learning's `config.json` is to say besides how it computes: of the training, and of its data.
fn sections(meta: &DictionaryMeta) -> Result<Map<String, Value>> {
    let config = config(meta)?;
    if let Some(Loaded { format: Format::DictionaryLearning, said }) = config.loaded
        && said.contains_key("trainer")
    {
        return Ok(said);
    }
    // dictionary_learning names the model here, of which a digest is known.
    let mut trainer = json!({ "lm_name": null });
    for (name, path) in [("lr", "/lr/lr"), ("steps", "/steps"), ("seed", "/seed")] {
        if let Some(value) = config.training.pointer(path) {
            trainer[name] = value.clone();
        }
    }
    let buffer = json!({ "d_submodule": meta.d_in, "io": "out", "ctx_len": config.context_size });
    Ok(Map::from_iter([("trainer".to_owned(), trainer), ("buffer".to_owned(), buffer)]))
}

fn config(meta: &DictionaryMeta) -> Result<Config> {
    serde_json::from_value(meta.config.clone())
        .map_err(|error| Error::Data(format!("the config of the dictionary: {error}")))
}

/// Options that SAELens has not, by the names that they have here; none of a training as SAELens does it.
fn with<const N: usize>(mut details: Value, others: [Option<(&str, Value)>; N]) -> Value {
    others.into_iter().flatten().for_each(|(name, value)| details[name] = value);
    details
}

fn aux_loss(form: AuxLoss) -> Option<(&'static str, Value)> {
    (!form.is_saelens()).then(|| ("aux_loss", json!(form)))
}

/// The training options that SAELens keeps, by its names.
fn training_details(part: &Part) -> Value {
    let decoder_init_norm = part.decoder_init_norm;
    let choice = |choice: &BatchChoice| {
        let details = json!({
            "decoder_init_norm": decoder_init_norm,
            "k": choice.k,
            "use_sparse_activations": true,
            "aux_loss_coefficient": choice.aux_loss_coefficient,
            "rescale_acts_by_decoder_norm": choice.rescale_acts_by_decoder_norm,
            "topk_threshold_lr": choice.threshold_lr,
        });
        let start = choice.threshold_start_step.map(|step| ("topk_threshold_start_step", step.into()));
        with(details, [aux_loss(choice.aux_loss), start])
    };
    match &part.objective {
        Objective::Relu { l1, l1_warm_up_steps } => json!({
            "decoder_init_norm": decoder_init_norm,
            "l1_coefficient": l1,
            "lp_norm": 1.0,
            "l1_warm_up_steps": l1_warm_up_steps,
        }),
        Objective::Gated { l1, l1_warm_up_steps, detach_decoder } => {
            let details = json!({
                "decoder_init_norm": decoder_init_norm,
                "l1_coefficient": l1,
                "l1_warm_up_steps": l1_warm_up_steps,
            });
            with(details, [detach_decoder.then(|| ("gated_detach_decoder", true.into()))])
        }
        Objective::TopK { aux_loss_coefficient, aux_loss: form, .. } => {
            let details = json!({
                "decoder_init_norm": decoder_init_norm,
                "use_sparse_activations": true,
                "aux_loss_coefficient": aux_loss_coefficient,
            });
            with(details, [aux_loss(*form)])
        }
        Objective::BatchTopK { choice: of } => choice(of),
        Objective::Matryoshka { choice: of, widths, aux_by_width } => {
            let mut details = choice(of);
            details["matryoshka_widths"] = widths.iter().chain([&part.d_sae]).copied().collect();
            details["use_matryoshka_aux_loss"] = (*aux_by_width).into();
            details
        }
        Objective::JumpRelu(JumpRelu {
            l0,
            l0_warm_up_steps,
            threshold_init,
            bandwidth,
            sparsity,
            ste_to_input,
            pre_act_loss_coefficient,
        }) => {
            let (mode, tanh_scale, target_l0) = match *sparsity {
                Sparsity::Step => ("step", 4.0, None),
                Sparsity::Tanh { scale } => ("tanh", scale, None),
                Sparsity::Quadratic { target_l0 } => ("quadratic", 4.0, Some(target_l0)),
                Sparsity::Relative { target_l0 } => ("relative", 4.0, Some(target_l0)),
            };
            json!({
                "decoder_init_norm": decoder_init_norm,
                "jumprelu_init_threshold": threshold_init,
                "jumprelu_bandwidth": bandwidth,
                "jumprelu_sparsity_loss_mode": mode,
                "l0_coefficient": l0,
                "l0_warm_up_steps": l0_warm_up_steps,
                "pre_act_loss_coefficient": pre_act_loss_coefficient,
                "jumprelu_tanh_scale": tanh_scale,
                "jumprelu_ste_to_input": ste_to_input,
                "target_l0": target_l0,
            })
        }
        Objective::MatchingPursuit(_) => json!({ "decoder_init_norm": decoder_init_norm }),
        // Its files are not written.
        Objective::TopAfa(_) => Value::Null,
    }
}

/// Of the training options, those that SAELens keeps too.
#[derive(Deserialize)]
struct Part {
    objective: Objective,
    d_sae: usize,
    decoder_init_norm: Option<f64>,
}
