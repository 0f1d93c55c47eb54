//! What holds for any input.

use std::path::Path;

use mediant_spec::{Diagnostics, Entry, Node, Pipeline, Sources, Span, Value, did_you_mean, expand, from_node, parse};
use proptest::prelude::*;

use super::support::{Catalogue, SWEEP, flow};

fn place() -> Span {
    let source = Sources::default().add("", "");
    Span { source, start: 0, end: 0 }
}

fn node() -> impl Strategy<Value = Node> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::UInt),
        any::<f64>().prop_map(Value::Float),
        // Characters YAML can write, `${` apart.
        "[ -#%-~\t\n\u{85}\u{a0}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]{0,12}".prop_map(Value::Str),
    ];
    let scalar = scalar.prop_map(|value| Node::new(value, place()));
    scalar.prop_recursive(5, 40, 6, |inner| {
        let entry = ("[ -#%-~é]{1,8}", inner.clone()).prop_map(|(key, value)| Entry { key, key_span: place(), value });
        let map = prop::collection::vec(entry, 0..6).prop_map(|mut entries| {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            entries.dedup_by(|a, b| a.key == b.key);
            Value::Map(entries)
        });
        let seq = prop::collection::vec(inner, 0..6).prop_map(Value::Seq);
        prop_oneof![map, seq].prop_map(|value| Node::new(value, place()))
    })
}

fn document(with: &str) -> String {
    format!("mediant: 1\nstages:\n  s: {{ uses: command, with: {{ value: {with} }} }}\n")
}

/// Reads and expands, and looks at every place in the errors: whatever is wrong has to come out as text.
fn survive(text: &str) {
    let rendered = |pipeline: &Pipeline, errors: &Diagnostics| errors.render(&pipeline.sources, false);
    match parse(Path::new("p.yaml"), text, &[]) {
        Err(failure) => assert!(!failure.to_string().is_empty()),
        Ok(pipeline) => match expand(&pipeline, &Catalogue) {
            Err(wrong) => assert!(!rendered(&pipeline, &wrong.diagnostics).is_empty()),
            Ok(expansion) => {
                for instance in &expansion.instances {
                    if let Err(errors) = from_node::<Vec<u8>>(&instance.with) {
                        assert!(!rendered(&pipeline, &Diagnostics::new(errors).unwrap()).is_empty());
                    }
                }
            }
        },
    }
}

/// Every scalar's span has to cover what is written there, every collection's the spans in it.
fn check_spans(node: &Node, text: &str) {
    let written = &text[node.span.range()];
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                assert!(
                    text[entry.key_span.range()].contains(&entry.key) || text[entry.key_span.range()].starts_with('"')
                );
                assert!(node.span.start <= entry.key_span.start && entry.value.span.end <= node.span.end);
                check_spans(&entry.value, text);
            }
        }
        Value::Seq(items) => {
            for item in items {
                assert!(node.span.start <= item.span.start && item.span.end <= node.span.end);
                check_spans(item, text);
            }
        }
        Value::Str(_) => assert!(written.starts_with('"') && written.ends_with('"')),
        _ => assert_eq!(flow(node), written),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_from_yaml(node in node()) {
        let text = document(&flow(&node));
        let pipeline = parse(Path::new("p.yaml"), &text, &[]).unwrap_or_else(|failure| panic!("{failure}"));
        let read = pipeline.stages["s"].with.get("value").unwrap();
        prop_assert_eq!(read, &node);
        check_spans(read, &text);
    }

    #[test]
    fn substitution_never_panics(text in r"[$\{}a-z.\\ é]{0,20}(\$\{(params\.)?[a-z.]{0,4}\}?)?[$}]{0,3}") {
        survive(&format!("mediant: 1\nparams: {{ a: {{ b: 1 }}, c: \"${{params.a}}\" }}\nstages:\n  s: {{ uses: command, with: {{ x: {} }} }}\n",
            flow(&Node::new(Value::Str(text), place()))));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn yaml_like_text_is_survived(text in r#"([\[\]{}:,&*!|>'"%@`#?<~ \n\t-]|[a-c0-2.]|\$\{|: |- |\n  |&a |\*a |<<: ){0,60}"#) {
        survive(&text);
        survive(&document(&text));
    }

    #[test]
    fn changed_pipelines_are_survived(at in 0..SWEEP.len(), length in 0..40_usize, insert in r#"[\[\]{}:,&*$=\n a-z0-9"'-]{0,6}"#) {
        let at = SWEEP.floor_char_boundary(at);
        let end = SWEEP.floor_char_boundary((at + length).min(SWEEP.len())).max(at);
        survive(&format!("{}{insert}{}", &SWEEP[..at], &SWEEP[end..]));
    }

    #[test]
    fn overrides_are_survived(text in r"(params|stages|sae|with|layer|hooks|\.|\[|\]|=|[a-z0-9${}é]){0,8}") {
        if let Err(failure) = parse(Path::new("p.yaml"), SWEEP, &[text]) {
            prop_assert!(!failure.to_string().is_empty());
        }
    }

    #[test]
    fn references_are_survived(text in r#"[a-z\[\]=,."\\ é]{0,16}"#) {
        survive(&format!("mediant: 1\nstages:\n  a: {{ uses: command }}\n  s: {{ uses: command, inputs: {{ x: {} }} }}\n",
            flow(&Node::new(Value::Str(text), place()))));
    }

    #[test]
    fn labels_read_back(labels in prop::collection::btree_set(r#"[ -~é]{0,8}"#, 1..4)) {
        let values: Vec<String> = labels.iter().map(|label| flow(&Node::new(Value::Str(label.replace("${", "")), place()))).collect();
        let distinct: std::collections::HashSet<&String> = values.iter().collect();
        prop_assume!(distinct.len() == values.len());
        let text = format!("mediant: 1\nstages:\n  s: {{ uses: load_model, matrix: {{ k: [{}] }}, with: {{ k: \"${{matrix.k}}\" }} }}\n", values.join(", "));
        let pipeline = parse(Path::new("p.yaml"), &text, &[]).unwrap();
        let mut selecting = text;
        for (index, instance) in expand(&pipeline, &Catalogue).unwrap().instances.iter().enumerate() {
            let reference = flow(&Node::new(Value::Str(instance.label.clone()), place()));
            selecting += &format!("  t{index}: {{ uses: tokenize, inputs: {{ model: {reference} }} }}\n");
        }
        let pipeline = parse(Path::new("p.yaml"), &selecting, &[]).unwrap_or_else(|failure| panic!("{failure}"));
        let expansion = expand(&pipeline, &Catalogue).unwrap_or_else(|wrong| panic!("{}", wrong.diagnostics.render(&pipeline.sources, false)));
        for (index, instance) in expansion.instances.iter().filter(|instance| instance.label.starts_with('t')).enumerate() {
            prop_assert_eq!(instance.inputs[0].members[0].producer, index);
        }
    }
}

#[test]
fn suggestions() {
    let words = ["d_sae", "lr", "batch", "train_sae", "cache_activations", "hooks"];
    let suggested = |word| did_you_mean(word, words);
    assert_eq!(suggested("d_sea"), Some("d_sae"));
    assert_eq!(suggested("batches"), Some("batch"));
    assert_eq!(suggested("hook"), Some("hooks"));
    assert_eq!(suggested("Train-SAE"), Some("train_sae"));
    assert_eq!(suggested("cache_activation"), Some("cache_activations"));
    assert_eq!(suggested("l"), Some("lr"));
    assert_eq!(suggested("weight_decay"), None);
    assert_eq!(suggested(&"x".repeat(1_000_000)), None);
}
