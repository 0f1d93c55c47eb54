//! The models in `datasets/` do what their cards say, on questions that nobody trained or chose them on.

use std::path::Path;

use super::project::Project;

const PIPELINE: &str = r#"
mediant: 1
stages:
  model:
    uses: load_model
    matrix: { model: [tiny-gpt2, tiny-gpt2-seed1] }
    with: { source: "MODELS/${matrix.model}" }
  corpus:
    uses: generate_corpus
    with: { sentences: 1, seed: 20261122, items: 200 }
  tasks:
    uses: evaluate_tasks
    inputs: { model: model, tasks: corpus.tasks }
"#;

const ACCURACIES: &str = r#"
SELECT model, tags, value FROM tasks
WHERE name = 'accuracy' AND split = 'held_out' AND tags LIKE '{"task":"%"}' AND tags NOT LIKE '%,%'
"#;

#[test]
fn the_shipped_models_know_the_grammar() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models");
    for model in ["tiny-gpt2", "tiny-gpt2-seed1"] {
        let weights = std::fs::metadata(models.join(model).join("model.safetensors")).unwrap();
        assert!(weights.len() < 8_000_000);
    }
    let project = Project::new();
    project.write("pipeline.yaml", &PIPELINE.replace("MODELS", models.to_str().unwrap()));
    project.ran(&[]);
    let found = project.mediant(&["query", "pipeline.yaml", ACCURACIES, "--csv"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    // Whole tasks come first: twelve sets, three metrics each. Then their parts, of which there are many.
    let show = |rows| project.mediant(&["show", "pipeline.yaml", "tasks[model=tiny-gpt2]", "--head", rows]).stdout;
    assert!(!show("36").contains("condition") && show("36").contains(" more metrics"));
    assert!(show("37").contains("condition"));
    for model in ["tiny-gpt2", "tiny-gpt2-seed1"] {
        for task in ["ioi", "agreement", "pronoun", "capitals", "induction"] {
            let row = format!("{model},\"{{\"\"task\"\":\"\"{task}\"\"}}\",");
            let line = found.stdout.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("no row {row} in\n{}", found.stdout));
            let accuracy: f64 = line[row.len()..].parse().unwrap();
            assert!(accuracy >= 0.9, "{line}");
        }
    }
}
