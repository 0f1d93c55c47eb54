//! The many forms that a checkpoint of one model may have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use mediant_lm::{Batch, HfFolder, Hooks, Model, export, load};
use mediant_tensor::Flex;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Expected, difference, fixture, imported};

/// A tensor on its way to a file.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Checkpoint = BTreeMap<String, Held>;

pub(crate) fn checkpoint(name: &str) -> Checkpoint {
    let file = fs::read(fixture(name).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
    tensors
        .into_iter()
        .map(|(name, t)| (name, Held { dtype: t.dtype(), shape: t.shape().to_vec(), bytes: t.data().to_vec() }))
        .collect()
}

fn write(path: &Path, tensors: &Checkpoint) {
    let views = tensors.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

/// A folder with the fixture's config, changed, and these weights in one file.
pub(crate) fn folder(name: &str, changes: Value, tensors: &Checkpoint) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    write(&folder.path().join("model.safetensors"), tensors);
    folder
}

fn losses(hf: &Path, name: &str) -> Vec<f32> {
    let work = TempDir::new().unwrap();
    let model: Model<Flex> = load(&imported(hf, work.path()), &Default::default()).unwrap();
    let batch = Batch::new(model.config(), &Expected::of(name).sequences(), &model.device()).unwrap();
    model.losses(&batch, Hooks::none()).unwrap()
}

#[test]
fn names_with_and_without_prefix_and_old_buffers() {
    for (name, prefix, buffer) in
        [("gpt2", "transformer.", "h.0.attn.bias"), ("llama", "model.", "layers.0.self_attn.rotary_emb.inv_freq")]
    {
        let bare = checkpoint(name).into_iter().map(|(name, t)| (name.trim_start_matches(prefix).to_owned(), t));
        let mut bare: Checkpoint = bare.collect();
        bare.insert(buffer.to_owned(), Held { dtype: Dtype::U8, shape: vec![1, 1, 2, 2], bytes: vec![1, 0, 1, 1] });
        let folder = folder(name, json!({}), &bare);
        assert_eq!(losses(folder.path(), name), losses(&fixture(name), name));
    }
}

#[test]
fn shards_are_one_model() {
    let all = checkpoint("llama");
    let folder = folder("llama", json!({}), &all);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let file = |i: usize| format!("model-{:05}-of-00003.safetensors", i % 3 + 1);
    for shard in 0..3 {
        let part = all.clone().into_iter().enumerate().filter(|(i, _)| i % 3 == shard).map(|(_, t)| t).collect();
        write(&folder.path().join(file(shard)), &part);
    }
    let map: BTreeMap<_, _> = all.keys().enumerate().map(|(i, name)| (name.clone(), file(i))).collect();
    let index = folder.path().join("model.safetensors.index.json");
    let write_index = |map: &BTreeMap<String, String>| {
        fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    };
    write_index(&map);
    assert_eq!(losses(folder.path(), "llama"), losses(&fixture("llama"), "llama"));

    let refused = |map: &BTreeMap<String, String>| {
        write_index(map);
        HfFolder::open(folder.path()).unwrap_err().to_string()
    };
    let mut moved = map.clone();
    moved.insert("lm_head.weight".to_owned(), file(1));
    assert!(refused(&moved).contains("do not agree on tensor `lm_head.weight`"));
    let mut outside = map.clone();
    outside.insert("lm_head.weight".to_owned(), "../elsewhere.safetensors".to_owned());
    assert!(refused(&outside).contains("not the name of a file beside it"));
    write_index(&map);
    fs::remove_file(folder.path().join(file(2))).unwrap();
    assert!(HfFolder::open(folder.path()).unwrap_err().to_string().contains(&file(2)));
}

/// A tensor rounded to another format by us: kept so, and widened again.
fn rounded(tensor: &Held, dtype: Dtype) -> (Held, Held) {
    let full = tensor.bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let (kept, widened): (Vec<Vec<u8>>, Vec<[u8; 4]>) = match dtype {
        Dtype::F16 => full.map(f16::from_f32).map(|x| (x.to_le_bytes().into(), x.to_f32().to_le_bytes())).unzip(),
        Dtype::BF16 => full.map(bf16::from_f32).map(|x| (x.to_le_bytes().into(), x.to_f32().to_le_bytes())).unzip(),
        _ => full.map(|x| (x.to_le_bytes().into(), x.to_le_bytes())).unzip(),
    };
    let held = |dtype, bytes| Held { dtype, shape: tensor.shape.clone(), bytes };
    (held(dtype, kept.concat()), held(Dtype::F32, widened.concat()))
}

#[test]
fn half_precision_weights_are_computed_with_in_f32() {
    let formats = [[Dtype::F16; 3], [Dtype::BF16; 3], [Dtype::BF16, Dtype::F32, Dtype::F16]];
    for (formats, name) in formats.iter().flat_map(|f| super::hostile_configs::FIXTURES.map(|name| (f, name))) {
        // The pieces of one parameter have several formats in the mixed case.
        let tensors = checkpoint(name).into_iter().zip(formats.iter().cycle());
        let both = tensors.map(|((name, tensor), format)| (name, rounded(&tensor, *format)));
        let both: Vec<_> = both.collect();
        let halved: Checkpoint = both.iter().map(|(name, (kept, _))| (name.clone(), kept.clone())).collect();
        let widened: Checkpoint = both.into_iter().map(|(name, (_, widened))| (name, widened)).collect();
        let folder = folder(name, json!({}), &halved);
        let losses_of_halved = losses(folder.path(), name);
        assert_eq!(losses_of_halved, losses(self::folder(name, json!({}), &widened).path(), name));
        assert!(difference(&losses_of_halved, &losses(&fixture(name), name)) > 0.0, "rounding leaves a trace");
        // Formats are kept on the way into the artifact and out of it.
        let work = TempDir::new().unwrap();
        export(&imported(folder.path(), &work.path().join("a")), &work.path().join("hf")).unwrap();
        let bytes = fs::read(work.path().join("hf/model.safetensors")).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            assert_eq!((tensor.dtype(), tensor.data()), (halved[&name].dtype, halved[&name].bytes.as_slice()));
        }
    }
}

#[test]
fn tied_and_untied_unembeddings() {
    // An untied GPT-2 whose unembedding is its embedding computes what the tied one does.
    let mut tensors = checkpoint("gpt2");
    tensors.insert("lm_head.weight".to_owned(), tensors["transformer.wte.weight"].clone());
    let tied = losses(&fixture("gpt2"), "gpt2");
    assert_eq!(losses(folder("gpt2", json!({"tie_word_embeddings": false}), &tensors).path(), "gpt2"), tied);
    // Tied checkpoints may hold the copy too, but not another matrix.
    assert_eq!(losses(folder("gpt2", json!({}), &tensors).path(), "gpt2"), tied);
    tensors.get_mut("lm_head.weight").unwrap().bytes[3] ^= 1;
    let error = HfFolder::open(folder("gpt2", json!({}), &tensors).path()).unwrap_err().to_string();
    assert!(error.contains("tie_word_embeddings"), "{error}");
    // A tied Llama needs no lm_head.
    let mut tensors = checkpoint("llama");
    tensors.remove("lm_head.weight");
    losses(folder("llama", json!({"tie_word_embeddings": true}), &tensors).path(), "llama");
    let error = HfFolder::open(folder("llama", json!({}), &tensors).path()).unwrap_err().to_string();
    assert!(error.contains("lacks `lm_head.weight`"), "{error}");
}
