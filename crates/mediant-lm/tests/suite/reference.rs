//! Logits, losses, hidden states and every hook point against transformers 5 and TransformerLens 3 (no weight processing).

use std::collections::{BTreeMap, BTreeSet};

use mediant_lm::{Batch, HookPoint, Hooks, Model, Site};
use mediant_tensor::{Flex, Tensor};

use super::support::{Expected, difference, fixture_model};

/// What the issue asks for: absolute, in f32 on the processor.
const TOLERANCE: f32 = 1e-4;

/// Every hook point's activation in TransformerLens' order of axes.
fn activations(model: &Model<Flex>, expected: &Expected) -> BTreeMap<String, Vec<f32>> {
    let batch = Batch::new(model.config(), &expected.sequences(), &model.device()).unwrap();
    let (examples, len) = (expected.ids.len(), expected.ids[0].len());
    let mut all = BTreeMap::new();
    let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
        let [_, units, width] = x.dims();
        // Attention maps come by query row; TransformerLens has heads before queries.
        let per_head = matches!(point.site(), Some(Site::AttnScores | Site::Pattern));
        let x = x.reshape([examples, len, units, width]);
        let x = if per_head { x.swap_dims(1, 2) } else { x };
        all.insert(point.to_string(), x.into_data().into_vec().unwrap());
        Ok(())
    };
    model.read(&batch, Hooks::none().read(model.config().hooks(), &mut take)).unwrap();
    all
}

fn check(name: &str) {
    let model = fixture_model(name);
    let expected = Expected::of(name);
    let batch = Batch::new(model.config(), &expected.sequences(), &model.device()).unwrap();
    let close = |what: &str, found: &[f32]| {
        let off = difference(found, &expected.arrays[what].1);
        assert!(off <= TOLERANCE, "{name}: {what} is off by {off:e}");
    };

    let hidden = model.hidden(&batch, Hooks::none()).unwrap();
    let layers = model.config().n_layers;
    close(&format!("hidden_states.{layers}"), &hidden.clone().into_data().into_vec::<f32>().unwrap());
    close("logits", &model.logits(hidden).into_data().into_vec::<f32>().unwrap());
    close("loss_per_token", &model.losses(&batch, Hooks::none()).unwrap());

    let found = activations(&model, &expected);
    for layer in 0..layers {
        close(&format!("hidden_states.{layer}"), &found[&format!("blocks.{layer}.hook_resid_pre")]);
    }
    close("logits", &found["logits"]);
    // TransformerLens has a hook before and one after the unembedding, whose rows are `ln_final`'s and `logits`.
    let hooks: BTreeSet<_> = expected.arrays.keys().filter_map(|key| key.strip_prefix("hook.")).collect();
    let left_out: Vec<_> = hooks.iter().filter(|hook| !found.contains_key(**hook)).copied().collect();
    assert!(hooks.is_empty() || left_out == ["unembed.hook_in", "unembed.hook_out"], "{left_out:?}");
    for hook in hooks.difference(&left_out.iter().copied().collect()) {
        close(&format!("hook.{hook}"), &found[*hook]);
    }
    let beyond: Vec<_> = found.keys().filter(|hook| !hooks.is_empty() && !hooks.contains(hook.as_str())).collect();
    assert!(beyond.iter().all(|hook| optional(hook)), "points that TransformerLens does not have: {beyond:?}");
}

/// What TransformerLens has only when a model is set to (`use_attn_in`, `use_split_qkv_input`, `use_attn_result`, `use_hook_mlp_in`), and the
/// logits, which are no hook there.
fn optional(hook: &str) -> bool {
    let sites = ["hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "attn.hook_result", "hook_mlp_in"];
    hook == "logits" || sites.iter().any(|site| hook.ends_with(site))
}

#[test]
fn gpt2_equals_transformers_and_transformer_lens() {
    check("gpt2");
}

#[test]
fn gpt_neo_equals_transformers_and_transformer_lens() {
    check("gpt_neo");
}

#[test]
fn gpt_neox_equals_transformers_and_transformer_lens() {
    check("gpt_neox");
}

#[test]
fn llama_equals_transformers_and_transformer_lens() {
    check("llama");
}

#[test]
fn qwen2_equals_transformers() {
    check("qwen2");
}

#[test]
fn gemma2_equals_transformers() {
    check("gemma2");
}

#[test]
fn hook_shapes_are_those_of_the_activations() {
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama"] {
        let model = fixture_model(name);
        let expected = Expected::of(name);
        let len = expected.ids[0].len();
        for point in model.config().hooks() {
            assert_eq!(point.to_string().parse::<HookPoint>().unwrap(), point);
            let Some((shape, _)) = expected.arrays.get(&format!("hook.{point}")) else { continue };
            // Examples × positions × shape; attention maps are examples × heads × queries × keys.
            let per_position: Vec<usize> = match point.site() {
                Some(Site::AttnScores | Site::Pattern) => vec![shape[1], shape[3]],
                _ => shape[2..].to_vec(),
            };
            assert_eq!(point.shape(model.config(), len), per_position, "{name}: {point}");
        }
    }
}
