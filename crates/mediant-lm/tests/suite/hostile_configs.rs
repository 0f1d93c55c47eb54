//! A `config.json` of each architecture that asks for what cannot be: one error that names the field, no panic, and no more
//! memory than the file has bytes.

use std::fs;

use mediant_artifact::Processing;
use mediant_lm::{Architecture, HfFolder, LmConfig};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::allocator::largest;
use super::support::fixture;

pub(crate) const FIXTURES: [&str; 6] = ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"];

/// The largest allocation may have this many bytes beyond four times the file's size: a `Vec` that doubles, and messages.
const SLACK: usize = 192 << 10;

fn config(name: &str) -> Map<String, Value> {
    let text = fs::read(fixture(name).join("config.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Opens a folder with this config and the fixture's weights.
fn open(name: &str, config: &[u8]) -> Result<(), String> {
    let weights = fs::read(fixture(name).join("model.safetensors")).unwrap();
    let size = config.len() + weights.len();
    let (result, most) = largest(|| HfFolder::in_memory(config, weights).map(drop).map_err(|e| e.to_string()));
    assert!(most <= 4 * size + SLACK, "{most} bytes at once for files of {size}");
    result
}

fn refused(name: &str, changes: &Value) -> String {
    let mut config = config(name);
    config.extend(changes.as_object().unwrap().clone());
    let error = open(name, Value::from(config).to_string().as_bytes()).unwrap_err();
    assert!(error.len() < 400, "{error}");
    error
}

/// The names of a family's fields: layers, width, heads, context, vocabulary, epsilon.
fn fields(name: &str) -> [&'static str; 6] {
    match name {
        "gpt2" => ["n_layer", "n_embd", "n_head", "n_positions", "vocab_size", "layer_norm_epsilon"],
        "gpt_neo" => {
            ["num_layers", "hidden_size", "num_heads", "max_position_embeddings", "vocab_size", "layer_norm_epsilon"]
        }
        "gpt_neox" => [
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            "vocab_size",
            "layer_norm_eps",
        ],
        _ => [
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            "vocab_size",
            "rms_norm_eps",
        ],
    }
}

#[test]
fn the_fixtures_are_sound_and_cover_every_architecture() {
    for name in FIXTURES {
        open(name, &fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    }
    assert!(Architecture::ALL.iter().map(|a| a.model_type).eq(FIXTURES));
}

#[test]
fn sizes_out_of_range() {
    let huge = [json!(1_u64 << 60), json!(u64::MAX), json!(1_u64 << 29)];
    let none = [json!(0), json!(-1), json!(2.5), json!("8"), json!([8]), json!(null), json!(1e300)];
    for name in FIXTURES {
        for field in &fields(name)[..5] {
            for size in huge.iter().chain(&none) {
                let error = refused(name, &json!({ *field: size }));
                assert!(error.starts_with("config.json: "), "{name}, {field} {size}: {error}");
            }
        }
        // Sizes that are each within bounds and together are not, and layers that the file has no tensors for.
        let [layers, width, ..] = fields(name);
        let error = refused(name, &json!({ layers: 4096, width: 1 << 26 }));
        assert!(error.starts_with("config.json: "), "{name}: {error}");
        let mut many = json!({ layers: 4096 });
        for list in ["layer_types", "attention_layers"].into_iter().filter(|list| config(name).contains_key(*list)) {
            many[list] = Value::from(vec![config(name)[list][0].clone(); 4096]);
        }
        let error = refused(name, &many);
        assert!(error.starts_with("the checkpoint lacks `") && error.ends_with("more tensors"), "{name}: {error}");
    }
}

#[test]
fn numbers_out_of_range() {
    for name in FIXTURES {
        let epsilon = fields(name)[5];
        for number in [json!(0), json!(-1e-5), json!(1e-300), json!(10), json!(1e300), json!("1e-5")] {
            let error = refused(name, &json!({ epsilon: number }));
            assert!(error.contains("epsilon") || error.contains(epsilon), "{name}: {error}");
        }
    }
    for field in ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"] {
        for number in [json!(0), json!(-5), json!(1e-300), json!(1e300)] {
            assert!(refused("gemma2", &json!({ field: number })).starts_with("config.json: "));
        }
    }
}

#[test]
fn heads_and_their_widths() {
    for name in ["llama", "qwen2", "gemma2"] {
        for (field, number) in [
            ("num_key_value_heads", json!(0)),
            ("num_key_value_heads", json!(5)),
            ("num_key_value_heads", json!(1_u64 << 50)),
            ("head_dim", json!(0)),
            ("head_dim", json!(9)),
            ("head_dim", json!(1 << 20)),
        ] {
            assert!(refused(name, &json!({ field: number })).starts_with("config.json: "), "{name}: {field}");
        }
        assert!(refused(name, &json!({"head_dim": 2})).contains("but the config says"));
    }
}

#[test]
fn rotary_positions_that_make_no_sense() {
    let wrong = [
        json!({"rope_theta": 0.0}),
        json!({"rope_theta": -1.0}),
        json!({"rope_theta": 1e-300}),
        json!({"rope_theta": 0.5}),
        json!({"rope_theta": 1e300}),
        json!({"rope_theta": "1e4"}),
        json!({"rope_theta": null}),
        json!({"rope_theta": [1e4]}),
        json!({"rope_type": {}}),
        json!({"factor": 2}),
        json!({"rope_parameters": {"rope_theta": 1e4}}),
        json!({"full_attention": {"rope_theta": 1e4}}),
        json!([1, 2]),
        json!("default"),
        json!(7),
    ];
    for name in ["gpt_neox", "llama", "qwen2", "gemma2"] {
        for parameters in &wrong {
            let error = refused(name, &json!({ "rope_parameters": parameters }));
            assert!(error.starts_with("config.json: "), "{name}, {parameters}: {error}");
        }
    }
    for part in [json!(1e-9), json!(0), json!(1.5), json!(-0.5), json!(1e300)] {
        let error = refused("gpt_neox", &json!({"rope_parameters": {"partial_rotary_factor": part}}));
        assert!(error.starts_with("config.json: "), "{error}");
    }
}

#[test]
fn windows_that_make_no_sense() {
    for window in [json!(0), json!(-8), json!(u64::MAX), json!(1_u64 << 40), json!(7.5)] {
        assert!(refused("gemma2", &json!({ "sliding_window": window })).contains("window"));
        assert!(refused("gpt_neo", &json!({ "window_size": window })).contains("window"));
        let sliding =
            json!({"use_sliding_window": true, "layer_types": null, "max_window_layers": 0, "sliding_window": window});
        assert!(refused("qwen2", &sliding).contains("window"));
    }
    for (name, list) in [("gemma2", "layer_types"), ("qwen2", "layer_types"), ("gpt_neo", "attention_layers")] {
        let wrong = [
            json!([]),
            json!(["none", "none", "none", "none"]),
            json!([["full_attention"]]),
            json!({}),
            json!("x".repeat(9999)),
            json!([1, 2, 3, 4]),
        ];
        for types in wrong {
            assert!(refused(name, &json!({ list: types })).contains(list), "{name}");
        }
    }
}

#[test]
fn attention_types_that_grow() {
    let kinds = vec!["global"; 1000];
    let cases = [
        json!([[["global", "local"], 1_u64 << 60]]),
        json!([[["global", "local"], u64::MAX]]),
        json!([[[], u64::MAX], [["global"], 3]]),
        json!([[kinds, 1_u64 << 50], [kinds, 1_u64 << 50]]),
        json!(vec![json!([[], u64::MAX]); 4000]),
        json!([[["global"], -1]]),
        json!([["global", 4]]),
        json!([[["other"], 4]]),
        json!([[4, ["global"]]]),
        json!([]),
        json!({"global": 4}),
        json!(9),
    ];
    for types in cases {
        let start = std::time::Instant::now();
        let error = refused("gpt_neo", &json!({"attention_layers": null, "attention_types": types}));
        assert!(error.contains("attention_types"), "{error}");
        assert!(start.elapsed().as_secs() < 2);
    }
}

#[test]
fn texts_that_are_no_config() {
    let text = fs::read_to_string(fixture("gpt2").join("config.json")).unwrap();
    let twice = text.replacen('{', "{\"n_layer\": 1,", 1);
    let inside = text.replacen('{', "{\"task_specific_params\": {\"a\": 1, \"a\": 2},", 1);
    let deep = text.replacen('{', &format!("{{\"id2label\": {}1{},", "[".repeat(300), "]".repeat(300)), 1);
    let deeper = format!("{{\"a\": {}", "[".repeat(500_000));
    let long = text.replacen('{', &format!("{{\"bad_words_ids\": [{}0],", "0,".repeat(100_000)), 1);
    let large = format!("{text}{}", " ".repeat(2 << 20));
    let cases = [
        (twice.as_str(), "the key `n_layer` stands twice"),
        (&inside, "the key `a` stands twice"),
        (&deep, "nested too deeply"),
        (&deeper, "nested too deeply"),
        (&long, "a list of more than 4096 items"),
        (&large, "more than 1048576 bytes"),
        (&text[..text.len() / 2], "config.json"),
        ("", "config.json"),
        ("null", "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ("\"gpt2\"", "is not a JSON object"),
        ("{}", "model_type"),
        ("{\"model_type\": 7}", "model_type"),
        ("{\"model_type\": \"gpt2000\"}", "built are gpt2, gpt_neo, gpt_neox, llama, qwen2, gemma2"),
        ("{\"model_type\": \"gpt2\"} {}", "trailing"),
        ("\u{0}", "config.json"),
    ];
    for (config, expected) in cases {
        let error = open("gpt2", config.as_bytes()).unwrap_err();
        assert!(error.contains(expected) && error.len() < 400, "expected `{expected}` in `{error}`");
    }
}

/// Any JSON, small and large numbers most of all.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..70).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just("default"), Just("global"), Just("full_attention"), Just("silu"), Just("é")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![Just("rope_theta"), Just("rope_type"), Just("partial_rotary_factor"), Just("x")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.prop_map(str::to_owned), inner), 0..4)
                .prop_map(|entries| Value::from(Map::from_iter(entries))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Fields of any architecture replaced by any value; what is read can be processed, listed and counted.
    #[test]
    fn no_field_panics(which in 0_usize..6, changes in prop::collection::vec((0_usize..60, value()), 1..4)) {
        let mut config = config(FIXTURES[which]);
        let names: Vec<String> = config.keys().filter(|name| *name != "model_type").cloned().collect();
        for (field, value) in changes {
            config.insert(names[field % names.len()].clone(), value);
        }
        if let Ok(config) = LmConfig::from_json(&Value::from(config.clone())) {
            let all = Processing { fold_ln: true, fold_value_biases: true, ..Processing::default() };
            let processed = config.processed(all).unwrap();
            prop_assert!(processed.parameters() >= config.parameters());
        }
        let _ = open(FIXTURES[which], Value::from(config).to_string().as_bytes());
    }

    /// Bytes of the text changed, cut off or added.
    #[test]
    fn no_text_panics(which in 0_usize..6, changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in prop::option::of(0_usize..1200)) {
        let mut text = fs::read(fixture(FIXTURES[which]).join("config.json")).unwrap();
        for (place, value) in changes {
            let place = place % text.len();
            text[place] = value;
        }
        text.truncate(cut.unwrap_or(text.len()));
        let _ = open(FIXTURES[which], &text);
    }
}
