//! What a `config.json` may ask for, and what is refused: by the name of the field, never ignored.

use mediant_artifact::HookFact;
use mediant_lm::{LmConfig, PositionKind, matching_hooks};
use serde_json::{Value, json};

use super::support::{gpt2_json, llama_json};

fn with(mut config: Value, changes: Value) -> Result<LmConfig, String> {
    let object = config.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    LmConfig::from_json(&config).map_err(|e| e.to_string())
}

fn gpt2(changes: Value) -> Result<LmConfig, String> {
    with(gpt2_json(2, 32, 4, 60, 40), changes)
}

fn llama(changes: Value) -> Result<LmConfig, String> {
    with(llama_json(2, 32, 4, 2, 60, 40), changes)
}

#[test]
fn what_would_change_the_numbers_is_refused_by_name() {
    let refused = [
        (gpt2(json!({"activation_function": "gelu"})), "activation_function"),
        (gpt2(json!({"scale_attn_weights": false})), "scale_attn_weights"),
        (gpt2(json!({"scale_attn_by_inverse_layer_idx": true})), "scale_attn_by_inverse_layer_idx"),
        (gpt2(json!({"add_cross_attention": true})), "add_cross_attention"),
        (gpt2(json!({"quantization_config": {"bits": 4}})), "quantization_config"),
        (gpt2(json!({"n_head": 5})), "n_head"),
        (gpt2(json!({"n_layer": null})), "n_layer"),
        (gpt2(json!({"n_layer": -1})), "n_layer"),
        (gpt2(json!({"n_layer": 2.5})), "n_layer"),
        (gpt2(json!({"n_embd": u64::MAX})), "n_head"),
        (gpt2(json!({"vocab_size": 1_u64 << 40})), "vocabulary size"),
        (gpt2(json!({"layer_norm_epsilon": 0})), "layer_norm_epsilon"),
        (gpt2(json!({"model_type": "bert"})), "model_type"),
        (llama(json!({"hidden_act": "gelu"})), "hidden_act"),
        (llama(json!({"attention_bias": true})), "attention_bias"),
        (llama(json!({"mlp_bias": true})), "mlp_bias"),
        (llama(json!({"num_key_value_heads": 3})), "key/value heads"),
        (llama(json!({"head_dim": 7})), "d_head"),
        (llama(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})), "rope_scaling"),
        (llama(json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})), "rope_scaling"),
        (llama(json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}})), "rope_parameters.rope_type"),
        (llama(json!({"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}})), "rope_parameters.factor"),
        (llama(json!({"rope_parameters": {"rope_theta": 5e5}})), "rope_theta"),
        (llama(json!({"sliding_window": 128})), "sliding_window"),
        (LmConfig::from_json(&json!([1])).map_err(|e| e.to_string()), "JSON object"),
        (LmConfig::from_json(&json!({"n_layer": 2})).map_err(|e| e.to_string()), "model_type"),
    ];
    for (result, field) in refused {
        let error = result.unwrap_err();
        assert!(error.starts_with("config.json: ") && error.contains(field), "{field}: {error}");
    }
}

#[test]
fn both_spellings_of_the_rotary_base_are_read() {
    let theta = |changes| llama(changes).unwrap().positions;
    assert_eq!(theta(json!({"rope_theta": 5e5})), PositionKind::Rotary { theta: 5e5, dims: 8 });
    let new = json!({"rope_theta": null, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
    assert_eq!(theta(new), PositionKind::Rotary { theta: 5e5, dims: 8 });
    assert_eq!(theta(json!({"rope_theta": null})), PositionKind::Rotary { theta: 1e4, dims: 8 });
    assert_eq!(theta(json!({"rope_scaling": {"type": "default"}})), PositionKind::Rotary { theta: 1e4, dims: 8 });
}

#[test]
fn what_changes_nothing_is_let_through() {
    gpt2(json!({"resid_pdrop": 0.1, "use_cache": true, "id2label": {"0": "a"}, "unheard_of": null})).unwrap();
    llama(json!({"attention_dropout": 0.1, "pretraining_tp": 2, "torch_dtype": "bfloat16", "hidden_act": "silu"}))
        .unwrap();
}

#[test]
fn globs_pick_hooks_in_the_order_of_the_pass() {
    let config = gpt2(json!({})).unwrap();
    let hooks: Vec<_> =
        config.hooks().iter().map(|p| HookFact { name: p.to_string(), shape: p.shape(&config, 40) }).collect();
    let names = |pattern| matching_hooks(pattern, &hooks).unwrap().iter().map(|h| h.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names("blocks.*.hook_resid_post"), ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]);
    assert_eq!(names("blocks.1.attn.hook_[qk]"), ["blocks.1.attn.hook_q", "blocks.1.attn.hook_k"]);
    assert_eq!(names("blocks.{0,1}.hook_{attn,mlp}_out").len(), 4);
    assert_eq!(names("blocks.*.hook_scale"), [""; 0], "a star does not cross a dot");
    assert_eq!(names("**.hook_scale").len(), 5);
    assert_eq!(names("hook_embed"), ["hook_embed"]);
    assert_eq!(names("blocks.7.hook_resid_post"), [""; 0]);
    assert!(matching_hooks("blocks.[", &hooks).unwrap_err().to_string().contains("blocks.["));
}
