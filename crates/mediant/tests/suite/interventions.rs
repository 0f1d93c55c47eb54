//! Interventions as a user writes them, on the shipped model: the stages that take them give what the change means.

use std::path::Path;

use super::project::Project;

/// Head 2.2 carries the indirect object in tiny-gpt2 (`pipelines/ioi-circuit.yaml`).
const PIPELINE: &str = r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: { source: MODEL }
  corpus:
    uses: generate_corpus
    with: { sentences: 200, seed: 3, items: 100 }
  tokens:
    uses: tokenize
    inputs: { corpus: corpus, model: model }
    with: { context: 64, test_fraction: 0.5, pack: false }
  acts:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: [blocks.2.attn.hook_z, blocks.3.hook_mlp_out] }
  loss:
    uses: evaluate_lm
    inputs: { model: model, tokens: tokens.test }
  nothing:
    uses: evaluate_lm
    inputs: { model: model, tokens: tokens.test }
    with:
      interventions:
        - { at: blocks.3.hook_resid_post, do: { add: { direction: { unembedding: { of: " he", less: " she" } }, strength: 1.0e-30 } } }
  ablated:
    uses: evaluate_lm
    inputs: { model: model, tokens: tokens.test, activations: acts }
    with: { interventions: [{ at: blocks.2.attn.hook_z, heads: [2], do: mean }] }
  tasks:
    uses: evaluate_tasks
    inputs: { model: model, tasks: corpus.tasks }
  tasks_ablated:
    uses: evaluate_tasks
    inputs: { model: model, tasks: corpus.tasks, activations: acts }
    with: { interventions: [{ at: blocks.2.attn.hook_z, heads: [2], do: mean }] }
  zeros:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: [blocks.3.hook_mlp_out], interventions: [{ at: blocks.3.hook_mlp_out, do: zero }] }
  text:
    uses: generate
    inputs: { model: model }
    with: { prompts: ["When Mary and John went to the store, John gave a drink to"], max_tokens: 1 }
  steered:
    uses: generate
    inputs: { model: model }
    with:
      prompts: ["When Mary and John went to the store, John gave a drink to"]
      max_tokens: 1
      interventions:
        - at: blocks.3.hook_resid_post
          do: { add: { direction: { unembedding: { of: " John", less: " Mary" } }, strength: 10 } }
"#;

#[test]
fn a_change_does_what_it_says() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let project = Project::new();
    project.write("pipeline.yaml", &PIPELINE.replace("MODEL", model.to_str().unwrap()));
    project.ran(&[]);
    let cell = |sql: &str| {
        let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        found.stdout.lines().nth(1).unwrap_or_else(|| panic!("{}", found.stdout)).to_owned()
    };
    let number = |sql: &str| cell(sql).parse::<f64>().unwrap();
    let loss = |stage: &str| number(&format!("SELECT value FROM {stage} WHERE name = 'ce_loss'"));
    assert_eq!(loss("nothing").to_bits(), loss("loss").to_bits());
    assert!(loss("ablated") > loss("loss") + 0.01, "{} {}", loss("ablated"), loss("loss"));
    let accuracy = |stage: &str, task: &str| {
        let tags = format!("{{\"task\":\"{task}\"}}");
        number(&format!("SELECT AVG(value) FROM {stage} WHERE name = 'accuracy' AND tags = '{tags}'"))
    };
    assert!(accuracy("tasks", "ioi") > 0.9);
    assert!(accuracy("tasks_ablated", "ioi") < 0.8, "without its head the indirect object is lost");
    assert!(accuracy("tasks_ablated", "agreement") > 0.9, "which agreement does not need");
    let zeros = project.mediant(&["show", "pipeline.yaml", "zeros"]).stdout;
    let statistics = zeros.lines().find(|line| line.starts_with("blocks.3.hook_mlp_out")).unwrap();
    assert_eq!(statistics.split_whitespace().skip(2).collect::<Vec<_>>(), ["0"; 6], "what is cached is what is put in");
    assert_eq!(cell("SELECT continuation FROM text").trim_matches(['"', ' ']), "Mary");
    assert_eq!(cell("SELECT continuation FROM steered").trim_matches(['"', ' ']), "John");
}

const ON_PROMPTS: &str = r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: { source: MODEL }
  prompts:
    uses: build_prompts
    inputs: { model: model }
    with: { task: ioi, n: 24, counterfactuals: [s2_io_flip, abc] }
  # One after the other, by the stage that patches every head at every span.
  noised:
    uses: activation_patching
    inputs: { model: model, prompts: prompts }
    with: { hooks: ["blocks.2.attn.hook_z"], by: [head, span], direction: noising }
  patched:
    uses: intervene
    inputs: { model: model, prompts: prompts }
    with: { interventions: [{ at: blocks.2.attn.hook_z, heads: [2], positions: { span: last }, do: patch }] }
  # All that the last norm reads at the last position, in two parts.
  both:
    uses: intervene
    inputs: { model: model, prompts: prompts }
    with:
      counterfactual: abc
      interventions:
        - { at: blocks.3.hook_resid_mid, positions: last, do: patch }
        - { at: blocks.3.hook_mlp_out, positions: last, do: patch }
  # The same with a scale that stays, so that it is no longer the whole counterfactual.
  frozen:
    uses: intervene
    inputs: { model: model, prompts: prompts }
    with:
      counterfactual: abc
      interventions:
        - { at: blocks.3.hook_resid_mid, positions: last, do: patch }
        - { at: blocks.3.hook_mlp_out, positions: last, do: patch }
        - { at: ln_final.hook_scale, do: freeze_scale }
"#;

#[test]
fn on_prompts_positions_have_names_and_changes_are_made_together() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let project = Project::new();
    project.write("pipeline.yaml", &ON_PROMPTS.replace("MODEL", model.to_str().unwrap()));
    project.ran(&[]);
    let column = |sql: &str| -> Vec<f64> {
        let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        found.stdout.lines().skip(1).map(|cell| cell.parse().unwrap()).collect()
    };
    let close = |a: &[f64], b: &[f64], within: f64| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < within)
    };
    let effects = |stage: &str, value: &str| {
        let patched = format!("SELECT {value} FROM \"{stage}.effects\" ORDER BY example");
        column(&patched)
    };
    let one = column(
        "SELECT e.patched FROM \"noised.effects\" e JOIN \"noised.effects.mediators\" m ON e.mediator = m.mediator WHERE m.unit = 2 AND \
         m.span = 'last' ORDER BY e.example",
    );
    assert_eq!(one.len(), 24);
    // Other kernels are chosen for other numbers of rows, so the last bits may differ.
    assert!(close(&effects("patched", "patched"), &one, 1e-4));
    assert!(!close(&effects("patched", "patched"), &effects("patched", "clean"), 1.0), "the patch matters");
    assert!(close(&effects("both", "patched"), &effects("both", "counterfactual"), 1e-4));
    assert!(!close(&effects("frozen", "patched"), &effects("frozen", "counterfactual"), 0.01));
}
