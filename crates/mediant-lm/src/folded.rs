//! Models whose frozen norms are part of the weights: how they are made, and the layout in which they are exported.

use mediant_artifact::{Artifact, ArtifactWriter, DType, Manifest, ModelReader, ModelWriter, Processing};
use serde_json::{Value, json};

use crate::arch::Fields;
use crate::artifact::{finish, stored};
use crate::processing::process;
use crate::{Error, LmConfig, NormStates, Result, Slot};

/// `model_type` of the layout's `config.json`, which stock code must not take for one that it knows.
pub(crate) const MODEL_TYPE: &str = "mediant_folded";

/// Folds the frozen norms of a model into its weights: with σ, γ, β the scale, gain and bias of a norm and W, b what reads
/// it, `b ← b + Wᵀβ`, `W ← diag(γ/σ) W`, after a LayerNorm centred over its inputs. The embedding and the unembedding become
/// two matrices, the latter with a bias after a LayerNorm. One block is in memory at a time.
///
/// # Errors
/// If the artifact is no model, some of its norms are live or none exist, and whatever writing gives.
pub fn fold_norms(artifact: &Artifact, to: ArtifactWriter) -> Result<Manifest> {
    let reader = ModelReader::open(artifact)?;
    let before = LmConfig::of_artifact(&reader.meta)?;
    let after = before.folded()?;
    let mut writer = ModelWriter::new(to)?;
    let read = |slot| {
        let slot = if slot == Slot::Unembed && before.tied { Slot::Embed } else { slot };
        match before.has(slot) {
            true => stored(&reader, &before, slot),
            false => Ok(vec![0.0; slot.shape(&after).iter().product()]),
        }
    };
    process(&before, &after, read, |slot, values| {
        let name = slot.to_string();
        Ok::<_, Error>(writer.tensor(&name, DType::F32, &slot.shape(&after), bytemuck::cast_slice(values))?)
    })?;
    let files = reader.files.names().filter_map(|name| Some((name, reader.files.get(name)?.to_vec())));
    finish(writer, &after, &reader.meta.config, &files.collect::<Vec<_>>())
}

impl LmConfig {
    /// What this model is made of once its frozen norms are part of its weights.
    ///
    /// # Errors
    /// [`Error::Weights`] if a norm is live, or there is none.
    pub fn folded(&self) -> Result<Self> {
        if !self.has_norms() {
            return Err(Error::Weights("the norms of this model are part of its weights already".to_owned()));
        }
        if let Some(site) = self.live_sites().first() {
            let why = format!(
                "the norm `{site}` is live: what it divides by depends on the input, and no weight can hold it"
            );
            return Err(Error::Weights(why));
        }
        let processed = self.processed(Processing { fold_ln: true, ..self.processing })?;
        Ok(Self { norms: NormStates::Absent, ..processed })
    }
}

/// The `config.json` of the layout, from that of the model before.
pub(crate) fn config_json(base: &Value, processing: Processing) -> Value {
    json!({ "model_type": MODEL_TYPE, "base": base, "processing": processing })
}

/// The `config.json` of the model before, from that of the layout; any other is what it is.
pub(crate) fn base(config: Value) -> Value {
    match config {
        Value::Object(mut fields) if fields.get("model_type").and_then(Value::as_str) == Some(MODEL_TYPE) => {
            fields.remove("base").unwrap_or_default()
        }
        other => other,
    }
}

/// Reads the `config.json` of the layout.
pub(crate) fn read(fields: &Fields<'_>) -> Result<LmConfig> {
    let missing = |field: &str| Error::config(field, "is missing");
    let base = fields.value("base").ok_or_else(|| missing("base"))?;
    let processing = fields.value("processing").ok_or_else(|| missing("processing"))?;
    let processing: Processing = serde_json::from_value(processing.clone())
        .map_err(|error| Error::config("processing", format!("is {error}")))?;
    fields.finish()?;
    if base.get("model_type").and_then(Value::as_str) == Some(MODEL_TYPE) {
        return Err(Error::config("base", "is a folded model itself"));
    }
    let base = LmConfig::from_json(base)?;
    if !processing.fold_ln || base.post_norms {
        return Err(Error::config("processing", "does not fold the norms that the model is said to be without"));
    }
    Ok(LmConfig { norms: NormStates::Absent, ..base.processed(processing)? })
}
