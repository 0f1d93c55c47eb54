//! Autoencoders as `dictionary` artifacts.
//!
//! Tensors have SAELens' names and shapes (W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc, b_dec) in the inference
//! form, so that an exported folder is a copy of them.

use mediant_artifact::{
    Artifact, ArtifactWriter, DType, DictionaryMeta, DictionaryReader, DictionaryWriter, Digest, Manifest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::format::saelens::{self, Metadata};
use crate::product::transposed;
use crate::train::Trained;
use crate::{Activation, Error, Objective, Result, Sae, Training, Weights};

/// The `config` of a dictionary's meta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    activation: Activation,
    apply_b_dec_to_input: bool,
    /// Every option of the training, and what it came to know.
    training: Value,
    facts: Value,
    /// What SAELens' `cfg.json` says of the data.
    context_size: usize,
    prepend_bos: bool,
}

/// Where the activations of a training came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The hook.
    pub hook: String,
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
    let weights = trained.sae.weights();
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let mut writer = DictionaryWriter::new(artifact)?;
    let mut tensor = |name: &str, shape: &[usize], data: &[f32]| {
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.tensor(name, DType::F32, shape, &bytes)
    };
    tensor("W_enc", &[d_in, d_sae], &transposed(&weights.w_enc, d_sae, d_in))?;
    tensor("b_enc", &[d_sae], &weights.b_enc)?;
    tensor("W_dec", &[d_sae, d_in], &weights.w_dec)?;
    tensor("b_dec", &[d_in], &weights.b_dec)?;
    writer.curve(&trained.curve)?;
    let config = Config {
        activation: trained.sae.activation(),
        apply_b_dec_to_input: trained.sae.apply_b_dec_to_input(),
        training: json!(training),
        facts: json!(trained.facts),
        context_size: origin.context,
        prepend_bos: origin.prepend_bos,
    };
    Ok(writer.finish(&DictionaryMeta {
        architecture: trained.sae.activation().architecture().to_owned(),
        d_in,
        d_sae,
        hook: origin.hook.clone(),
        hook_out: None,
        config: json!(config),
        model: origin.model,
    })?)
}

/// Reads an autoencoder.
///
/// # Errors
/// When the artifact is of another kind, damaged, or of an architecture that is not read here.
pub fn read(artifact: &Artifact) -> Result<(Sae, DictionaryMeta)> {
    let reader = DictionaryReader::open(artifact)?;
    let config = config(&reader.meta)?;
    let (d_in, d_sae) = (reader.meta.d_in, reader.meta.d_sae);
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
    let weights = Weights {
        d_in,
        d_sae,
        w_enc: transposed(&tensor("W_enc", &[d_in, d_sae])?, d_in, d_sae),
        b_enc: tensor("b_enc", &[d_sae])?,
        w_dec: tensor("W_dec", &[d_sae, d_in])?,
        b_dec: tensor("b_dec", &[d_in])?,
    };
    Ok((Sae::new(weights, config.activation, config.apply_b_dec_to_input)?, reader.meta))
}

/// Writes a dictionary artifact as a SAELens directory.
///
/// # Errors
/// As [`read`]; or when a file cannot be written.
pub fn export_saelens(artifact: &Artifact, folder: &std::path::Path) -> Result<()> {
    let (sae, meta) = read(artifact)?;
    let config = config(&meta)?;
    let mut metadata = Metadata::default()
        .with("hook_name", meta.hook)
        .with("context_size", config.context_size)
        .with("prepend_bos", config.prepend_bos);
    metadata = metadata.with("training_architecture", saelens::architecture(config.activation));
    metadata = metadata.with("training_architecture_details", training_details(&config.training)?);
    saelens::save(&sae, &metadata, folder)
}

fn config(meta: &DictionaryMeta) -> Result<Config> {
    serde_json::from_value(meta.config.clone())
        .map_err(|error| Error::Data(format!("the config of the dictionary: {error}")))
}

/// The training options that SAELens keeps, by its names.
fn training_details(training: &Value) -> Result<Value> {
    let part: Part = serde_json::from_value(training.clone())
        .map_err(|error| Error::Data(format!("the training options of the dictionary: {error}")))?;
    Ok(match part.objective {
        Objective::Relu { l1, l1_warm_up_steps } => json!({
            "decoder_init_norm": part.decoder_init_norm,
            "l1_coefficient": l1,
            "lp_norm": 1.0,
            "l1_warm_up_steps": l1_warm_up_steps,
        }),
        Objective::TopK { aux_loss_coefficient, .. } => json!({
            "decoder_init_norm": part.decoder_init_norm,
            "use_sparse_activations": true,
            "aux_loss_coefficient": aux_loss_coefficient,
        }),
    })
}

/// Of the training options, those that SAELens keeps too.
#[derive(Deserialize)]
struct Part {
    objective: Objective,
    decoder_init_norm: Option<f64>,
}
