//! The reference models and what others computed from them; small models of random weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mediant_artifact::{Artifact, ArtifactWriter, Kind, Processing};
use mediant_lm::{HfFolder, LmConfig, Model, NormSite, NormStates, Parameter, import, load};
use mediant_tensor::Flex;
use mediant_tensor::random::{fill_normal, stream};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's model, by way of an artifact.
pub(crate) fn fixture_model(name: &str) -> Model<Flex> {
    let folder = TempDir::new().unwrap();
    load(&imported(&fixture(name), folder.path()), &Default::default()).unwrap()
}

/// A writer into a new folder.
pub(crate) fn new_writer(folder: &Path, kind: Kind) -> mediant_artifact::Result<ArtifactWriter> {
    std::fs::create_dir_all(folder).unwrap();
    ArtifactWriter::create(folder, kind)
}

/// A folder in Hugging Face layout as an artifact.
pub(crate) fn imported(hf: &Path, artifact: &Path) -> Artifact {
    processed(hf, Processing::default(), artifact)
}

/// The same with its weights processed.
pub(crate) fn processed(hf: &Path, processing: Processing, artifact: &Path) -> Artifact {
    let writer = new_writer(artifact, Kind::Model).unwrap();
    import(&HfFolder::open(hf).unwrap(), processing, writer, |_, _| Ok::<_, mediant_lm::Error>(())).unwrap();
    Artifact::open(artifact).unwrap()
}

/// What the Python libraries computed: shapes and numbers by name.
pub(crate) struct Expected {
    pub(crate) ids: Vec<Vec<i32>>,
    pub(crate) arrays: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Expected {
    pub(crate) fn of(name: &str) -> Self {
        let bytes = std::fs::read(fixture(name).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ids = file.tensor("input_ids").unwrap();
        let flat: Vec<i32> = ids.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as i32).collect();
        let floats = file.tensors().into_iter().filter(|(name, _)| name != "input_ids").map(|(name, view)| {
            let numbers = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            (name, (view.shape().to_vec(), numbers))
        });
        Self { ids: flat.chunks(ids.shape()[1]).map(<[i32]>::to_vec).collect(), arrays: floats.collect() }
    }

    pub(crate) fn sequences(&self) -> Vec<&[i32]> {
        self.ids.iter().map(Vec::as_slice).collect()
    }
}

/// The largest difference; equal infinities differ by nothing.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).filter(|(a, b)| a != b);
    pairs
        .map(|(a, b)| {
            let d = (a - b).abs();
            if d.is_nan() { f32::INFINITY } else { d }
        })
        .fold(0.0, f32::max)
}

/// The `config.json` of a small GPT-2.
pub(crate) fn gpt2_json(layers: usize, width: usize, heads: usize, vocabulary: usize, context: usize) -> Value {
    json!({
        "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary,
        "n_positions": context, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5
    })
}

/// The `config.json` of a small Llama.
pub(crate) fn llama_json(
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    context: usize,
) -> Value {
    json!({
        "model_type": "llama", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": 3 * width, "vocab_size": vocabulary,
        "max_position_embeddings": context, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true
    })
}

/// The `config.json` of a small GPT-NeoX.
pub(crate) fn neox_json(layers: usize, width: usize, heads: usize, vocabulary: usize, context: usize) -> Value {
    json!({
        "model_type": "gpt_neox", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "intermediate_size": 3 * width, "vocab_size": vocabulary, "max_position_embeddings": context,
        "hidden_act": "gelu", "rotary_pct": 0.5, "tie_word_embeddings": false
    })
}

/// The `config.json` of a small Gemma 2, with a window of 16 in the first of two layers.
pub(crate) fn gemma2_json(
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    context: usize,
) -> Value {
    json!({
        "model_type": "gemma2", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": 16, "intermediate_size": 3 * width, "vocab_size": vocabulary,
        "max_position_embeddings": context, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "sliding_window": 16, "rope_theta": 10000.0
    })
}

/// A model with random weights, larger than at initialisation so that every part matters.
pub(crate) fn random_model(config: &Value, seed: u64) -> Model<Flex> {
    let config = LmConfig::from_json(config).unwrap();
    let parameters: Vec<_> = config
        .slots()
        .into_iter()
        .map(|slot| {
            let shape = slot.shape(&config);
            let mut values = vec![0.0; shape.iter().product()];
            let gain = slot.to_string().contains("ln") && slot.to_string().ends_with("weight");
            fill_normal(&mut stream(seed, &slot.to_string()), &mut values, if gain { 1.0 } else { 0.0 }, 0.15);
            (slot, Parameter::new(values, &shape, &Default::default()).unwrap())
        })
        .collect();
    Model::new(config, parameters).unwrap()
}

/// The model with these norms frozen, and the others live.
pub(crate) fn freeze(model: &Model<Flex>, scales: BTreeMap<NormSite, f32>) -> Model<Flex> {
    let config = LmConfig { norms: NormStates::Present(scales), ..model.config().clone() };
    Model::new(config, model.parameters()).unwrap()
}

/// The model with all its norms frozen at scales of which no two neighbours are the same.
pub(crate) fn frozen_apart(model: &Model<Flex>) -> Model<Flex> {
    let sites = model.config().norm_sites();
    freeze(model, sites.into_iter().enumerate().map(|(i, site)| (site, 0.6 + 0.15 * (3 * i % 7) as f32)).collect())
}

/// Random token ids.
pub(crate) fn random_ids(vocabulary: usize, len: usize, seed: u64) -> Vec<i32> {
    let mut draws = stream(seed, "ids");
    (0..len).map(|_| mediant_tensor::random::below(&mut draws, vocabulary as u64) as i32).collect()
}
