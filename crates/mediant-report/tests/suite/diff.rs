//! Two runs compared.

use insta::assert_snapshot;
use mediant_report::{Diff, Instance, Metric, Recipe, Snapshot, Terminal};
use serde_json::{Value, json};

fn instance(uses: &str, key: &str, config: Value, output: &str, ev: f64) -> Instance {
    let metrics = if uses == "evaluate_sae" {
        vec![
            Metric { name: "ev_mc".to_string(), unit: String::new(), value: ev },
            Metric { name: "ce".to_string(), unit: "nats".to_string(), value: 3.25 },
        ]
    } else {
        Vec::new()
    };
    let recipe = Recipe {
        uses: uses.to_string(),
        version: 1,
        config,
        inputs: [("activations".to_string(), vec!["acts".to_string()])].into(),
        sources: [("source".to_string(), "9876".repeat(16))].into(),
    };
    Instance {
        key: key.repeat(16),
        recipe: Some(recipe),
        outputs: [("out".to_string(), output.repeat(16))].into(),
        metrics,
    }
}

fn old() -> Snapshot {
    let sae = json!({ "d_sae": 2048, "sae": { "architecture": "topk", "k": 16 }, "hooks": ["a", "b"], "lr": 1 });
    Snapshot {
        title: "quickstart.lock".to_string(),
        sources: [("text/grammar.txt".to_string(), "ab12".repeat(16))].into(),
        instances: [
            ("model".to_string(), instance("load_model", "aaaa", json!({}), "a0a0", 0.0)),
            ("acts".to_string(), instance("cache_activations", "bbbb", json!({}), "b0b0", 0.0)),
            ("sae[k=16]".to_string(), instance("train_sae", "cccc", sae, "c0c0", 0.0)),
            ("eval".to_string(), instance("evaluate_sae", "dddd", json!({}), "d0d0", 0.931_249)),
            ("gone".to_string(), instance("compare", "eeee", json!({}), "e0e0", 0.0)),
        ]
        .into(),
    }
}

fn new() -> Snapshot {
    let mut new = old();
    new.title = "run 01JD".to_string();
    new.sources.insert("text/grammar.txt".to_string(), "cd34".repeat(16));
    new.instances.remove("gone");
    new.instances.insert("fresh".to_string(), instance("compare", "ffff", json!({}), "f0f0", 0.0));
    // The key changed, the result did not: early cutoff.
    let mut acts = instance("cache_activations", "bbb1", json!({ "batch": 8 }), "b0b0", 0.0);
    let recipe = acts.recipe.as_mut().unwrap();
    recipe.version = 2;
    recipe.inputs.insert("activations".to_string(), vec!["other".to_string()]);
    recipe.sources.insert("source".to_string(), "5432".repeat(16));
    new.instances.insert("acts".to_string(), acts);
    let sae = json!({ "d_sae": 2048, "sae": { "architecture": "topk", "k": 32 }, "hooks": ["a"], "lr": 1.0, "odd key": null });
    new.instances.insert("sae[k=16]".to_string(), instance("train_sae", "ccc1", sae, "c1c1", 0.0));
    // The same recipe, another result.
    let mut eval = instance("evaluate_sae", "dddd", json!({}), "d1d1", 0.941);
    eval.metrics.push(Metric { name: "l0".to_string(), unit: String::new(), value: 32.0 });
    new.instances.insert("eval".to_string(), eval);
    new
}

#[test]
fn every_rendering() {
    let diff = Diff::between(&old(), &new());
    assert_snapshot!("diff_terminal", diff.to_terminal(Terminal::PLAIN));
    assert_snapshot!("diff_markdown", diff.to_markdown());
    assert_snapshot!("diff_json", serde_json::to_string_pretty(&diff.to_json()).unwrap());
}

#[test]
fn equal_snapshots_do_not_differ() {
    let mut same = old();
    let diff = Diff::between(&same, &old());
    assert!(diff.is_empty());
    assert_eq!(diff.to_terminal(Terminal::PLAIN), "quickstart.lock → quickstart.lock: no difference in 5 instances\n");
    // NaN is not a change; the order of options neither.
    same.instances.get_mut("eval").unwrap().metrics[0].value = f64::NAN;
    assert!(Diff::between(&same, &same.clone()).is_empty());
    let swapped = json!({ "lr": 1, "hooks": ["a", "b"], "sae": { "k": 16, "architecture": "topk" }, "d_sae": 2048 });
    let mut other = same.clone();
    other.instances.get_mut("sae[k=16]").unwrap().recipe.as_mut().unwrap().config = swapped;
    assert!(Diff::between(&same, &other).is_empty());
}

#[test]
fn a_lock_is_compared_by_keys() {
    let mut locked = old();
    locked.instances.values_mut().for_each(|instance| instance.recipe = None);
    let diff = Diff::between(&locked, &new());
    assert_eq!(diff.changed.len(), 3);
    assert!(diff.changed.iter().all(|instance| instance.recipe.is_empty()));
}
