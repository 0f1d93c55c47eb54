//! Trainings of two hook points, of heads, and from a dictionary, cached and streamed.

use std::path::Path;

use mediant_artifact::{Artifact, DictionaryReader};

use super::project::Project;

fn pipeline() -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let over = "d_sae: 96, steps: 150, batch: 64, block: 1000, lr: 0.003";
    let pair = "hook: blocks.1.hook_mlp_in, hook_out: blocks.1.hook_mlp_out";
    let relu = "sae: { architecture: relu, l1: 0.01, skip: true }";
    let topk = "sae: { architecture: topk, k: 8 }";
    let (cached, streamed) = ("inputs: { activations: acts }", "inputs: { model: model, tokens: tokens.train }");
    format!(
        r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: {{ source: {model} }}
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
    with: {{ hooks: [blocks.1.hook_mlp_in, blocks.1.hook_mlp_out, blocks.1.attn.hook_z] }}
  transcoder: {{ uses: train_sae, {cached}, with: {{ {pair}, {relu}, {over} }} }}
  transcoder_streamed: {{ uses: train_sae, {streamed}, with: {{ {pair}, {relu}, {over} }} }}
  heads: {{ uses: train_sae, {cached}, with: {{ hook: blocks.1.attn.hook_z, {topk}, {over} }} }}
  heads_streamed: {{ uses: train_sae, {streamed}, with: {{ hook: blocks.1.attn.hook_z, {topk}, {over} }} }}
  eval: {{ uses: evaluate_sae, inputs: {{ model: model, sae: heads, tokens: tokens.test }} }}
  files: {{ uses: export, inputs: {{ dictionary: heads }}, with: {{ format: saelens }} }}
  eval_transcoder: {{ uses: evaluate_sae, inputs: {{ model: model, sae: transcoder, tokens: tokens.test }} }}
  eval_both: {{ uses: evaluate_sae, inputs: {{ model: model, saes: {{ heads: heads, mlp: transcoder }}, tokens: tokens.test }} }}
  features:
    uses: feature_table
    inputs: {{ model: model, sae: transcoder, tokens: tokens.test }}
    with: {{ contexts: 2, logits: 3 }}
  stability: {{ uses: sae_stability, inputs: {{ saes: {{ one: transcoder, same: transcoder_streamed }} }} }}
  transcoder_files: {{ uses: export, inputs: {{ dictionary: transcoder }}, with: {{ format: saelens }} }}
  longer:
    uses: train_sae
    inputs: {{ activations: acts, start: heads }}
    with: {{ hook: blocks.1.attn.hook_z, {topk}, {over} }}
"#,
        model = model.display()
    )
}

#[test]
fn transcoders_heads_and_warm_starts() {
    let project = Project::new();
    project.write("pipeline.yaml", &pipeline());
    project.ran(&[]);
    let digests = project.digests();
    let digest = |name: &str| &digests.iter().find(|(of, _)| *of == format!("{name}.sae")).unwrap().1;
    assert_eq!(digest("transcoder"), digest("transcoder_streamed"));
    assert_eq!(digest("heads"), digest("heads_streamed"));
    assert_ne!(digest("heads"), digest("longer"));

    let number = |sql: &str| -> f64 {
        let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{sql}: {}", found.stderr);
        found.stdout.lines().nth(1).unwrap().parse().unwrap()
    };
    let curve = |stage: &str, name: &str, step: u64| -> f64 {
        let artifact = Artifact::open(&project.object(stage)).unwrap();
        let rows = DictionaryReader::open(&artifact).unwrap().curve().unwrap();
        rows.iter().find(|row| row.name == name && row.step == step).unwrap().value
    };
    // Where the first training ended, the second begins.
    assert!(curve("longer", "mse_loss", 1) < 0.9 * curve("heads", "mse_loss", 1));
    assert!(curve("transcoder", "ev_trainer", 150) > 0.3 && curve("transcoder", "ev_trainer", 1) < 0.1);
    // Heads are spliced in as one vector: what they say is not lost.
    assert!(number("SELECT value FROM \"eval\" WHERE name = 'ev_mc'") > 0.2);
    let kl = |run: &str| number(&format!("SELECT value FROM \"eval\" WHERE name = 'kl_{run}'"));
    assert!(kl("sae") > 0.0 && kl("sae") < kl("zero_ablation"));
    let config = std::fs::read_to_string(project.object("files").join("cfg.json")).unwrap();
    assert!(config.contains(r#""reshape_activations":"hook_z""#), "{config}");

    let metric = |stage: &str, name: &str| number(&format!("SELECT value FROM \"{stage}\" WHERE name = '{name}'"));
    // It makes something of the MLP, and takes part: not all that zeros cost.
    assert!(metric("eval_transcoder", "ev_mc") > 0.3);
    let kl = |run: &str| metric("eval_transcoder", &format!("kl_{run}"));
    assert!(kl("sae") > 0.0 && kl("sae") < 0.9 * kl("zero_ablation"));
    // In the file the training ended with these.
    let l0 = metric("eval_transcoder", "l0");
    assert!((l0 - curve("transcoder", "l0", 150)).abs() < 0.3 * l0, "{l0}");
    // Both cost more than one alone; together with it each has the reconstruction that it has alone.
    assert!(metric("eval_both", "kl_sae") > kl("sae"));
    let alone = metric("eval_transcoder", "mse");
    assert_eq!(number("SELECT value FROM \"eval_both\" WHERE name = 'mse' AND tags LIKE '%mlp%'"), alone);
    // Trained alike they are the same.
    assert!((metric("stability", "matched_cosine") - 1.0).abs() < 1e-6);
    let cosines = "SELECT count(*) FROM \"features.features\" WHERE encoder_decoder_cosine IS NULL";
    assert_eq!(number(cosines), 96.0);
    assert_eq!(number("SELECT count(*) FROM \"features.logits\""), 96.0 * 6.0);

    // SAELens' files of it are the same transcoder.
    let files = project.object("transcoder_files");
    project.write("pipeline.yaml", &loaded(&files));
    project.ran(&[]);
    let again = |name: &str| metric("eval_loaded", name);
    assert_eq!((again("mse"), again("l0")), (alone, l0));
    assert_eq!(again("kl_sae"), metric("eval_transcoder", "kl_sae"));
}

/// Evaluates a transcoder from files of SAELens, beside the one that they were made of.
fn loaded(files: &Path) -> String {
    let loaded = format!(
        r#"
  loaded: {{ uses: load_sae, inputs: {{ model: model }}, with: {{ source: {} }} }}
  eval_loaded: {{ uses: evaluate_sae, inputs: {{ model: model, sae: loaded, tokens: tokens.test }} }}
"#,
        files.display()
    );
    pipeline() + &loaded
}
