//! `docs/hooks.md` lists the points that the models have: these and no others, with their shapes, in their order.

use std::fs;
use std::path::Path;

use mediant_lm::{LmConfig, PositionKind};
use serde_json::{Value, json};

use super::hostile_configs::FIXTURES;
use super::support::fixture;

/// The cells of the table under a heading, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = |row: &str| row.split(" | ").map(|cell| cell.trim_matches([' ', '|', '`']).to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

fn config(name: &str, changes: &Value) -> LmConfig {
    let mut config: Value = serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    LmConfig::from_json(&config).unwrap()
}

/// The fixtures' models; and those of their families that have other points, which the page calls "if".
fn models() -> Vec<(&'static str, bool, LmConfig)> {
    let mut models: Vec<_> = FIXTURES.map(|name| (name, false, config(name, &json!({})))).into();
    for name in ["llama", "qwen2", "gemma2"] {
        models.push((name, true, config(name, &json!({"num_key_value_heads": config(name, &json!({})).n_heads}))));
    }
    models.push(("gpt_neox", true, config("gpt_neox", &json!({"use_parallel_residual": false}))));
    models
}

fn belongs(config: &LmConfig, models: &str) -> bool {
    match models {
        "all" => true,
        "learned positions" => config.positions == PositionKind::Learned,
        "rotary" => config.positions != PositionKind::Learned,
        "equal heads" => config.n_heads == config.n_kv_heads,
        "in sequence" => !config.parallel,
        "gated" => config.gated,
        "norms after" => config.post_norms,
        other => panic!("`{other}` is no kind of model on the page"),
    }
}

#[test]
fn the_page_lists_the_points_of_each_model() {
    let rows = table("The points");
    for (name, _, config) in models() {
        let own = rows.iter().filter(|row| belongs(&config, &row[2]));
        let (in_blocks, outside): (Vec<_>, Vec<_>) = own.partition(|row| row[0].starts_with("blocks.{l}."));
        let end = outside.iter().position(|row| row[0].starts_with("ln_final")).unwrap();
        let blocks = (0..config.n_layers).flat_map(|layer| {
            in_blocks.iter().map(move |row| (row[0].replace("{l}", &layer.to_string()), row[1].as_str()))
        });
        let plain = |row: &&Vec<String>| (row[0].clone(), row[1].clone());
        let mut listed: Vec<(String, String)> = outside[..end].iter().map(plain).collect();
        listed.extend(blocks.map(|(point, shape)| (point, shape.to_owned())));
        listed.extend(outside[end..].iter().map(plain));

        let size = |word: &str| match word {
            "1" => 1,
            "d_model" => config.d_model,
            "d_head" => config.d_head,
            "d_mlp" => config.d_mlp,
            "heads" => config.n_heads,
            "kv_heads" => config.n_kv_heads,
            "keys" => 37,
            "vocabulary" => config.vocab_size,
            other => panic!("`{other}` is no size"),
        };
        let listed: Vec<(String, Vec<usize>)> =
            listed.into_iter().map(|(point, shape)| (point, shape.split(", ").map(size).collect())).collect();
        let found: Vec<_> = config.hooks().iter().map(|p| (p.to_string(), p.shape(&config, 37))).collect();
        assert_eq!(listed, found, "{name}");
    }
}

#[test]
fn the_page_says_which_models_they_are() {
    for row in table("Which models have them") {
        for (name, other, config) in models() {
            let column = 2 + FIXTURES.iter().position(|fixture| *fixture == name).unwrap();
            let said = match row[column].as_str() {
                "yes" => true,
                "no" => false,
                _ => other,
            };
            assert_eq!(belongs(&config, &row[0]), said, "{name}: {}", row[0]);
        }
    }
}

#[test]
fn flags_stand_where_transformer_lens_needs_them() {
    for row in table("The points") {
        let expected = match row[0].rsplit_once('.').map_or(row[0].as_str(), |(_, name)| name) {
            "hook_attn_in" => "use_attn_in",
            "hook_q_input" | "hook_k_input" | "hook_v_input" => "use_split_qkv_input",
            "hook_result" => "use_attn_result",
            "hook_mlp_in" => "use_hook_mlp_in",
            "logits" => "no hook",
            _ => "always",
        };
        assert_eq!(row[3], expected, "{}", row[0]);
    }
}
