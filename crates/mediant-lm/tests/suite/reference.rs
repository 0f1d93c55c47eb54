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
    let hooks: BTreeSet<_> = expected.arrays.keys().filter_map(|key| key.strip_prefix("hook.")).collect();
    // TransformerLens' names for the rows that `Model::hidden` and `Model::logits` give.
    let left_out: Vec<_> = hooks.iter().filter(|hook| !found.contains_key(**hook)).copied().collect();
    assert_eq!(left_out, ["unembed.hook_in", "unembed.hook_out"]);
    assert_eq!(found.len(), hooks.len() - left_out.len(), "points that TransformerLens does not have");
    for (hook, values) in &found {
        close(&format!("hook.{hook}"), values);
    }
}

#[test]
fn gpt2_equals_transformers_and_transformer_lens() {
    check("gpt2");
}

#[test]
fn llama_equals_transformers_and_transformer_lens() {
    check("llama");
}

#[test]
fn hook_shapes_are_those_of_the_activations() {
    for name in ["gpt2", "llama"] {
        let model = fixture_model(name);
        let expected = Expected::of(name);
        let len = expected.ids[0].len();
        for point in model.config().hooks() {
            let shape = &expected.arrays[&format!("hook.{point}")].0;
            // Examples × positions × shape; attention maps are examples × heads × queries × keys.
            let per_position: Vec<usize> = match point.site() {
                Some(Site::AttnScores | Site::Pattern) => vec![shape[1], shape[3]],
                _ => shape[2..].to_vec(),
            };
            assert_eq!(point.shape(model.config(), len), per_position, "{name}: {point}");
            assert_eq!(point.to_string().parse::<HookPoint>().unwrap(), point);
        }
    }
}
