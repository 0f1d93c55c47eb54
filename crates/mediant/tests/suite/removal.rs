//! Norms removed by `remove_layernorm`, beside `finetune` as its control, and what `export` and `load_model` make of the result.

use std::time::Duration;

use mediant_artifact::{Artifact, ModelReader, Norms};

use super::model::with_model;
use super::project::Project;
use super::runs::{end, signal, start, wait_until};

const PIPELINE: &str = "
mediant: 1
params: { training: { steps: 40, batch: 8, lr: 0.001 } }
stages:
  model: { uses: load_model, with: { source: model } }
  tokens:
    uses: tokenize
    inputs: { model: model }
    with: { source: ids.jsonl, context: 32, test_fraction: 0.25, pack: false, prepend_bos: false }
  control:
    uses: finetune
    inputs: { model: model, tokens: tokens.train, test: tokens.test }
    with: { training: \"${params.training}\", checkpoints: [0, 40], test_every: 20 }
  free:
    uses: remove_layernorm
    inputs: { model: model, tokens: tokens.train, test: tokens.test }
    with: { training: \"${params.training}\", checkpoints: [0, 7], test_every: 20 }
  rest:
    uses: remove_layernorm
    inputs: { model: \"free.checkpoints[step=7]\", tokens: tokens.train }
    with: { training: \"${params.training}\", auxiliary: none, first_position: false }
  scales: { uses: ln_stats, inputs: { model: free, tokens: tokens.test } }
  acts:
    uses: cache_activations
    inputs: { model: free, tokens: tokens.test }
    with: { hooks: [blocks.0.ln1.hook_scale, blocks.1.ln1.hook_normalized, ln_final.hook_scale] }
  loss: { uses: evaluate_lm, inputs: { model: free, tokens: tokens.test } }
  begun: { uses: evaluate_lm, inputs: { model: \"control.checkpoints[step=0]\", tokens: tokens.test } }
  stock: { uses: export, inputs: { model: free }, with: { format: transformers } }
  folded: { uses: export, inputs: { model: free }, with: { format: folded } }
  plain: { uses: export, inputs: { model: control }, with: { format: transformers } }
  beside:
    uses: evaluate_lm
    inputs: { models: { start: \"free.checkpoints[step=0]\", free: free }, tokens: tokens.test }
    with: { control: start }
  unfrozen: { uses: export, inputs: { model: \"free.checkpoints[step=0]\" }, with: { format: transformers } }
";

fn asked(project: &Project, file: &str, sql: &str) -> Vec<String> {
    let found = project.mediant(&["query", file, sql, "--csv"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    found.stdout.lines().skip(1).map(str::to_owned).collect()
}

fn numbers(rows: &[String]) -> Vec<f64> {
    rows.iter().flat_map(|row| row.split(',').map(|cell| cell.parse().unwrap())).collect()
}

#[test]
fn norms_are_removed_and_the_model_comes_back_from_both_layouts() {
    let project = with_model(PIPELINE);
    project.ran(&[]);
    let ask = |sql: &str| asked(&project, "pipeline.yaml", sql);
    let order = ask("SELECT norm FROM free.removals ORDER BY step");
    let expected =
        ["blocks.0.ln2", "blocks.1.ln2", "blocks.2.ln2", "blocks.0.ln1.qk", "blocks.1.ln1.qk", "blocks.2.ln1.qk"];
    assert_eq!(order[..6], expected);
    assert_eq!(order[6..], ["blocks.0.ln1.v", "blocks.1.ln1.v", "blocks.2.ln1.v", "ln_final"]);
    assert_eq!(
        numbers(&ask("SELECT step FROM free.removals ORDER BY step")),
        [2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]
    );
    // Frozen after 2 steps, and so from the third on.
    assert_eq!(numbers(&ask("SELECT frozen FROM free.curve WHERE step < 5 ORDER BY step")), [0., 0., 1., 2.]);
    let measured = ask("SELECT step FROM free.curve WHERE test_loss IS NOT NULL ORDER BY step");
    assert_eq!(numbers(&measured), [20., 40.]);

    // The control begins where the model is, sees the same rows, and keeps its norms.
    let first = |stage: &str| numbers(&ask(&format!("SELECT loss, tokens FROM {stage}.curve WHERE step = 1")));
    assert_eq!(first("control"), first("free"));
    let model = |stage: &str| ModelReader::open(&Artifact::open(&project.object(stage)).unwrap()).unwrap();
    assert_eq!(model("control").meta.norms, Norms::Live);
    let Norms::Frozen(scales) = model("free").meta.norms else { panic!("not frozen") };
    assert_eq!(scales.len(), 10);
    assert_ne!(scales["blocks.1.ln1.qk"], scales["blocks.1.ln1.v"]);
    // A removal goes on from a model that another left half done.
    assert_eq!(ask("SELECT norm FROM rest.removals ORDER BY step").len(), 4);
    let Norms::Frozen(both) = model("rest").meta.norms else { panic!("not frozen") };
    assert_eq!((both.len(), both["blocks.0.ln2"]), (10, scales["blocks.0.ln2"]));

    // Nine rows a norm at most; no separator here, and the first position is one row a document.
    let rows = ask("SELECT n FROM scales WHERE norm = 'ln_final' AND position = 'first'");
    assert_eq!(numbers(&rows), [20.]);
    assert_eq!(ask("SELECT norm FROM scales WHERE position = 'all'").len(), 7);
    let shown = project.mediant(&["show", "pipeline.yaml", "free"]).stdout;
    assert!(shown.contains("10 frozen\n") && shown.contains("blocks.0.ln1.qk"), "{shown}");
    let shown = project.mediant(&["show", "pipeline.yaml", "free.checkpoints[step=7]"]).stdout;
    assert!(shown.contains("6 frozen, 4 live\n"), "{shown}");

    // Before the first norm is frozen the model is as it was: fit for a control, and for stock code.
    let begun = numbers(&ask("SELECT value FROM begun WHERE name = 'ce_loss'"))[0];
    let start = "SELECT value FROM beside WHERE name = 'ce_loss' AND tags LIKE '%\"start\"%'";
    assert_eq!(numbers(&ask(start)), [begun]);
    let free = numbers(&ask("SELECT value FROM loss WHERE name = 'ce_loss'"))[0];
    let delta =
        numbers(&ask("SELECT value FROM beside WHERE name = 'ce_loss_delta' AND tags LIKE '%\"against\":\"start\"%'"));
    assert!((delta[0] - (free - begun)).abs() < 1e-9, "{delta:?}");

    for stage in ["stock", "folded", "plain", "unfrozen"] {
        let exported = project.mediant(&["export", "pipeline.yaml", stage, &format!("out/{stage}")]);
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    }
    // The command writes the same files as the stage.
    assert_eq!(project.mediant(&["export", "pipeline.yaml", "free", "out/free"]).code, Some(0));
    for file in ["config.json", "model.safetensors"] {
        let read = |folder: &str| std::fs::read(project.path("out").join(folder).join(file)).unwrap();
        assert!(read("free") == read("stock"), "{file}");
    }
    let loaded = PIPELINE
        .split("  control:")
        .next()
        .unwrap()
        .replace("params: { training: { steps: 40, batch: 8, lr: 0.001 } }\n", "")
        + "  other:
    uses: load_model
    matrix: { source: [out/stock, out/folded, out/plain] }
    with: { source: \"${matrix.source}\" }
  loss: { uses: evaluate_lm, inputs: { model: other, tokens: tokens.test } }
";
    project.write("loaded.yaml", &loaded);
    let ran = project.mediant(&["run", "loaded.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = numbers(&ask("SELECT value FROM loss WHERE name = 'ce_loss'"))[0];
    for source in ["out/stock", "out/folded"] {
        let sql = format!("SELECT value FROM loss WHERE name = 'ce_loss' AND source = '{source}'");
        let found = numbers(&asked(&project, "loaded.yaml", &sql))[0];
        assert!((found - expected).abs() < 1e-4, "{source}: {found} is not {expected}");
    }
    // What a model without norms does not have is found before anything runs.
    let asking = loaded
        + "  acts:\n    uses: cache_activations\n    inputs: { model: \"other[source=out/folded]\", tokens: tokens.test }\n    with: { hooks: [ln_final.hook_scale] }\n";
    project.write("asking.yaml", &asking);
    let ran = project.mediant(&["run", "asking.yaml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("has no hook point `ln_final.hook_scale`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("its norms are part of its weights"), "{}", ran.stderr);
}

#[test]
fn an_interrupted_removal_goes_on_to_the_same_bytes() {
    let steps =
        |pipeline: &str| pipeline.replace("steps: 40", "steps: 1500").split("  rest:").next().unwrap().to_owned();
    let without_control = |pipeline: &str| {
        let (before, after) = pipeline.split_once("  control:").unwrap();
        before.to_owned() + "  free:" + after.split_once("  free:").unwrap().1
    };
    let pipeline = without_control(&steps(PIPELINE));
    let project = with_model(&pipeline);
    let run = start(&project, &[]);
    let done = || project.digests().iter().any(|(output, digest)| output == "tokens.train" && !digest.is_empty());
    wait_until("the tokens", done);
    std::thread::sleep(Duration::from_millis(700));
    signal(run.id(), "INT");
    let (code, _, errors) = end(run);
    assert_eq!(code, Some(130), "{errors}");
    let entries = std::fs::read_dir(project.path(".mediant/checkpoints")).unwrap().flatten();
    let saved = entries.filter(|entry| entry.path().is_dir()).count();
    assert_eq!(saved, 1, "it was interrupted in the middle of the training");
    let again = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let told = again.stdout + &again.stderr;
    assert!(told.contains("goes on from its checkpoint after step "), "{told}");
    let undisturbed = with_model(&pipeline);
    undisturbed.ran(&[]);
    assert_eq!(project.digests(), undisturbed.digests());
}

#[test]
fn a_test_loss_that_a_few_rows_carry_is_told() {
    let pipeline = "
mediant: 1
stages:
  model: { uses: load_model, with: { source: model } }
  tokens: { uses: tokenize, inputs: { model: model }, with: { source: same.jsonl, context: 32, pack: false, prepend_bos: false } }
  odd: { uses: tokenize, inputs: { model: model }, with: { source: odd.jsonl, context: 32, pack: false, prepend_bos: false } }
  far: { uses: finetune, inputs: { model: model, tokens: tokens.train, test: odd.train }, with: { training: { steps: 60, batch: 4, lr: 0.01 } } }
";
    let project = with_model(pipeline);
    let same = format!("{{\"input_ids\": {:?}}}\n", (5..25).collect::<Vec<u32>>());
    project.write("same.jsonl", &same.repeat(16));
    // Two rows of five are unlike all that was learnt.
    let other = format!("{{\"input_ids\": {:?}}}\n", (0..20).map(|i| (i * 37 + 90) % 211).collect::<Vec<u32>>());
    project.write("odd.jsonl", &(same.repeat(3) + &other.repeat(2)));
    let ran = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let told = ran.stdout + &ran.stderr;
    assert!(told.contains("test rows are not predicted as training rows are"), "{told}");
    let median = told.split("the median over test rows is ").nth(1).unwrap().split(',').next().unwrap();
    assert!(median.parse::<f64>().unwrap() < 0.5, "{told}");
}
