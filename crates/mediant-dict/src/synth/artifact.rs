//! The truth as a `dictionary` artifact: the features, and everything their firing follows from.

use mediant_artifact::{Artifact, ArtifactWriter, DType, DictionaryMeta, DictionaryReader, DictionaryWriter, Manifest};
use serde_json::json;

use super::{ARCHITECTURE, HOOK, SynthConfig, Synthetic};
use crate::{Error, Result};

const FEATURES: &str = "feature_vectors";
const BIAS: &str = "bias";

/// Writes a generator. Tensors have SAELens' names (`SyntheticModel.save`), and two more hold the magnitudes.
///
/// # Errors
/// When it cannot be written.
pub fn write(artifact: ArtifactWriter, generator: &Synthetic) -> Result<Manifest> {
    // Whether the vectors are kept says nothing of the truth.
    let config = &SynthConfig { cache: true, ..generator.config().clone() };
    let firing = generator.firing();
    let (n, width) = (config.num_features, config.hidden_dim);
    let probabilities: Vec<f32> = firing.probabilities().iter().map(|p| *p as f32).collect();
    let mut writer = DictionaryWriter::new(artifact)?;
    let mut tensor = |name: &str, shape: &[usize], values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.tensor(name, DType::F32, shape, &bytes)
    };
    tensor(FEATURES, &[n, width], generator.features())?;
    tensor(BIAS, &[width], generator.bias())?;
    tensor("firing_probabilities", &[n], &probabilities)?;
    tensor("mean_firing_magnitudes", &[n], firing.means())?;
    tensor("std_firing_magnitudes", &[n], firing.stds())?;
    if config.correlation.is_some() {
        tensor("correlation_factor", &[n, firing.rank()], firing.factors())?;
    }
    Ok(writer.finish(&DictionaryMeta {
        architecture: ARCHITECTURE.to_owned(),
        d_in: width,
        d_sae: n,
        hook: HOOK.to_owned(),
        hook_out: None,
        config: json!(config),
        model: None,
    })?)
}

/// Reads a generator: features as they are stored, what is cheap to draw from the seed.
///
/// # Errors
/// When the artifact is damaged or not the truth of a synthetic benchmark.
pub fn read(artifact: &Artifact) -> Result<Synthetic> {
    let reader = DictionaryReader::open(artifact)?;
    if reader.meta.architecture != ARCHITECTURE {
        let what = &reader.meta.architecture;
        return Err(Error::Data(format!(
            "a dictionary of architecture `{what}`, not the truth of a synthetic benchmark"
        )));
    }
    let config: SynthConfig = serde_json::from_value(reader.meta.config.clone())
        .map_err(|error| Error::Data(format!("the options of the generator: {error}")))?;
    if let Err(wrong) = config.check() {
        let wrong = wrong.into_iter().map(|wrong| format!("{} {}", wrong.path, wrong.message)).collect::<Vec<_>>();
        return Err(Error::Data(format!("the options of the generator: {}", wrong.join("; "))));
    }
    let tensor = |name: &str, shape: &[usize]| {
        let tensor = reader.tensors.get(name)?;
        if tensor.shape != shape {
            return Err(Error::Data(format!("tensor `{name}` has shape {:?}, not {shape:?}", tensor.shape)));
        }
        Ok(tensor.to_f32()?)
    };
    let features = tensor(FEATURES, &[config.num_features, config.hidden_dim])?;
    let bias = tensor(BIAS, &[config.hidden_dim])?;
    Ok(Synthetic::new(config, features, bias))
}
