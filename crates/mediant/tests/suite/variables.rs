//! Where a causal variable is, on the shipped model: the number of a subject stands at the subject, along a direction that differences of
//! means, probes and distributed alignment search find, and labels that mean nothing do not.

use std::path::Path;

use super::project::Project;

const PIPELINE: &str = r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: { source: MODEL }
  prompts:
    uses: build_prompts
    inputs: { model: model }
    with: { task: agreement, n: 160 }
  means:
    uses: difference_of_means
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], variable: subject_number }
  versions:
    uses: difference_of_means
    inputs: { model: model, prompts: prompts }
    with: { hooks: ["blocks.*.hook_resid_post", hook_embed], spans: [attractor, subject] }
  components:
    uses: pca
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], rank: 6 }
  probe:
    uses: train_probe
    matrix: { shuffle_labels: [false, true] }
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], variable: subject_number, shuffle_labels: "${matrix.shuffle_labels}" }
  verbs:
    uses: train_probe
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], positions: last, variable: condition }
  das:
    uses: train_das
    matrix: { shuffle_labels: [false, true] }
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], ranks: [1, 2], shuffle_labels: "${matrix.shuffle_labels}" }
  held_out:
    uses: build_prompts
    inputs: { model: model }
    with: { task: agreement, n: 120, split: held_out, seed: 1 }
  exchanged:
    uses: interchange
    inputs: { model: model, prompts: held_out, directions: "das[shuffle_labels=false].directions" }
  along_components:
    uses: interchange
    inputs: { model: model, prompts: held_out, directions: components }
    with: { ranks: [1, 6] }
  mask:
    uses: train_mask
    inputs: { model: model, prompts: prompts }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject, last], lr: 0.1 }
  chosen:
    uses: train_mask
    inputs: { model: model, prompts: prompts, directions: components }
    with: { lr: 0.1, loss: logit_diff }
"#;

/// The same components, through a file and a program of the user's.
const OWN: &str = r#"
  own:
    uses: command
    with:
      argv: [cp, "{files.vectors}", "{outputs.directions}"]
      files: { vectors: exported/components.parquet }
      outputs: { directions: directions }
  chosen_of_own:
    uses: train_mask
    inputs: { model: model, prompts: prompts, directions: own.directions }
    with: { lr: 0.1, loss: logit_diff }
"#;

fn column(project: &Project, sql: &str) -> Vec<String> {
    let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    found.stdout.lines().skip(1).map(str::to_owned).collect()
}

fn numbers(project: &Project, sql: &str) -> Vec<f64> {
    column(project, sql).iter().map(|cell| cell.parse().unwrap()).collect()
}

#[test]
fn the_number_of_a_subject_is_found_and_labels_that_mean_nothing_are_not() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let pipeline = PIPELINE.replace("MODEL", model.to_str().unwrap());
    let project = Project::new();
    project.write("pipeline.yaml", &pipeline);
    project.ran(&[]);
    let held_out = |table: &str, name: &str, and: &str| {
        let sql = format!("SELECT value FROM {table} WHERE name = '{name}' AND split = 'test' AND {and} ORDER BY tags");
        numbers(&project, &sql)
    };
    // What shuffling does is beyond the interval of the other, whatever the split.
    let (read, shuffled) = ("\"probe[shuffle_labels=false].metrics\"", "\"probe[shuffle_labels=true].metrics\"");
    assert!(held_out(read, "accuracy", "true")[0] > 0.95);
    assert!(held_out(shuffled, "accuracy", "true")[0] < 0.75);
    let (das, control) = ("\"das[shuffle_labels=false].metrics\"", "\"das[shuffle_labels=true].metrics\"");
    assert!(held_out(das, "iia", "true").iter().all(|iia| *iia > 0.95), "{:?}", held_out(das, "iia", "true"));
    assert!(held_out(control, "iia", "true").iter().all(|iia| *iia < 0.9), "{:?}", held_out(control, "iia", "true"));
    let of_mask = |span: &str| held_out("\"mask.metrics\"", "iia", &format!("tags LIKE '%\"span\":\"{span}\"%'"));
    assert!(of_mask("subject")[0] > 0.95 && of_mask("last")[0] < 0.1);
    assert!(held_out("\"chosen.metrics\"", "iia", "true")[0] > 0.95);
    assert_eq!(numbers(&project, "SELECT COUNT(*) FROM \"mask.scores\" WHERE kind = 'dimension'"), [256.0]);
    let on_others = |stage: &str, features: &str| {
        let sql = format!(
            "SELECT value FROM \"{stage}.metrics\" WHERE name = 'iia' AND tags LIKE '%\"features\":\"{features}\"%' ORDER BY tags"
        );
        numbers(&project, &sql)
    };
    assert!(on_others("exchanged", "directions").iter().all(|iia| *iia > 0.9), "words that no training saw");
    assert!(on_others("exchanged", "full_vector")[0] > 0.9);
    assert!(on_others("exchanged", "random").iter().all(|iia| *iia < 0.2));
    let components = on_others("along_components", "directions");
    assert!(components.len() == 2 && components.iter().all(|iia| *iia > 0.9), "{components:?}");
    let order = "SELECT unit FROM \"chosen.scores\" ORDER BY value DESC";
    let shown = project.mediant(&["show", "pipeline.yaml", "verbs"]).stdout;
    assert!(shown.contains("\"last\"") && shown.contains("classes"), "{shown}");
    // Every version of a prompt has the same attractor and words before it.
    let places = column(&project, "SELECT COUNT(*) FROM versions WHERE hook = 'hook_embed'");
    assert_eq!(places, ["1"], "embeddings differ at the subject alone");

    let exported = project.mediant(&["export", "pipeline.yaml", "components", "exported"]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    project.write("pipeline.yaml", &format!("{pipeline}{OWN}"));
    project.ran(&[]);
    let own = "SELECT unit FROM \"chosen_of_own.scores\" ORDER BY value DESC";
    assert_eq!(column(&project, own), column(&project, order));
}
