//! The pipelines that look into the shipped model find what is there, and their methods agree.

use std::path::Path;

use super::adder::{UNUSED, USED, write_adder};
use super::docs::blocks;
use super::project::Project;

/// A shipped pipeline that was run in a project of its own, with these of its words replaced.
fn shipped(name: &str, replaced: &[(&str, &str)]) -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = std::fs::read_to_string(root.join("pipelines").join(name)).unwrap();
    for (words, others) in replaced {
        assert!(text.contains(words), "{words}");
        text = text.replace(words, others);
    }
    let project = Project::new();
    project.write("pipeline.yaml", &text.replace("../datasets", root.join("datasets").to_str().unwrap()));
    project.ran(&[]);
    project
}

/// The one value that a query gives.
fn cell(project: &Project, sql: &str) -> String {
    let found = project.mediant(&["query", "pipeline.yaml", sql, "--csv"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    found.stdout.lines().nth(1).unwrap_or_else(|| panic!("{}", found.stdout)).to_owned()
}

fn number(project: &Project, sql: &str) -> f64 {
    cell(project, sql).parse().unwrap()
}

#[test]
fn a_few_heads_carry_the_indirect_object_and_every_method_finds_them() {
    let project = shipped("ioi-circuit.yaml", &[]);
    let restored = number(&project, "SELECT MAX(value) AS v FROM patched");
    assert!(restored > 0.9, "one head of tiny-gpt2 restores nearly all of the difference: {restored}");
    let first = |method: &str| {
        let sql = format!("SELECT name FROM {method} ORDER BY value DESC LIMIT 1");
        cell(&project, &sql)
    };
    assert_eq!((first("attributed"), first("integrated")), (first("patched"), first("patched")));
    let agreement = |stage: &str, a: &str, b: &str| {
        let tags = format!("{{\"a\":\"{a}\",\"b\":\"{b}\"}}");
        number(&project, &format!("SELECT value FROM {stage} WHERE name = 'spearman' AND tags = '{tags}'"))
    };
    for (a, b) in [("attribution", "exact"), ("exact", "integrated")] {
        assert!(agreement("agreement", a, b) > 0.9, "{a} {b}: {}", agreement("agreement", a, b));
    }
    assert!(agreement("edge_agreement", "eap_ig", "exact") > 0.5);
    // Contributions to the logits, with the bias, are all of the difference.
    assert!((number(&project, "SELECT SUM(value) AS v FROM direct") - 1.0).abs() < 1e-3);
    let shown = project.mediant(&["show", "pipeline.yaml", "patched"]).stdout;
    assert!(shown.contains("layer") && shown.contains("blocks.*.attn.hook_z"), "a heat map, layer by head:\n{shown}");
}

#[test]
fn facts_move_from_the_subject_to_the_last_token() {
    let project = shipped("facts.yaml", &[]);
    let residual = |layer: u32, span: &str| {
        let sql = format!("SELECT value FROM trace WHERE kind = 'residual' AND layer = {layer} AND span = '{span}'");
        number(&project, &sql)
    };
    assert!((residual(3, "last") - 1.0).abs() < 1e-3, "after the last layer the last token is all there is");
    assert!(residual(3, "last_subject").abs() < 1e-3, "and no other token is read any more");
    assert!(residual(0, "last_subject") > residual(2, "last_subject"), "what the subject holds has moved on by then");
    assert!(number(&project, "SELECT MAX(value) AS v FROM cut") > 0.5, "one head must see the subject");
    let exported = project.mediant(&["export", "pipeline.yaml", "patched.effects", "DIR"]);
    let names = ["patched.effects.examples.parquet", "patched.effects.mediators.parquet", "patched.effects.parquet"];
    assert!(exported.code == Some(0) && names.iter().all(|name| exported.stdout.contains(name)), "{}", exported.stdout);
    let again = project.mediant(&["run", "pipeline.yaml"]).stdout;
    assert!(again.contains("patched\nmediator") && again.contains("blocks.0.hook_resid_pre@subject"), "{again}");
}

#[test]
fn edges_are_ordered_as_exact_patching_orders_them() {
    // A third of the training, so that the test is quick; what is asserted leaves room for other processors' rounding.
    let project =
        shipped("edge-attribution.yaml", &[("steps: 1500", "steps: 500"), ("sentences: 200000", "sentences: 60000")]);
    for task in ["agreement", "induction"] {
        for method in ["eap", "eap_ig"] {
            let tags = format!("{{\"a\":\"{method}\",\"b\":\"exact\",\"task\":\"{task}\"}}");
            let sql = format!("SELECT value FROM agreement WHERE name = 'spearman' AND tags = '{tags}'");
            let spearman = number(&project, &sql);
            assert!(spearman > 0.75, "{task} {method}: {spearman}");
        }
        // The embeddings reach the answer through the edges that leave them: in the limit of many steps all of the difference.
        let left_sum = "SELECT SUM(value) AS v FROM eap_ig WHERE name LIKE 'input->%' AND task =";
        let complete = number(&project, &format!("{left_sum} '{task}'"));
        assert!((complete - 1.0).abs() < 0.1, "{task}: {complete}");
    }
}

#[test]
fn exact_patching_finds_the_circuits_that_are_known() {
    let project = shipped("known-circuits.yaml", &[("n: 100", "n: 40")]);
    let auroc = |circuit: &str, method: &str, name: &str| {
        let tags = format!("{{\"method\":\"{method}\",\"name\":\"{circuit}\"}}");
        number(&project, &format!("SELECT value FROM auroc WHERE name = '{name}' AND tags = '{tags}'"))
    };
    for circuit in ["induction", "indirect_object", "hist", "lookup_sum"] {
        for reading in ["auroc_abs", "auroc_signed"] {
            assert!(auroc(circuit, "exact", reading) >= 0.99, "{circuit}");
        }
        let random = auroc(circuit, "random", "auroc_abs");
        assert!((random - 0.5).abs() < 0.05, "{circuit}: {random}");
        // Hard attention has no gradient, half-way embeddings have one.
        let (eap, eap_ig) = (auroc(circuit, "eap", "auroc_abs"), auroc(circuit, "eap_ig", "auroc_abs"));
        assert!(eap > 0.55 && eap < 0.9, "{circuit}: {eap}");
        assert!(eap_ig > 0.95 || circuit == "hist", "{circuit}: {eap_ig}");
    }
    // Every edge of a circuit alone changes the answer, and no other does.
    let joined = "FROM exact AS s JOIN \"known.truth\" AS t ON s.name = t.name AND s.axis_name = t.axis_name";
    let least = number(&project, &format!("SELECT MIN(s.value) AS v {joined} WHERE t.value = 1"));
    let most = number(&project, &format!("SELECT MAX(ABS(s.value)) AS v {joined} WHERE t.value = 0"));
    assert!(least > 0.3 && most < 1e-3, "{least} {most}");
}

/// The guide's pipeline, and the two frequencies of the embedding each by itself.
const ONE_FREQUENCY: &str = r#"
  one:
    uses: fourier_subspace
    matrix: { k: [2, 5] }
    inputs: { model: model }
    with: { frequencies: ["${matrix.k}"], n: 50, split: held_out }
  iia_one:
    uses: interchange
    inputs: { model: model, prompts: one.prompts, directions: one.directions }
  overlap_of_one:
    uses: subspace_overlap
    inputs: { a: one.directions, b: { all: "truth[split=train].directions" } }
"#;

#[test]
fn searches_find_the_fourier_subspace_of_a_model_that_adds() {
    let project = Project::new();
    write_adder(&project, "adder");
    let guide =
        blocks("docs/known-circuits.md", "yaml")[1].replace("path/to/folder", "adder").replace("n: 1000", "n: 300");
    project.write("pipeline.yaml", &format!("{guide}{ONE_FREQUENCY}"));
    project.ran(&[]);
    let share = |k: usize| {
        let tags = format!("{{\"frequency\":\"{k}\",\"key\":\"{}\"}}", k == USED.0 || k == UNUSED.0);
        number(&project, &format!("SELECT value FROM \"truth[split=train].metrics\" WHERE tags = '{tags}'"))
    };
    // Squares of the amplitudes 1 and 0.5.
    assert!((share(USED.0) - 0.8).abs() < 1e-6 && (share(UNUSED.0) - 0.2).abs() < 1e-6 && share(1) < 1e-12);
    let iia = |stage: &str, features: &str, rank: usize| {
        let tags = format!("tags LIKE '%\"features\":\"{features}\"%\"rank\":\"{rank}\"%'");
        number(&project, &format!("SELECT value FROM \"{stage}.metrics\" WHERE name = 'iia' AND {tags}"))
    };
    assert_eq!((iia("iia_truth", "directions", 4), iia("iia_truth", "full_vector", 32)), (1.0, 1.0));
    // A large part of an embedding need not be read.
    assert_eq!((iia("iia_one[k=2]", "directions", 2), iia("iia_one[k=5]", "directions", 2)), (1.0, 0.0));
    let of_random = iia("iia_truth", "random", 4);
    let (das, shuffled) = (iia("iia_das", "directions", 2), iia("iia_shuffled", "directions", 2));
    assert!(das > 0.95 && shuffled < 0.7 && of_random < 0.5, "{das} {shuffled} {of_random}");
    let overlap = |name: &str, a: &str, rank: usize| {
        let tags = format!("tags LIKE '%\"a\":\"{a}\"%\"rank_a\":\"{rank}\"%'");
        number(&project, &format!("SELECT value FROM overlap WHERE name = '{name}' AND {tags}"))
    };
    let (das, shuffled) = (overlap("overlap", "das", 2), overlap("overlap", "shuffled", 2));
    assert!(das > 0.95 && shuffled < das, "{das} {shuffled}");
    // The embedding varies in these dimensions alone.
    assert!(overlap("cosine_min", "pca", 4) > 0.9999 && overlap("overlap_random", "pca", 4) == 4.0 / 32.0);
    for k in ["2", "5"] {
        let sql = format!("SELECT value FROM overlap_of_one WHERE name = 'cosine_min' AND tags LIKE '%\"k\":\"{k}\"%'");
        assert!(number(&project, &sql) > 0.9999, "a part of the whole");
    }
}
