//! What is in a key and what is not: two pipelines differ in their recipe keys exactly when their results may.

use serde_json::Value;

use super::project::Project;

/// Recipe keys by instance.
fn recipes(pipeline: &str) -> Vec<(String, String)> {
    let project = Project::new();
    project.write("pipeline.yaml", pipeline);
    let ran = project.mediant(&["plan", "pipeline.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    plan["stages"].as_array().unwrap().iter().map(|row| (text(&row["stage"]), text(&row["recipe"]))).collect()
}

/// The recipe key of a `table` with these rows.
fn rows(rows: &str) -> String {
    recipes(&format!("mediant: 1\nstages:\n  t: {{ uses: table, with: {{ rows: {rows} }} }}\n"))[0].1.clone()
}

/// The recipe key of the last of two tables and what joins them.
fn joined(inputs: &str) -> String {
    let text = format!(
        "mediant: 1\nstages:\n  one: {{ uses: table, with: {{ rows: [{{ a: 1 }}] }} }}\n  two: {{ uses: table, with: {{ rows: [{{ a: 2 }}] }} }}\n  all: {{ uses: table, inputs: {{ tables: {inputs} }} }}\n"
    );
    recipes(&text).pop().unwrap().1
}

#[test]
fn two_values_swapped_are_another_recipe() {
    assert_ne!(rows("[{ a: 1, b: 2 }]"), rows("[{ a: 2, b: 1 }]"));
}

#[test]
fn two_inputs_of_a_list_swapped_are_another_recipe() {
    assert_ne!(joined("[one, two]"), joined("[two, one]"));
}

#[test]
fn named_members_in_another_order_are_the_same_recipe() {
    assert_eq!(joined("{ x: one, y: two }"), joined("{ y: two, x: one }"));
}

#[test]
fn an_absent_value_and_null_differ() {
    assert_ne!(rows("[{ a: 1, b: null }]"), rows("[{ a: 1 }]"));
}

#[test]
fn lists_are_framed() {
    let command = |argv: &str| {
        recipes(&format!(
            "mediant: 1\nstages:\n  c: {{ uses: command, with: {{ argv: {argv}, outputs: {{ o: table }} }} }}\n"
        ))[0]
            .1
            .clone()
    };
    assert_ne!(command("[ab, c]"), command("[a, bc]"));
    assert_ne!(command("[a, '']"), command("[a]"));
}

#[test]
fn numbers_keep_their_type_and_sign() {
    let all = ["1", "1.0", "'1'", "true", "0.0", "-0.0", ".nan", ".inf", "-.inf", "null"]
        .map(|value| rows(&format!("[{{ a: {value} }}]")));
    for (index, key) in all.iter().enumerate() {
        assert!(!all[..index].contains(key), "value {index} has the key of another");
    }
    assert_eq!(rows("[{ a: .nan }]"), rows("[{ a: .NaN }]"));
    assert_eq!(rows("[{ a: 1.0 }]"), rows("[{ a: 1.00 }]"));
}

#[test]
fn unicode_forms_are_different_text() {
    assert_ne!(rows("[{ a: \"\\u00e9\" }]"), rows("[{ a: \"e\\u0301\" }]"));
}

#[test]
fn the_order_of_options_is_in_no_key() {
    let text = |with: &str| recipes(&format!("mediant: 1\nstages:\n  t: {{ uses: table, with: {{ {with} }} }}\n"));
    assert_eq!(text("title: x, rows: [{ a: 1 }]"), text("rows: [{ a: 1 }], title: x"));
}

#[test]
fn a_default_written_out_is_no_change_and_another_value_is() {
    let text = |with: &str| {
        recipes(&format!("mediant: 1\nstages:\n  t: {{ uses: table, with: {{ rows: [{{ a: 1 }}]{with} }} }}\n"))
    };
    assert_eq!(text(""), text(", title: ''"));
    assert_ne!(text(""), text(", title: x"));
}

#[test]
fn names_of_stages_and_their_order_are_in_no_key() {
    let one = recipes(
        "mediant: 1\nstages:\n  x: { uses: table, with: { rows: [{ a: 1 }] } }\n  y: { uses: table, inputs: { tables: x } }\n",
    );
    let other = recipes(
        "mediant: 1\nstages:\n  q: { uses: table, inputs: { tables: p } }\n  p: { uses: table, with: { rows: [{ a: 1 }] } }\n",
    );
    assert_eq!(
        one.iter().map(|(_, key)| key).collect::<Vec<_>>(),
        other.iter().map(|(_, key)| key).collect::<Vec<_>>()
    );
}
