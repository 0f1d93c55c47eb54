//! Evaluations and experiments over several models and corpora, as a user runs them on the shipped models.

use std::path::Path;

use serde_json::Value;

use super::project::Project;

const PIPELINE: &str = r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: { source: MODELS/tiny-gpt2 }
  other:
    uses: load_model
    with: { source: MODELS/tiny-gpt2-seed1 }
  folded:
    uses: load_model
    with: { source: MODELS/tiny-gpt2, processing: { fold_ln: true, center_writing_weights: true, center_unembed: true } }
  ln_free:
    uses: load_model
    with: { source: ln-free }
  corpus:
    uses: generate_corpus
    with: { sentences: 300, seed: 3, items: 20 }
  tokens:
    uses: tokenize
    inputs: { corpus: corpus, model: model }
    with: { context: 64, test_fraction: 0.4, pack: false }
  nonsense:
    uses: tokenize
    inputs: { model: model }
    with: { source: nonsense.txt, context: 32, test_fraction: 0.0 }
  alone:
    uses: evaluate_lm
    inputs: { model: other, tokens: tokens.test }
  losses:
    uses: evaluate_lm
    inputs:
      models: { original: model, control: folded, other: other, ln_free: ln_free }
      tokens: { held_out: tokens.test, nonsense: nonsense.train }
    with: { control: control }
  told_so:
    uses: evaluate_lm
    inputs: { models: { original: model, ln_free: ln_free }, tokens: tokens.test }
    with: { without_control: original }
  tasks:
    uses: evaluate_tasks
    inputs: { models: { control: model, other: other, ln_free: ln_free }, tasks: corpus.tasks }
    with: { control: control }
  other_tasks:
    uses: evaluate_tasks
    inputs: { model: other, tasks: corpus.tasks }
  calibration:
    uses: calibration
    inputs: { models: { original: model, other: other }, tokens: { held_out: tokens.test, nonsense: nonsense.train } }
  apart:
    uses: divergence
    inputs: { models: { original: model, control: folded, other: other }, tokens: tokens.test }
  sinks:
    uses: attention_sinks
    inputs: { models: { original: model, folded: folded }, tokens: tokens.test }
  attribution:
    uses: dla_vs_direct_effect
    inputs: { models: { original: model, folded: folded, ln_free: ln_free }, tokens: tokens.test }
    with: { sequences: 60 }
  prompts:
    uses: build_prompts
    inputs: { model: model }
    with: { task: ioi, n: 16, split: held_out, counterfactuals: [s2_io_flip] }
  linear:
    uses: attribution_vs_activation_patching
    inputs: { models: { original: model, folded: folded, ln_free: ln_free }, prompts: prompts }
  neurons:
    uses: entropy_neurons
    inputs: { models: { original: model, folded: folded, ln_free: ln_free }, tokens: tokens.test }
    with: { choose_on: original, choose: { top: 2 }, sequences: 60, length: 40, plant: true }
"#;

struct Results(Project);

impl Results {
    fn numbers(&self, sql: &str) -> Vec<f64> {
        let found = self.0.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{sql}: {}", found.stderr);
        found.stdout.lines().skip(1).map(|cell| cell.parse().unwrap_or_else(|_| panic!("{sql}: {cell}"))).collect()
    }

    fn number(&self, sql: &str) -> f64 {
        let numbers = self.numbers(sql);
        assert_eq!(numbers.len(), 1, "{sql}: {numbers:?}");
        numbers[0]
    }

    /// The metric whose tags hold all of these, `"model":"original"`.
    fn metric(&self, stage: &str, name: &str, tags: &[(&str, &str)]) -> f64 {
        let told = tags.iter().map(|(tag, value)| format!(" AND tags LIKE '%\"{tag}\":\"{value}\"%'"));
        self.number(&format!("SELECT value FROM {stage} WHERE name = '{name}'{}", told.collect::<String>()))
    }
}

