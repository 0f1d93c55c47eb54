//! Wrong pipelines: each file of `tests/wrong` gets one message that says what, where and what would be right, exit code 2,
//! and leaves nothing behind.

use std::path::Path;

use serde_json::{Value, json};

use super::adder::write_adder;
use super::project::Project;

/// A project with a model, some tokens, and models with something wrong.
fn project() -> Project {
    let project = Project::new();
    project.write("mediant.toml", "");
    project.write("words.txt", "Once upon a time\n");
    project.write("ids.jsonl", "{\"input_ids\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\n");
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-lm/tests/fixtures").join(name);
    let read = |folder: &str, name: &str| std::fs::read(fixture(folder).join(name)).unwrap();
    let (config, weights) = (read("gpt2", "config.json"), read("gpt2", "model.safetensors"));
    let model = |name: &str, config: &[u8], weights: &[u8]| {
        std::fs::create_dir(project.path(name)).unwrap();
        std::fs::write(project.path(name).join("config.json"), config).unwrap();
        std::fs::write(project.path(name).join("model.safetensors"), weights).unwrap();
    };
    model("model", &config, &weights);
    for (name, other) in [("rms", "llama"), ("capped", "gemma2")] {
        model(name, &read(other, "config.json"), &read(other, "model.safetensors"));
    }
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let file = |name: &str| std::fs::read(tiny.join(name)).unwrap();
    model("tiny", &file("config.json"), &file("model.safetensors"));
    std::fs::write(project.path("tiny/tokenizer.json"), file("tokenizer.json")).unwrap();
    let mut ln_free: Value = serde_json::from_slice(&file("config.json")).unwrap();
    // What stock code is given for norms that do not look at their input.
    ln_free["layer_norm_epsilon"] = json!(1e12);
    model("ln-free", &serde_json::to_vec(&ln_free).unwrap(), &file("model.safetensors"));
    std::fs::write(project.path("ln-free/tokenizer.json"), file("tokenizer.json")).unwrap();
    project.write("facts.json", "[{\"prompt\": \"The mother of Ann is\", \"attribute\": \"Eve\", \"subject\": \"Ann\", \"template\": \"The mother of {} is\", \"relation_id\": \"P25\"}]");
    model("truncated", &config, &weights[..weights.len() / 2]);
    model("lying-length", &config, &[&u64::MAX.to_le_bytes(), &weights[8..]].concat());
    let lying = |edit: fn(&mut Value)| with_header(&weights, edit);
    model(
        "lying-offsets",
        &config,
        &lying(|header| header["transformer.wte.weight"]["data_offsets"] = json!([0, 1u64 << 40])),
    );
    model("lying-shape", &config, &lying(|header| header["transformer.wte.weight"]["shape"] = json!([48, 211])));
    let with = |field: &str, value: Value| {
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config[field] = value;
        serde_json::to_vec(&config).unwrap()
    };
    model("other-sizes", &with("n_layer", json!(4)), &weights);
    model("unknown-architecture", &with("model_type", json!("gpt2000")), &weights);
    model("no-weights", &config, &weights);
    std::fs::remove_file(project.path("no-weights/model.safetensors")).unwrap();
    model("pickle", &config, b"");
    std::fs::rename(project.path("pickle/model.safetensors"), project.path("pickle/pytorch_model.bin")).unwrap();
    write_adder(&project, "adder");
    autoencoders(&project);
    project
}

/// Autoencoders of other tools, and some with something wrong.
fn autoencoders(project: &Project) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-dict/tests/fixtures");
    let copy = |from: &str, name: &str| {
        std::fs::create_dir(project.path(name)).unwrap();
        for file in std::fs::read_dir(fixtures.join(from)).unwrap().flatten() {
            std::fs::copy(file.path(), project.path(name).join(file.file_name())).unwrap();
        }
    };
    let edit = |file: &str, edit: fn(Vec<u8>) -> Vec<u8>| {
        let bytes = std::fs::read(project.path(file)).unwrap();
        std::fs::write(project.path(file), edit(bytes)).unwrap();
    };
    copy("saelens/standard", "sae-relu");
    copy("formats/sparsify", "sae-sparsify");
    copy("transcoders/sparsify_transcoder", "transcoder-sparsify");
    copy("transcoders/jumprelu_transcoder", "transcoder-saelens");
    copy("saelens/topk", "sae-temporal");
    edit("sae-temporal/cfg.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"architecture\": \"topk\"", "\"architecture\": \"temporal\"").into()
    });
    copy("saelens/topk", "sae-truncated");
    edit("sae-truncated/sae_weights.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec());
    copy("saelens/topk", "sae-shape");
    edit("sae-shape/cfg.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"d_in\": 24", "\"d_in\": 32").into()
    });
    copy("formats/dl_topk", "sae-pickle");
    // PyTorch before 1.6 wrote no archive.
    std::fs::write(project.path("sae-pickle/ae.pt"), b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.").unwrap();
}

/// Safetensors bytes with another header.
fn with_header(weights: &[u8], edit: fn(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    edit(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), &header[..], &weights[8 + length..]].concat()
}

#[test]
fn every_wrong_pipeline_has_its_message() {
    let project = project();
    let mut paths: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 40);
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        project.write("pipeline.yaml", &std::fs::read_to_string(&path).unwrap());
        let ran = project.mediant(&["run", "pipeline.yaml"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{name}: {}", ran.stderr);
        assert!(no_results(&project), "{name}");
        insta::assert_snapshot!(name, ran.stderr);
    }
}

/// Whether the store, if there is one, holds no object.
fn no_results(project: &Project) -> bool {
    let objects = std::fs::read_dir(project.path(".mediant/objects"));
    objects.map_or(true, |entries| entries.flatten().all(|entry| !entry.path().is_dir()))
}
