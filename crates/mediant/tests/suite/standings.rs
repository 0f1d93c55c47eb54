//! Mediators compared on the shipped model: searches, their evaluation on other prompts, controls, statistics.

use super::docs::{blocks, root};
use super::project::Project;

/// The pipeline that the guide shows.
fn pipeline() -> String {
    let model = root().join("datasets/models/tiny-gpt2");
    blocks("docs/right-mediator.md", "yaml")[0].replace("../datasets/models/tiny-gpt2", model.to_str().unwrap())
}

/// The same without edges and on four prompts, where nothing depends on what is found.
pub(super) fn quick() -> String {
    let pipeline = pipeline().replace("n: 12", "n: 4");
    pipeline.lines().filter(|line| !line.contains("mediator: edges")).map(|line| format!("{line}\n")).collect()
}

fn project(pipeline: &str) -> Project {
    let project = Project::new();
    project.write("pipeline.yaml", pipeline);
    project
}

fn rows(project: &Project, sql: &str) -> Vec<Vec<String>> {
    let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    found.stdout.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn numbers(project: &Project, sql: &str) -> Vec<f64> {
    rows(project, sql).iter().map(|row| row[0].parse().unwrap()).collect()
}

#[test]
fn searches_stand_beside_their_controls() {
    let project = project(&pipeline());
    project.ran(&[]);
    let of = |columns: &str, name: &str| -> Vec<f64> {
        let found = rows(&project, &format!("SELECT {columns} FROM \"compare.standings\" WHERE name = '{name}'"));
        found[0].iter().map(|cell| cell.parse().unwrap()).collect()
    };
    for name in ["sublayers", "heads", "heads-greedy", "edges"] {
        let found = of("cpr_signed, cmd_signed, cpr_absolute, cmd_absolute, nothing, coverage", name);
        assert!(found[0] + found[1] >= 0.999 && found[2] + found[3] >= 0.999, "{name}: {found:?}");
        // Both versions of a prompt end in the same token, so that nothing clean goes straight to the logits.
        assert!(found[4].abs() < 1e-4, "{name}: {found:?}");
        if name.starts_with("heads") {
            // Without the MLPs heads do not carry all of it.
            assert!(found[5] < 0.5, "{found:?}");
        } else {
            assert!((found[5] - 1.0).abs() < 1e-3, "{name}: {found:?}");
        }
        let [found, random, shuffled, low, high] =
            of("cpr_signed, random_cpr, shuffled_cpr, random_cpr_low, random_cpr_high", name)[..]
        else {
            panic!()
        };
        // Heads without MLPs carry too little for a difference of this size.
        let clear = if name.starts_with("heads") { 0.0 } else { 0.05 };
        assert!(found > random + clear, "{name}: {found} {random}");
        assert!(shuffled.is_finite());
        assert!(low <= random && random <= high);
    }
    let own = "SELECT own FROM \"compare.curves\" WHERE fraction IN (0.0, 1.0) ORDER BY fraction, name, selection";
    let own = numbers(&project, own);
    let (nothing, everything) = own.split_at(own.len() / 2);
    assert!(nothing.iter().all(|f| *f == 0.0) && everything.iter().all(|f| *f == 1.0), "{own:?}");
    // Four searches on the same prompts are six differences; corrected p are never smaller.
    let p = rows(&project, "SELECT p, p_holm FROM \"compare.differences\"");
    assert_eq!(p.len(), 6);
    assert!(p.iter().all(|row| row[0].parse::<f64>().unwrap() <= row[1].parse().unwrap()));
    let [edges, shuffled, untrained] = of("cpr_signed, shuffled_cpr, random_model_cpr", "edges")[..] else { panic!() };
    assert!(edges > shuffled + 0.1 && edges > untrained + 0.1, "{edges} {shuffled} {untrained}");
    let passes = of("search_passes", "heads-greedy");
    assert_eq!(passes, [2.0 + 136.0], "16 heads, one after the other");
    let report = project.mediant(&["report", "pipeline.yaml", "--markdown"]);
    assert_eq!(report.code, Some(0), "{}", report.stderr);
    let costs = report.stdout.split("**Scores and their cost**").nth(1).expect("a table of scores and costs");
    let edges = costs.lines().find(|line| line.contains("eap_ig")).expect("a row a search");
    let cells: Vec<&str> = edges.split('|').map(str::trim).collect();
    assert!(cells.contains(&"cpr_signed") && cells.iter().filter(|cell| cell.ends_with("MiB")).count() == 2, "{edges}");
}

#[test]
fn one_more_search_runs_that_search_alone() {
    let project = project(&quick());
    project.ran(&[]);
    let more = "      - { name: heads-atp, mediator: heads, method: attribution_patching";
    let pipeline = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let pipeline = pipeline.replacen("  controls:", &format!("{more}, draws: 0 }}\n  controls:"), 1);
    project.write("pipeline.yaml", &pipeline.replacen("stages:", &format!("{more} }}\nstages:"), 1));
    let planned = project.mediant(&["plan", "pipeline.yaml"]).stdout;
    let to_run: Vec<&str> = planned
        .lines()
        .filter(|line| line.contains("will run") || line.contains("depends on"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(to_run.len(), 7, "three searches, their evaluations, and the comparison:\n{planned}");
    assert!(to_run.iter().all(|stage| stage.contains("heads-atp") || *stage == "compare"), "{planned}");
}

#[test]
fn controls_of_another_model_are_refused() {
    // The same name and search, of which only a run can tell that labels were shuffled in the untrained model.
    let pipeline = FEATURES.replace("MODEL", root().join("datasets/models/tiny-gpt2").to_str().unwrap());
    let shuffled = "  untrained_mask_shuffled:
    uses: train_mask
    inputs: { model: untrained, prompts: \"prompts[part=train]\" }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], epochs: 1, shuffle_labels: true }
  untrained_mask_shuffled_exchanged:
    uses: interchange
    inputs: { model: untrained, prompts: \"prompts[part=held_out]\", mask: untrained_mask_shuffled.scores }
  compare:";
    let pipeline = pipeline
        .replace("  compare:", shuffled)
        .replace("\"mask_exchanged[shuffled=true].answers\"", "untrained_mask_shuffled_exchanged.answers")
        .replace("n: 80", "n: 4")
        .replace("epochs: 10", "epochs: 1");
    let project = project(&pipeline);
    let run = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(run.code, Some(1));
    let why = "input `shuffled`: `dimensions by dbm` at blocks.2.hook_resid_post@subject";
    assert!(run.stderr.contains(why), "{}", run.stderr);
    // Nor is a model that is compared a random one.
    let random = "[components_exchanged.answers, untrained_mask_exchanged.answers]";
    project.write(
        "pipeline.yaml",
        &pipeline.replace("[untrained_components_exchanged.answers, untrained_mask_exchanged.answers]", random),
    );
    let run = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("is of one of the models that are compared"), "{}", run.stderr);
}

#[test]
fn what_a_set_does_to_other_text_stands_beside_its_cost() {
    let model = root().join("datasets/models/tiny-gpt2");
    let project = project(&format!(
        "mediant: 1
stages:
  model:
    uses: load_model
    with: {{ source: {} }}
  prompts:
    uses: build_prompts
    inputs: {{ model: model }}
    with: {{ task: ioi, n: 4 }}
  text:
    uses: tokenize
    inputs: {{ model: model }}
    with: {{ source: text.txt, documents: line, context: 32, pack: false }}
  search:
    uses: search_mediator
    matrix: {{ mediator: [sublayers, heads] }}
    inputs: {{ model: model, prompts: prompts }}
    with: {{ mediator: \"${{matrix.mediator}}\", method: attribution_patching }}
  evaluated:
    uses: evaluate_mediator
    inputs: {{ model: model, prompts: prompts, mediators: search, neutral: text.train }}
    with: {{ random_draws: 3, minimality_at: 0.25 }}
  loss:
    uses: evaluate_lm
    inputs: {{ model: model, tokens: text.train }}
",
        model.display()
    ));
    project.write(
        "text.txt",
        "The rain fell all night.\nShe read a long book about ships.\nNobody knew why the door was open.\n",
    );
    let ran = project.mediant(&["run", "pipeline.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let saw = ran.stdout.matches("the search saw these prompts").count();
    assert_eq!(saw, 2, "once for each search that is measured on its own prompts:\n{}", ran.stdout);
    let of = |columns: &str, mediator: &str, name: &str| -> Vec<f64> {
        let from = format!("FROM \"evaluated[mediator={mediator}].metrics\" WHERE name = '{name}'");
        let found = rows(&project, &format!("SELECT {columns} {from}"));
        found[0].iter().map(|cell| cell.parse().unwrap()).collect()
    };
    let alone = rows(&project, "SELECT value, low, high, n FROM \"loss.metrics\" WHERE name = 'ce_loss'");
    let alone: Vec<f64> = alone[0].iter().map(|cell| cell.parse().unwrap()).collect();
    for (mediator, items) in [("sublayers", 8.0), ("heads", 16.0)] {
        let value = |name| of("value", mediator, name)[0];
        assert!(value("sets_measured") < value("sets_asked"), "{mediator}");
        assert_eq!(value("passes"), 2.0 + value("sets_measured"));
        assert_eq!(of("value, low, high, n", mediator, "ce_loss"), alone);
        let [rise, low, high] = of("value, low, high", mediator, "off_target_loss")[..] else { panic!() };
        assert!(low <= rise && rise <= high && rise != 0.0, "{low} {rise} {high}");
        let sizes =
            format!("SELECT tags FROM \"evaluated[mediator={mediator}].metrics\" WHERE name = 'off_target_loss'");
        let sizes = rows(&project, &sizes)[0].concat();
        assert!(sizes.contains(&format!("{}", items / 4.0)), "{sizes}");
    }
}

/// Where the number of the subject is: directions and dimensions, with the controls of each.
const FEATURES: &str = r#"
mediant: 1
stages:
  model:
    uses: load_model
    with: { source: MODEL }
  untrained:
    uses: random_weights
    inputs: { model: model }
    with: { init_std: 0.07 }
  prompts:
    uses: build_prompts
    matrix: { part: [train, held_out] }
    inputs: { model: model }
    with: { task: agreement, n: 80, split: "${matrix.part}" }
  components:
    uses: pca
    inputs: { model: model, prompts: "prompts[part=train]" }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], rank: 3 }
  components_exchanged:
    uses: interchange
    inputs: { model: model, prompts: "prompts[part=held_out]", directions: components }
    with: { ranks: [1, 3] }
  untrained_components:
    uses: pca
    inputs: { model: untrained, prompts: "prompts[part=train]" }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], rank: 3 }
  untrained_components_exchanged:
    uses: interchange
    inputs: { model: untrained, prompts: "prompts[part=held_out]", directions: untrained_components }
    with: { ranks: [1, 3] }
  mask:
    uses: train_mask
    matrix: { shuffled: [false, true] }
    inputs: { model: model, prompts: "prompts[part=train]" }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], lr: 0.1, l1: 0.02, epochs: 10, shuffle_labels: "${matrix.shuffled}" }
  mask_exchanged:
    uses: interchange
    inputs: { model: model, prompts: "prompts[part=held_out]", mask: mask.scores }
  untrained_mask:
    uses: train_mask
    inputs: { model: untrained, prompts: "prompts[part=train]" }
    with: { hooks: [blocks.2.hook_resid_post], spans: [subject], lr: 0.1, l1: 0.02, epochs: 10 }
  untrained_mask_exchanged:
    uses: interchange
    inputs: { model: untrained, prompts: "prompts[part=held_out]", mask: untrained_mask.scores }
  compare:
    uses: compare_mediators
    inputs:
      effects: [components_exchanged.answers, "mask_exchanged[shuffled=false].answers"]
      shuffled: "mask_exchanged[shuffled=true].answers"
      random_model: [untrained_components_exchanged.answers, untrained_mask_exchanged.answers]
"#;

#[test]
fn features_stand_beside_their_controls() {
    let model = root().join("datasets/models/tiny-gpt2");
    let pipeline = FEATURES.replace("MODEL", model.to_str().unwrap());
    let project = project(&pipeline);
    project.ran(&[]);
    let of = |columns: &str, of: &str| {
        let sql = format!("SELECT {columns} FROM \"compare.features\" WHERE {of}");
        rows(&project, &sql)[0].iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect::<Vec<f64>>()
    };
    let columns = "iia, full_vector_iia, random_iia, shuffled_iia, random_model_iia, size_bits, iia_before";
    let first = of(columns, "search = 'pca' AND size = 1");
    // 128 numbers of 16 bits; nothing to shuffle.
    assert!(first[0] > 0.9 && first[1] > 0.9 && first[5] == 2048.0, "{first:?}");
    // A model that has learnt nothing answers at chance.
    assert!(first[3].is_nan() && first[2] < 0.3 && (first[4] - 0.5).abs() < 0.2 && first[6] < 0.1, "{first:?}");
    let mask = of(columns, "search = 'dbm'");
    assert!(mask[0] > 0.9 && mask[0] > mask[2].max(mask[3]).max(mask[4]) + 0.05, "{mask:?}");
    let chosen = of("size", "search = 'dbm'")[0];
    let choices: f64 = (0..chosen as u32).map(|i| (f64::from(128 - i) / (chosen - f64::from(i))).log2()).sum();
    assert!((mask[5] - choices).abs() < 1e-6 * choices, "{} {choices}", mask[5]);
    // Three of one site, on the same prompts.
    let p = rows(&project, "SELECT measure, p, p_holm FROM \"compare.differences\"");
    assert_eq!(p.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["iia"; 3]);
    assert!(p.iter().all(|row| row[1].parse::<f64>().unwrap() <= row[2].parse().unwrap()));

    // A control that is none, and none.
    for (other, why) in
        [("[\"mask_exchanged[shuffled=false].answers\"]", "had the labels as they are"), ("[]", "this list is empty")]
    {
        project.write("pipeline.yaml", &pipeline.replace("\"mask_exchanged[shuffled=true].answers\"", other));
        let run = project.mediant(&["run", "pipeline.yaml"]);
        assert!(run.code != Some(0) && run.stderr.contains(why), "{}", run.stderr);
    }
}