/// The shipped model with norms that divide by a constant, as a folder for stock code: the epsilon is 1e12, and gains make up for
/// it. The constants are about what the norms computed, so that it still is a model, if a bad one.
fn ln_free(project: &Project, source: &Path) {
    let scale = |name: &str| match name.split('.').find_map(|part| part.parse::<usize>().ok()) {
        Some(layer) => [0.05, 0.15, 0.2, 0.35][layer],
        None => 0.8,
    };
    std::fs::create_dir(project.path("ln-free")).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let mut bytes = std::fs::read(source.join(file)).unwrap();
        if file == "config.json" {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains("0.00001"));
            bytes = text.replace("0.00001", "1e12").into();
        }
        if file == "model.safetensors" {
            let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
            let gains =
                header.as_object().unwrap().iter().filter(|(name, _)| name.contains("ln_") && name.ends_with("weight"));
            for (name, tensor) in gains {
                let at = |end: usize| start + tensor["data_offsets"][end].as_u64().unwrap() as usize;
                assert_eq!(tensor["dtype"], "F32");
                for x in bytes[at(0)..at(1)].chunks_exact_mut(4) {
                    let gain = f32::from_le_bytes(x.try_into().unwrap());
                    x.copy_from_slice(&(gain * 1e6 / scale(name)).to_le_bytes());
                }
            }
        }
        std::fs::write(project.path("ln-free").join(file), bytes).unwrap();
    }
}

fn close(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() <= within * b.abs().max(1.0), "{a} {b}");
}

#[test]
fn experiments_over_several_models_fit_together() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models");
    let project = Project::new();
    // Words of the corpus in an order that nobody writes; the model's losses on them are another corpus's.
    let words = ["gave", "the", "Mary", "to", "and", "drink", "store", "a", "went"];
    let line = |i: usize| (0..12).map(|j| words[(i * 5 + j * j * 7 + j) % 9]).collect::<Vec<_>>().join(" ");
    project.write("nonsense.txt", &(0..20).map(|i| line(i) + "\n").collect::<String>());
    ln_free(&project, &models.join("tiny-gpt2"));
    project.write("pipeline.yaml", &PIPELINE.replace("MODELS", models.to_str().unwrap()));
    project.ran(&[]);
    let results = Results(project);
    losses(&results);
    tasks(&results);
    predictions(&results);
    experiments(&results);
    let shown = results.0.mediant(&["show", "pipeline.yaml", "losses"]).stdout;
    assert!(shown.contains("ce_loss_delta") && shown.contains("non_finite"), "{shown}");
}

fn losses(results: &Results) {
    let loss =
        |name: &str, model: &str, corpus: &str| results.metric("losses", name, &[("model", model), ("corpus", corpus)]);
    close(loss("ce_loss", "other", "held_out"), results.metric("alone", "ce_loss", &[]), 1e-12);
    assert!(loss("ce_loss", "other", "nonsense") > loss("ce_loss", "other", "held_out") + 1.0);
    for corpus in ["held_out", "nonsense"] {
        let delta = loss("ce_loss_delta", "other", corpus);
        close(delta, loss("ce_loss", "other", corpus) - loss("ce_loss", "control", corpus), 1e-9);
        // Processing changes no probability.
        assert!(loss("ce_loss_delta", "original", corpus).abs() < 1e-5);
        assert_eq!(loss("ce_loss_non_finite", "other", corpus), 0.0);
        let order = ["ce_loss_p0.05", "ce_loss_p2.5", "ce_loss_p50", "ce_loss_p97.5", "ce_loss_p99.95", "ce_loss_max"];
        assert!(order.map(|name| loss(name, "other", corpus)).is_sorted());
    }
    // A pair is far more certain than each of the two.
    let width = |name: &str, model: &str| {
        let tags = format!("tags LIKE '%\"model\":\"{model}\"%' AND tags LIKE '%held_out%'");
        results.number(&format!("SELECT high - low AS x FROM losses WHERE name = '{name}' AND {tags}"))
    };
    assert!(width("ce_loss_delta", "original") < 1e-3 * width("ce_loss", "original"));
    // What an LN-free model loses is told against the control, or against another model when told so.
    let lost = loss("ce_loss_delta", "ln_free", "held_out");
    assert!(lost > 0.0 && lost.is_finite(), "{lost}");
    close(
        results.metric("told_so", "ce_loss_delta", &[("model", "ln_free"), ("without_control", "original")]),
        lost,
        1e-3,
    );
    // The control is compared with nothing.
    let none = "SELECT COUNT(*) AS n FROM losses WHERE name = 'ce_loss_delta' AND tags LIKE '%\"model\":\"control\"%'";
    assert_eq!(results.number(none), 0.0);
    // Parts are parts of the whole.
    let whole = loss("ce_loss", "other", "held_out");
    for by in ["position", "frequency"] {
        let part = format!("FROM \"losses.breakdown\" WHERE model = 'other' AND corpus = 'held_out' AND part = '{by}'");
        close(results.number(&format!("SELECT SUM(ce_loss * n) / SUM(n) AS x {part}")), whole, 1e-9);
        close(
            results.number(&format!("SELECT SUM(delta * n) / SUM(n) AS x {part}")),
            loss("ce_loss_delta", "other", "held_out"),
            1e-9,
        );
        assert!(results.number(&format!("SELECT COUNT(*) AS n {part}")) > 2.0);
    }
}

