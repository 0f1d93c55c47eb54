//! SynthSAEBench from the command: a small benchmark, cached and drawn on the way, and what is found in it.

use super::project::Project;

const PIPELINE: &str = r#"
mediant: 1
seed: 0
stages:
  bench:
    uses: synth_sae_bench
    with: { rows: 150000, num_features: 64, hidden_dim: 48, hierarchy: { total_root_nodes: 4, max_depth: 1 }, correlation: { rank: 5 },
      orthogonalization: { num_steps: 100, lr: 0.01 } }
  sae:
    matrix: { name: [topk, batchtopk, relu], seed: [0, 1] }
    uses: train_sae
    inputs: { activations: bench }
    with: { sae: { architecture: "${matrix.name}" }, d_sae: 16, steps: 600, batch: 250, lr: 0.003, seed: "${matrix.seed}" }
  eval:
    uses: evaluate_synth_sae
    inputs: { truth: bench.truth, sae: sae }
    with: { rows: 10000 }
  compare:
    uses: compare
    inputs: { metrics: eval }
    with: { metrics: [f1, mcc, uniqueness, ev_mc, l0] }
"#;

/// The pipeline with options of the three families.
fn pipeline() -> String {
    PIPELINE
        .replace(
            "matrix: { name: [topk, batchtopk, relu], seed: [0, 1] }",
            "matrix:\n      include:\n        - { name: topk, sae: { architecture: topk, k: 3 } }\n        \
         - { name: batchtopk, sae: { architecture: batchtopk, k: 3 } }\n        \
         - { name: relu, sae: { architecture: relu, l1: 2 } }\n      seed: [0, 1]",
        )
        .replace("sae: { architecture: \"${matrix.name}\" }", "sae: \"${matrix.sae}\"")
}

/// Digests of the outputs of a stage.
fn digests(project: &Project, stage: &str) -> Vec<String> {
    let all = project.digests().into_iter().filter(|(name, _)| name.starts_with(stage));
    all.map(|(_, digest)| digest).collect()
}

#[test]
fn features_are_found_whether_vectors_are_cached_or_drawn_on_the_way() {
    let cached = Project::new();
    cached.write("pipeline.yaml", &pipeline());
    cached.ran(&[]);
    let table = cached.mediant(&["query", "pipeline.yaml", "SELECT * FROM compare ORDER BY name", "--csv"]);
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    let mut lines = table.stdout.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    assert_eq!(lines.clone().count(), 3, "{}", table.stdout);
    for line in lines {
        let value = |name: &str| line.split(',').nth(column(name)).unwrap().parse::<f64>().unwrap();
        // Sixteen of 64 features, nearly orthogonal: all three families find most of what fires often.
        assert!(value("mcc") > 0.7 && value("f1") > 0.5 && value("ev_mc") > 0.6 && value("uniqueness") > 0.7, "{line}");
        assert!(value("runs") == 2.0 && value("f1_sd") > 0.0, "{line}");
    }

    let drawn = Project::new();
    let text = pipeline().replace("rows: 150000,", "rows: 150000, cache: false,");
    drawn.write("pipeline.yaml", &text.replace("{ activations: bench }", "{ truth: bench.truth }"));
    drawn.ran(&["--jobs", "1"]);
    for (stage, count) in [("sae", 6), ("eval", 12)] {
        assert_eq!(digests(&cached, stage).len(), count);
        assert_eq!(digests(&drawn, stage), digests(&cached, stage), "{stage}");
    }
}

#[test]
fn the_truth_and_its_vectors_can_be_looked_at() {
    let project = Project::new();
    project.write("pipeline.yaml", &pipeline());
    project.ran(&["bench"]);
    let shown = project.mediant(&["show", "pipeline.yaml", "bench.truth"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for part in ["synthetic", "feature_vectors", "firing_probabilities", "correlation_factor", "max_prob"] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let shown = project.mediant(&["show", "pipeline.yaml", "bench"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("150") && shown.stdout.contains("synthetic"), "{}", shown.stdout);
}

/// A sparsity coefficient that had no time to find its size is said, with what would help.
#[test]
fn an_l0_that_is_far_from_its_target_is_said() {
    let project = Project::new();
    let relu = "- { name: relu, sae: { architecture: relu, l1: 0.000001, l0_target: 2 } }";
    let of_relu = PIPELINE
        .replace("{ name: [topk, batchtopk, relu], seed: [0, 1] }", &format!("\n      include:\n        {relu}"));
    let short = of_relu
        .replace("{ architecture: \"${matrix.name}\" }", "\"${matrix.sae}\"")
        .replace(", seed: \"${matrix.seed}\"", "");
    project.write("pipeline.yaml", &short.replace("steps: 600", "steps: 5").replace("rows: 150000", "rows: 2000"));
    let ran = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("at the end, not the 2 of `l0_target`"), "{}", ran.stderr);
}
