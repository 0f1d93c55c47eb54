//! The stages on a small real-shaped model: the whole way from weights to a comparison, and that it is the same each time.

use std::fmt::Write as _;
use std::path::Path;

use super::project::Project;

/// Every stage that computes, on the reference GPT-2 and a corpus of the grammar.
const PIPELINE: &str = r#"
mediant: 1
name: whole-way
seed: 7
stages:
  model:
    uses: load_model
    with: { source: model }
  tokens:
    uses: tokenize
    inputs: { model: model }
    with: { source: ids.jsonl, context: 32, test_fraction: 0.25, pack: false, prepend_bos: false }
  loss:
    uses: evaluate_lm
    inputs: { model: model, tokens: tokens.test }
  acts:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: ["blocks.*.hook_resid_post", blocks.1.attn.hook_z], dtype: float16 }
  sae:
    uses: train_sae
    matrix: { architecture: [topk, relu], seed: [0, 1] }
    inputs: { activations: acts }
    with:
      hook: blocks.1.hook_resid_post
      sae: { architecture: "${matrix.architecture}" }
      d_sae: 128
      steps: 20
      batch: 256
      seed: "${matrix.seed}"
  eval:
    uses: evaluate_sae
    inputs: { model: model, sae: sae, tokens: tokens.test }
  compare:
    uses: compare
    inputs: { metrics: eval }
    with: { metrics: [ev_mc, l0, ce_score] }
  stability:
    uses: sae_stability
    inputs: { saes: sae }
  features:
    uses: feature_table
    inputs: { model: model, sae: sae, tokens: tokens.test }
  corpus:
    uses: generate_corpus
    with: { sentences: 300, items: 10 }
  tokenizer:
    uses: train_tokenizer
    inputs: { corpus: corpus }
    with: { vocab_size: 400 }
  words:
    uses: tokenize
    inputs: { tokenizer: tokenizer, corpus: corpus }
    with: { context: 128, test_fraction: 0.1, pack: false }
  small:
    uses: train_lm
    inputs: { tokens: words.train, test: words.test, tokenizer: tokenizer }
    with: { n_layers: 2, d_model: 32, n_heads: 4, steps: 12, batch: 8, lr: 0.003, warmup: 2, checkpoints: [0, 6], dropout: 0.1 }
  words_sae:
    uses: train_sae
    inputs: { model: small, tokens: words.train }
    with: { hook: blocks.0.hook_resid_post, sae: { architecture: batchtopk, k: 4 }, d_sae: 64, steps: 20, batch: 128 }
  words_eval:
    uses: evaluate_sae
    inputs: { model: small, sae: words_sae, tokens: words.test }
    with: { choose: batch }
  probing:
    uses: sparse_probing
    inputs: { model: small, sae: words_sae, tokens: words.train, labels: corpus.labels }
    with: { variables: [word_class, gender], examples: 200, least: 5 }
  items:
    uses: table
    with:
      rows:
        - { prompt: The key, right: " is", wrong: " are" }
        - { prompt: The keys, right: " are", wrong: " is" }
  tasks:
    uses: evaluate_tasks
    inputs: { model: small, tasks: items }
  text:
    uses: generate
    inputs: { model: small }
    with: { prompts: ["The girl"], max_tokens: 8 }
"#;

pub(crate) fn with_model(pipeline: &str) -> Project {
    let project = Project::new();
    project.write("pipeline.yaml", pipeline);
    std::fs::create_dir(project.path("model")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-lm/tests/fixtures/gpt2").join(name);
        std::fs::copy(fixture, project.path("model").join(name)).unwrap();
    }
    let mut ids = String::new();
    for document in 0..80u32 {
        // Anything that is not constant will do.
        let ids_of = (0..40).map(|i| (document * 7919 + i * i * 31 + i * 17) % 211).collect::<Vec<u32>>();
        writeln!(ids, "{{\"input_ids\": {ids_of:?}}}").unwrap();
    }
    project.write("ids.jsonl", &ids);
    project
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    let digests = ["1", "2"].map(|threads| {
        let project = with_model(PIPELINE);
        let run = project.command(&["run", "pipeline.yaml"]).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        (project.digests(), project)
    });
    let [(one, project), (two, _)] = digests;
    assert_eq!(one, two);
    assert!(one.len() > 20 && one.iter().all(|(_, digest)| !digest.is_empty()), "{one:?}");
    assert_eq!(project.ran(&[]), "-");
}

#[test]
fn an_upstream_result_of_other_bytes_runs_what_depends_on_it() {
    let project = with_model(PIPELINE);
    project.ran(&["eval", "compare", "loss"]);
    // Other documents of the same form: everything that saw them runs, the model does not.
    let text = std::fs::read_to_string(project.path("ids.jsonl")).unwrap();
    project.write("ids.jsonl", &text.replacen("[0, ", "[5, ", 1));
    let ran = project.ran(&["compare", "loss"]);
    assert!(ran.starts_with("acts compare eval[") && ran.ends_with(" tokens"), "{ran}");
    assert!(!ran.contains("model"), "{ran}");
}

#[test]
fn a_tokenizer_larger_than_the_model_is_told_at_the_first_token_beyond() {
    let project = with_model(
        "mediant: 1\nstages:\n  model:\n    uses: load_model\n    with: { source: model }\n  tokens:\n    uses: tokenize\n    inputs: { model: model }\n    with: { source: words.txt, context: 16 }\n",
    );
    project.write("words.txt", "Once upon a time\n");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-lm/tests/fixtures/llama_tokenizer");
        std::fs::copy(fixture.join(name), project.path("model").join(name)).unwrap();
    }
    let ran = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("document 0 holds token 473, but the vocabulary has 211 tokens"), "{}", ran.stderr);
}
