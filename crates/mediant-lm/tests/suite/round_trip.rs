//! Folder → artifact → device → artifact → folder.

use std::fs;

use mediant_artifact::{Artifact, Digest, Kind, ModelReader, ModelTokenizer, Processing};
use mediant_lm::{Batch, HfFolder, Hooks, Model, export, facts_from_dir, load, save};
use mediant_tensor::Flex;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use super::support::{fixture, imported, llama_json, new_writer, random_ids, random_model};

fn bits(model: &Model<Flex>) -> Vec<(String, Vec<u32>)> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    model.parameters().into_iter().map(|(slot, p)| (slot.to_string(), bits(p.into_values()))).collect()
}

#[test]
fn export_gives_back_the_checkpoint() {
    for name in ["gpt2", "llama"] {
        let work = TempDir::new().unwrap();
        let artifact = imported(&fixture(name), &work.path().join("a"));
        export(&artifact, &work.path().join("hf")).unwrap();
        // Made by the safetensors library from the same tensors; only the order of names in the header may differ.
        let read = |folder: &std::path::Path| fs::read(folder.join("model.safetensors")).unwrap();
        let (theirs, ours) = (read(&fixture(name)), read(&work.path().join("hf")));
        let (theirs, ours) = (SafeTensors::deserialize(&theirs).unwrap(), SafeTensors::deserialize(&ours).unwrap());
        assert_eq!(ours.len(), theirs.len());
        for (name, tensor) in theirs.tensors() {
            let our = ours.tensor(&name).unwrap();
            assert_eq!((our.dtype(), our.shape(), our.data()), (tensor.dtype(), tensor.shape(), tensor.data()));
        }
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(
                fs::read(work.path().join("hf").join(file)).unwrap(),
                fs::read(fixture(name).join(file)).unwrap()
            );
        }
        // And once more around: the same artifact.
        let again = imported(&work.path().join("hf"), &work.path().join("b"));
        assert_eq!(again.manifest(), artifact.manifest());
    }
}

#[test]
fn a_model_saved_from_a_device_is_the_same_model() {
    for name in ["gpt2", "llama"] {
        let work = TempDir::new().unwrap();
        let artifact = imported(&fixture(name), &work.path().join("a"));
        let model: Model<Flex> = load(&artifact, &Default::default()).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
        let tokenizer = b"{}".to_vec();
        let writer = new_writer(&work.path().join("b"), Kind::Model).unwrap();
        save(&model, &config, &[("tokenizer.json", tokenizer.clone())], writer).unwrap();
        let saved = Artifact::open(&work.path().join("b")).unwrap();
        let back: Model<Flex> = load(&saved, &Default::default()).unwrap();
        assert_eq!(bits(&back), bits(&model));
        let (before, after) = (ModelReader::open(&artifact).unwrap(), ModelReader::open(&saved).unwrap());
        assert!(after.tensors.names().eq(before.tensors.names()));
        for name in before.tensors.names() {
            assert_eq!(after.tensors.get(name).unwrap(), before.tensors.get(name).unwrap());
        }
        assert_eq!(after.meta.tokenizer, Some(Digest::of(&tokenizer)));
        assert_eq!(after.meta.config, config);
    }
}

#[test]
fn facts_come_from_config_and_header() {
    let facts = facts_from_dir(&fixture("llama"), Processing::default()).unwrap();
    assert_eq!((facts.n_layers, facts.d_model, facts.n_heads, facts.n_kv_heads, facts.d_head), (3, 48, 6, 2, 8));
    assert_eq!((facts.d_mlp, facts.vocab_size, facts.context, facts.tokenizer), (112, 211, 64, ModelTokenizer::Absent));
    assert_eq!(facts.hook("blocks.2.attn.hook_k").unwrap().shape, [2, 8]);
    assert_eq!(facts.hook("blocks.0.attn.hook_pattern").unwrap().shape, [6, 64]);
    assert!(facts.hook("blocks.3.hook_resid_pre").is_none());
    let file = fs::read(fixture("llama").join("model.safetensors")).unwrap();
    let numbers = SafeTensors::deserialize(&file).unwrap().iter().map(|(_, t)| t.data().len() as u64 / 4).sum::<u64>();
    assert_eq!(facts.parameters, numbers);

    let work = TempDir::new().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("llama").join(file), work.path().join(file)).unwrap();
    }
    fs::write(work.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(
        facts_from_dir(work.path(), Processing::default()).unwrap().tokenizer,
        ModelTokenizer::Known(Digest::of(b"{}"))
    );
}

#[test]
fn a_new_model_survives_export_with_its_losses() {
    let config = llama_json(2, 40, 4, 2, 50, 30);
    let model = random_model(&config, 3);
    let work = TempDir::new().unwrap();
    let writer = new_writer(&work.path().join("a"), Kind::Model).unwrap();
    save(&model, &config, &[], writer).unwrap();
    export(&Artifact::open(&work.path().join("a")).unwrap(), &work.path().join("hf")).unwrap();
    assert_eq!(HfFolder::open(&work.path().join("hf")).unwrap().config(), model.config());
    let back: Model<Flex> =
        load(&imported(&work.path().join("hf"), &work.path().join("b")), &Default::default()).unwrap();
    let ids = random_ids(50, 30, 1);
    let losses = |model: &Model<Flex>| {
        let batch = Batch::new(model.config(), &[&ids], &model.device()).unwrap();
        model.losses(&batch, Hooks::none()).unwrap()
    };
    assert_eq!(losses(&back), losses(&model));
}
