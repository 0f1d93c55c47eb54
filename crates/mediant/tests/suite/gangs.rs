//! Actions that are done together: the same bytes as alone, and nothing that happens to one happens to the others.

use std::path::Path;

use serde_json::Value;

use super::project::Project;
use super::runs::{children, end, signal, start, wait_until};

/// Autoencoders on two hook points, cached and streamed, of two lengths.
fn pipeline(k: &str, hook: &str, steps: &str) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let with = r#"{ hook: "${matrix.hook}", sae: { architecture: topk, k: "${matrix.k}", normalize_activations: expected_average_only_in,
      b_dec_init: mean }, norm_estimate_batches: 3, d_sae: 96, steps: "${matrix.steps}", batch: 64, block: 1000 }"#;
    format!(
        r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: {{ source: {} }}
  corpus:
    uses: generate_corpus
    with: {{ sentences: 60, seed: 3, items: 10 }}
  tokens:
    uses: tokenize
    inputs: {{ corpus: corpus, model: model }}
    with: {{ context: 32, test_fraction: 0.1 }}
  acts:
    uses: cache_activations
    inputs: {{ model: model, tokens: tokens.train }}
    with: {{ hooks: [blocks.1.hook_resid_post, blocks.2.mlp.hook_post] }}
  sae:
    matrix: {{ k: {k}, hook: {hook}, steps: {steps} }}
    uses: train_sae
    inputs: {{ activations: acts }}
    with: {with}
  streamed:
    matrix: {{ k: {k}, hook: {hook}, steps: {steps} }}
    uses: train_sae
    inputs: {{ model: model, tokens: tokens.train }}
    with: {with}
"#,
        model.display()
    )
}

/// How many actions were done together, of each action of a stage.
fn together(project: &Project, stage: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(project.path(".mediant/actions")).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|entry| entry.is_dir()).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let records = files.map(|file| -> Value {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        serde_json::from_str(&text).unwrap()
    });
    let of_stage = records.filter(|record| {
        record["record"]["provenance"]["stage"].as_str().is_some_and(|label| label.split('[').next() == Some(stage))
    });
    of_stage.map(|record| record["record"]["provenance"]["actions_together"].as_u64().unwrap()).collect()
}

/// Digests of the autoencoders of a stage.
fn autoencoders(project: &Project, stage: &str) -> Vec<(String, String)> {
    let digests = project.digests().into_iter().filter(|(name, _)| name.split('[').next() == Some(stage));
    digests.map(|(name, digest)| (name.split_once('[').unwrap().1.to_owned(), digest)).collect()
}

const HOOKS: [&str; 2] = ["blocks.1.hook_resid_post", "blocks.2.mlp.hook_post"];

#[test]
fn done_together_or_alone_cached_or_streamed_the_bytes_are_the_same() {
    let gang = Project::new();
    gang.write("pipeline.yaml", &pipeline("[4, 8]", &format!("[{}, {}]", HOOKS[0], HOOKS[1]), "[5, 30]"));
    gang.ran(&[]);
    assert_eq!((together(&gang, "sae"), together(&gang, "streamed")), (vec![8; 8], vec![8; 8]));
    let cached = autoencoders(&gang, "sae");
    assert_eq!(cached.len(), 8);
    assert!((1..8).all(|i| cached[i].1 != cached[0].1));
    assert_eq!(autoencoders(&gang, "streamed"), cached);

    let alone = Project::new();
    for (k, hook, steps) in [(4, HOOKS[0], 30), (8, HOOKS[1], 5)] {
        alone.write("pipeline.yaml", &pipeline(&format!("[{k}]"), &format!("[{hook}]"), &format!("[{steps}]")));
        alone.ran(&[]);
        for stage in ["sae", "streamed"] {
            let one = autoencoders(&alone, stage);
            assert_eq!(one.len(), 1);
            assert!(cached.contains(&one[0]), "{one:?} {cached:?}");
        }
    }
    assert_eq!(together(&alone, "sae"), [1, 1]);
}

#[test]
fn one_that_fails_leaves_the_others() {
    let project = Project::new();
    let text = pipeline("[4, 8, 12]", &format!("[{}]", HOOKS[0]), "[20]");
    project.write(
        "pipeline.yaml",
        &text
            .replace("batch: 64", "batch: 64, lr: \"${matrix.lr}\"")
            .replace("k: [4, 8, 12]", "k: [4], lr: [0.001, 1e30, 0.01]"),
    );
    let ran = project.mediant(&["run", "pipeline.yaml", "--json"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    let failed: Vec<Value> = ran.events().into_iter().filter(|event| event["type"] == "failed").collect();
    assert_eq!(failed.len(), 2, "cached and streamed: {failed:?}");
    assert!(failed.iter().all(|event| event["error"].as_str().unwrap().contains("diverged")), "{failed:?}");
    assert_eq!((together(&project, "sae"), together(&project, "streamed")), (vec![3; 2], vec![3; 2]));
}

#[test]
fn half_precision_on_the_cpu_is_an_error_of_that_training_alone() {
    let project = Project::new();
    let text = pipeline("[4]", &format!("[{}]", HOOKS[0]), "[5]");
    let text = text.replace("k: [4]", "k: [4], dtype: [f32, bf16, f16]");
    project.write("pipeline.yaml", &text.replace("batch: 64", "batch: 64, compute_dtype: \"${matrix.dtype}\""));
    let ran = project.mediant(&["run", "pipeline.yaml", "--json", "--device", "cpu"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    let failed: Vec<Value> = ran.events().into_iter().filter(|event| event["type"] == "failed").collect();
    assert_eq!(failed.len(), 4, "cached and streamed: {failed:?}");
    let told =
        |event: &Value| event["error"].as_str().unwrap().contains("is for a GPU, and this run computes on the CPU");
    assert!(failed.iter().all(told), "{failed:?}");
    assert_eq!((together(&project, "sae").len(), together(&project, "streamed").len()), (1, 1));
}

#[test]
fn after_a_worker_is_lost_each_goes_on_by_itself() {
    let project = Project::new();
    // Long enough to be caught at it.
    project.write("pipeline.yaml", &pipeline("[4, 8]", &format!("[{}]", HOOKS[0]), "[3000]"));
    let undisturbed = Project::new();
    undisturbed.write("pipeline.yaml", &pipeline("[4, 8]", &format!("[{}]", HOOKS[0]), "[3000]"));
    undisturbed.ran(&["sae"]);
    project.ran(&["acts"]);
    let run = start(&project, &["sae"]);
    let logs = || std::fs::read_dir(project.path(".mediant/runs")).unwrap().count();
    wait_until("the second run", || logs() == 2);
    wait_until("a worker", || !children(run.id()).is_empty());
    std::thread::sleep(std::time::Duration::from_millis(300));
    children(run.id()).into_iter().for_each(|worker| signal(worker, "KILL"));
    let (code, events, errors) = end(run);
    assert_eq!(code, Some(0), "{events:?} {errors}");
    assert_eq!(events.iter().filter(|event| event["type"] == "retry").count(), 2, "{events:?}");
    assert_eq!(together(&project, "sae"), [1, 1]);
    assert_eq!(autoencoders(&project, "sae"), autoencoders(&undisturbed, "sae"));
}
