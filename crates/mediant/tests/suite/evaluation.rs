//! Autoencoders trained on the shipped model: what the stages that look at them say fits together.

use std::path::Path;

use super::project::Project;

const PIPELINE: &str = r#"
mediant: 1
seed: 0
stages:
  model:
    uses: load_model
    with: { source: MODEL }
  corpus:
    uses: generate_corpus
    with: { sentences: 900, seed: 3, items: 5 }
  tokens:
    uses: tokenize
    inputs: { corpus: corpus, model: model }
    with: { context: 64, test_fraction: 0.4, pack: false }
  acts:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: [blocks.2.hook_resid_post, blocks.1.hook_mlp_out] }
  sae:
    uses: train_sae
    matrix: { seed: [0, 1, 2] }
    inputs: { activations: acts }
    with:
      hook: blocks.2.hook_resid_post
      sae: { architecture: batchtopk, k: 8, topk_threshold_lr: 0.1 }
      d_sae: 192
      steps: 150
      batch: 256
      lr: 0.003
      seed: "${matrix.seed}"
  mlp:
    uses: train_sae
    inputs: { activations: acts }
    with: { hook: blocks.1.hook_mlp_out, sae: { architecture: topk, k: 8 }, d_sae: 128, steps: 150, batch: 256, lr: 0.003 }
  loss:
    uses: evaluate_lm
    inputs: { model: model, tokens: tokens.test }
  eval:
    uses: evaluate_sae
    inputs: { model: model, sae: sae, tokens: tokens.test }
    with: { variants: [ev_token_legacy, fve_dl, ev_saebench060], zf_rows: 100 }
  by_batch:
    uses: evaluate_sae
    inputs: { model: model, sae: "sae[seed=0]", tokens: tokens.test }
    with: { choose: batch }
  mlp_eval:
    uses: evaluate_sae
    inputs: { model: model, sae: mlp, tokens: tokens.test }
  both:
    uses: evaluate_sae
    inputs: { model: model, saes: { resid: "sae[seed=0]", mlp: mlp }, tokens: tokens.test }
  stability:
    uses: sae_stability
    inputs: { saes: { from: sae, over: [seed] } }
  features:
    uses: feature_table
    inputs: { model: model, sae: "sae[seed=0]", tokens: tokens.test }
    with: { contexts: 3, before: 4, after: 2, logits: 5 }
  probing:
    uses: sparse_probing
    inputs: { model: model, sae: "sae[seed=0]", tokens: tokens.test, labels: corpus.labels }
    with: { variables: [number, word_class, kind], values: 4, k: [5, 1], examples: 400, least: 10 }
"#;

struct Results(Project);

impl Results {
    fn column(&self, sql: &str) -> Vec<String> {
        let found = self.0.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{sql}: {}", found.stderr);
        found.stdout.lines().skip(1).map(|line| line.trim_matches('"').to_owned()).collect()
    }

    fn numbers(&self, sql: &str) -> Vec<f64> {
        self.column(sql).iter().map(|cell| cell.parse().unwrap_or_else(|_| panic!("{sql}: {cell}"))).collect()
    }

    fn number(&self, sql: &str) -> f64 {
        let numbers = self.numbers(sql);
        assert_eq!(numbers.len(), 1, "{sql}: {numbers:?}");
        numbers[0]
    }

    fn metric(&self, stage: &str, name: &str) -> f64 {
        self.number(&format!("SELECT value FROM \"{stage}\" WHERE name = '{name}'"))
    }
}

fn close(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() <= within * b.abs().max(1e-9), "{a} {b}");
}

#[test]
fn evaluations_of_trained_autoencoders_fit_together() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let project = Project::new();
    project.write("pipeline.yaml", &PIPELINE.replace("MODEL", model.to_str().unwrap()));
    project.ran(&[]);
    let results = Results(project);
    evaluated(&results);
    stable(&results);
    described(&results);
    probed(&results);
}

fn evaluated(results: &Results) {
    let eval = |name: &str| results.metric("eval[seed=0]", name);
    assert!(
        eval("ev_mc") > 0.5 && eval("ce_score") > 0.5 && eval("kl_score") > 0.5,
        "{} {}",
        eval("ev_mc"),
        eval("ce_score")
    );
    close(eval("nmse"), 1.0 - eval("ev_mc"), 1e-9);
    // A constant offset is free in one of them, and one divides by too much.
    assert!(eval("fve_dl") >= eval("ev_mc") && eval("ev_saebench060") != eval("ev_mc"));
    close(eval("ce_clean"), results.metric("loss", "ce_loss"), 1e-6);
    // The mean is nearer than zeros, so that less is lost and less recovered.
    assert!(eval("ce_mean_ablation") > eval("ce_sae") && eval("ce_score_mean") < eval("ce_score"));
    close(eval("mdl_l0"), eval("l0") * (7.0 + 192f64.log2()), 1e-9);
    assert!(eval("mdl_entropy") > 0.0);
    let latents = "SELECT SUM(latents) AS n FROM \"eval[seed=0].density\"";
    assert_eq!(results.number(latents), 192.0);
    let dead = results.numbers("SELECT latents FROM \"eval[seed=0].density\" WHERE low IS NULL")[0];
    close(dead / 192.0, eval("dead_fraction"), 1e-9);
    // The table of norms is of the same tokens as the quantiles.
    assert_eq!(results.number("SELECT COUNT(*) AS n FROM \"eval[seed=0].zf\""), 100.0);
    let of_table = results.numbers(
        "SELECT ABS(z_norm * z_norm - f_norm * f_norm) / (191 * f_norm * f_norm) - eps_lbo AS x FROM \"eval[seed=0].zf\"",
    );
    assert!(of_table.iter().all(|difference| difference.abs() < 1e-12));

    // By batch k is met; both say how they chose.
    let chosen = |stage: &str| results.column(&format!("SELECT tags FROM \"{stage}\" WHERE name = 'l0'"))[0].clone();
    assert!(chosen("eval[seed=0]").contains("threshold") && chosen("by_batch").contains("batch"));
    close(results.metric("by_batch", "l0"), 8.0, 1e-3);

    // At the hooks each is what it is alone; in the model two together cost more than either.
    for (name, alone) in [("resid", "eval[seed=0]"), ("mlp", "mlp_eval")] {
        let together = format!("SELECT value FROM both WHERE name = 'ev_mc' AND tags LIKE '%\"sae\":\"{name}\"%'");
        assert_eq!(results.number(&together), results.metric(alone, "ev_mc"));
        assert!(results.metric("both", "kl_sae") > results.metric(alone, "kl_sae"), "{name}");
    }
    assert_eq!(results.metric("both", "ce_clean"), results.metric("mlp_eval", "ce_clean"));
}