fn tasks(results: &Results) {
    let of = |stage: &str, name: &str, tags: &str| {
        results.number(&format!(
            "SELECT value FROM {stage} WHERE name = '{name}' AND split = 'held_out' AND tags = '{{{tags}}}'"
        ))
    };
    let task = r#""task":"induction""#;
    for name in ["accuracy", "top1_accuracy", "logit_diff"] {
        let found = |model: &str| of("tasks", name, &format!(r#""model":"{model}",{task}"#));
        assert_eq!(found("other"), of("other_tasks", name, task));
        let delta = |model: &str| {
            of("tasks", &format!("{name}_delta"), &format!(r#""against":"control","model":"{model}",{task}"#))
        };
        close(delta("other"), found("other") - found("control"), 1e-12);
        close(delta("ln_free"), found("ln_free") - found("control"), 1e-12);
    }
    // A difference of items is inside its interval; the control is compared with nothing; a row an item and model.
    let outside = "SELECT COUNT(*) AS n FROM tasks WHERE name LIKE '%_delta' AND (value < low OR value > high)";
    assert_eq!(results.number(outside), 0.0);
    let control = "SELECT COUNT(*) AS n FROM tasks WHERE name LIKE '%_delta' AND tags LIKE '%\"model\":\"control\"%'";
    assert_eq!(results.number(control), 0.0);
    let items = |of: &str| results.number(&format!("SELECT COUNT(*) AS n FROM {of}"));
    assert_eq!(items("\"tasks.items\""), 3.0 * items("\"other_tasks.items\""));
}

fn predictions(results: &Results) {
    let calibration =
        |name: &str, corpus: &str| results.metric("calibration", name, &[("model", "original"), ("corpus", corpus)]);
    assert!(calibration("ece", "held_out") < 0.05, "a trained model is calibrated on what it was trained on");
    assert!(calibration("ece", "nonsense") > 3.0 * calibration("ece", "held_out"));
    let of_bins = "SELECT SUM(n * ABS(accuracy - confidence)) / SUM(n) AS x FROM \"calibration.bins\" WHERE model = 'original' AND corpus = 'held_out'";
    close(calibration("ece", "held_out"), results.number(of_bins), 1e-9);
    let apart = |name: &str, p: &str, q: &str| results.metric("apart", name, &[("p", p), ("q", q)]);
    assert!(apart("jsd", "control", "original") < 1e-9);
    assert!(apart("jsd", "original", "other") > 1e-3 && apart("jsd", "original", "other") < std::f64::consts::LN_2);
    assert_ne!(apart("kl", "original", "other"), apart("kl", "other", "original"));
    let sinks = |name: &str, model: &str| {
        results.number(&format!(
            "SELECT value FROM sinks WHERE name = '{name}' AND tags LIKE '%\"model\":\"{model}\"%' AND tags NOT LIKE '%hook%'"
        ))
    };
    close(sinks("sink_rate", "original"), sinks("sink_rate", "folded"), 1e-3);
    let mean = "SELECT AVG(sink_rate) AS x FROM \"sinks.heads\" WHERE model = 'original'";
    close(results.number(mean), sinks("sink_rate", "original"), 1e-9);
    let norms = "SELECT COUNT(*) AS n FROM sinks WHERE name = 'resid_norm_first' AND tags LIKE '%original%'";
    assert_eq!(results.number(norms), 5.0);
}

fn experiments(results: &Results) {
    let nmae = |model: &str| results.metric("attribution", "nmae", &[("model", model)]);
    assert!(nmae("original") > 1.0, "{}", nmae("original"));
    // `fold_value_biases` is off, so that heads add what they add.
    close(nmae("folded"), nmae("original"), 1e-3);
    assert!(nmae("ln_free") <= 1e-6, "{}", nmae("ln_free"));
    assert_eq!(results.number("SELECT COUNT(*) AS n FROM \"attribution.heads\" WHERE model = 'folded'"), 16.0);

    let linear = |name: &str, model: &str| results.metric("linear", name, &[("model", model), ("scale", "share")]);
    assert!(linear("pearson", "original") > 0.5, "{}", linear("pearson", "original"));
    close(linear("mean_error", "folded"), linear("mean_error", "original"), 1e-3);
    // All of a prompt's difference is at one token before the first block.
    let first = "SELECT SUM(exact * n) AS x FROM \"linear.mediators\" WHERE scale = 'share' AND layer = 0 AND model = 'original'";
    close(results.number(first), 16.0, 1e-4);

    let parts = "SELECT MAX(ABS(t.mean - d.mean - s.mean)) AS x FROM \"neurons.effects\" t \
        JOIN \"neurons.effects\" d ON t.model = d.model AND t.neurons = d.neurons AND t.measure = d.measure AND t.planted = d.planted \
        JOIN \"neurons.effects\" s ON t.model = s.model AND t.neurons = s.neurons AND t.measure = s.measure AND t.planted = s.planted \
        WHERE t.part = 'total' AND d.part = 'direct' AND s.part = 'through_scale'";
    assert!(results.number(parts) < 1e-12);
    // Two neurons, alone and together, on each of three models; and a planted one on each.
    let count = "SELECT COUNT(*) AS n FROM \"neurons.effects\" WHERE part = 'total' AND measure = 'entropy'";
    assert_eq!(results.number(count), 12.0);
    // Without a live norm nothing goes through its scale, whatever is planted.
    let through = "SELECT MAX(size) AS x FROM \"neurons.effects\" WHERE part = 'through_scale' AND model = 'ln_free'";
    assert!(results.number(through) <= 1e-6, "{}", results.number(through));
    let direct = "SELECT MAX(size) AS x FROM \"neurons.effects\" WHERE part = 'direct' AND model = 'ln_free'";
    assert!(results.number(direct) > 1e-4, "{}", results.number(direct));
    let place = "SELECT place FROM \"neurons.candidates\" WHERE planted AND chosen";
    assert_eq!(results.numbers(place), [1.0, 1.0, 1.0]);
    let size = |part: &str| {
        let at = format!("planted AND measure = 'entropy' AND model = 'original' AND part = '{part}'");
        results.number(&format!("SELECT size FROM \"neurons.effects\" WHERE {at}"))
    };
    assert!(size("through_scale") > 10.0 * size("direct"), "{} {}", size("through_scale"), size("direct"));
    let mass = "SELECT MAX(cumulative) AS x FROM \"neurons.profile\"";
    close(results.number(mass), 1.0, 1e-9);
}