fn stable(results: &Results) {
    let pairs = results.numbers("SELECT value FROM stability WHERE name = 'matched_cosine'");
    assert_eq!(pairs.len(), 3);
    close(results.metric("stability", "stability"), pairs.iter().sum::<f64>() / 3.0, 1e-12);
    assert!(pairs.iter().all(|cosine| (0.2..0.999).contains(cosine)), "{pairs:?}");
    let nearest = results.numbers("SELECT value FROM stability WHERE name = 'mean_max_cosine'");
    assert_eq!(nearest.len(), 6);
    assert!(nearest.iter().all(|cosine| *cosine >= pairs.iter().copied().fold(1.0, f64::min)));
    // Each latent once, and the mean of the table is the metric.
    let table = "FROM \"stability.matches\" WHERE a = 'seed=0' AND b = 'seed=1'";
    assert_eq!(results.number(&format!("SELECT COUNT(DISTINCT latent_b) AS n {table}")), 192.0);
    close(results.number(&format!("SELECT AVG(cosine) AS x {table}")), pairs[0], 1e-6);
}

fn described(results: &Results) {
    let number = |sql: &str| results.number(sql);
    // What is active of all latents together is L0, and none is dead to one stage alone.
    close(number("SELECT SUM(density) AS x FROM features"), results.metric("eval[seed=0]", "l0"), 1e-9);
    let never = number("SELECT COUNT(*) AS n FROM features WHERE active = 0");
    close(never / 192.0, results.metric("eval[seed=0]", "dead_fraction"), 1e-9);
    close(
        number("SELECT SUM(active * mean) AS x FROM features"),
        results.metric("eval[seed=0]", "l1") * number("SELECT MAX(n) AS n FROM \"eval[seed=0]\" WHERE name = 'l1'"),
        1e-6,
    );
    // The first context has the largest value, and its list holds it where it says.
    let differs = "SELECT COUNT(*) AS n FROM features f JOIN \"features.contexts\" c ON f.latent = c.latent WHERE c.place = 1 AND f.max <> c.value";
    assert_eq!(number(differs), 0.0);
    let rows = results.0.mediant(&[
        "query",
        "pipeline.yaml",
        "SELECT value, position, first, values FROM \"features.contexts\" LIMIT 200",
        "--json",
    ]);
    let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap_or_else(|_| panic!("{}", rows.stdout));
    let rows = rows["rows"].as_array().or(rows.as_array()).unwrap().clone();
    assert!(rows.len() > 100);
    for row in &rows {
        let at = row["position"].as_u64().unwrap() - row["first"].as_u64().unwrap();
        let values: Vec<f64> = row["values"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(values.len() <= 7 && values[at as usize] == row["value"].as_f64().unwrap(), "{row}");
    }
    // Texts can be searched, and weights are in order.
    assert!(!results.column("SELECT latent FROM \"features.contexts\" WHERE text = ' to'").is_empty());
    let order = "SELECT COUNT(*) AS n FROM \"features.logits\" a JOIN \"features.logits\" b ON a.latent = b.latent AND a.side = b.side WHERE a.side = 'promoted' AND a.place < b.place AND a.weight < b.weight";
    assert_eq!(number(order), 0.0);
    assert_eq!(number("SELECT COUNT(*) AS n FROM \"features.logits\""), 192.0 * 10.0);
}

fn probed(results: &Results) {
    let mean = |features: &str, k: u32| {
        let tags = format!("tags LIKE '%\"features\":\"{features}\"%' AND tags LIKE '%\"k\":\"{k}\"%'");
        results.number(&format!("SELECT value FROM probing WHERE name = 'mean_auc' AND {tags}"))
    };
    for features in ["latents", "activations", "neurons"] {
        assert!(mean(features, 5) > 0.7, "{features}: {}", mean(features, 5));
        assert!(mean(features, 5) > mean(features, 1) - 0.02, "{features}");
    }
    // A variable of two values is one question; others have as many as were asked for.
    assert_eq!(results.column("SELECT DISTINCT value FROM \"probing.probes\" WHERE variable = 'number'"), ["plural"]);
    assert_eq!(results.column("SELECT DISTINCT value FROM \"probing.probes\" WHERE variable = 'word_class'").len(), 4);
    let inside = "SELECT COUNT(*) AS n FROM probing WHERE low > value OR high < value";
    assert_eq!(results.number(inside), 0.0);
    // Latents of the probe are found by the table of features.
    let shown = results.column("SELECT c.text FROM \"probing.probes\" p JOIN \"features.contexts\" c ON p.feature = c.latent WHERE p.variable = 'number' AND p.features = 'latents' AND p.k = 1");
    assert!(!shown.is_empty());
}
