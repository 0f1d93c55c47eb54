//! Direct logit attribution, the logit lens and steering as stages.

use std::collections::BTreeMap;

use arrow::array::{Float64Array, StringArray, UInt32Array};
use mediant_artifact::{Effects, read_scores};

use super::workshop::Workshop;

const INPUTS: [(&str, &str); 2] = [("model", "model"), ("prompts", "prompts")];

/// By mediator's name, the examples' clean and patched values.
fn effects(workshop: &Workshop, name: &str) -> BTreeMap<String, Vec<(f64, f64)>> {
    let effects = Effects::open(&workshop.artifact(&format!("{name}.effects"))).unwrap();
    let mut all: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for effect in effects.rows().unwrap() {
        let effect = effect.unwrap();
        let mediator = effects.mediators[effect.mediator as usize].name.clone();
        all.entry(mediator).or_default().push((effect.clean, effect.patched));
    }
    all
}

#[test]
fn contributions_sum_to_what_is_attributed() {
    let mut workshop = Workshop::new();
    workshop.make("direct_logit_attribution", "{}", &INPUTS, "dla").unwrap();
    let effects = effects(&workshop, "dla");
    for example in 0..6 {
        let sum: f64 = effects.values().map(|of| of[example].1).sum();
        assert!((sum - effects["hook_embed"][example].0).abs() < 1e-4);
    }
    let (meta, scores) = read_scores(&workshop.artifact("dla.scores")).unwrap();
    assert_eq!((meta.method.as_str(), meta.passes, scores.len()), ("direct_logit_attribution", 1.0, 2 * 2 + 2 + 2 + 2));
    assert!((scores.iter().map(|score| score.value).sum::<f64>() - 1.0).abs() < 1e-4);

    workshop
        .make("direct_logit_attribution", "{ components: [neurons], neuron_layers: [1] }", &INPUTS, "neurons")
        .unwrap();
    let (_, scores) = read_scores(&workshop.artifact("neurons.scores")).unwrap();
    assert_eq!(scores.len(), 65);
    assert_eq!(scores[3].mediator.name, "blocks.1.mlp.hook_post[3]");
}

#[test]
fn the_lens_has_a_row_a_layer_and_its_tokens_have_names() {
    let mut workshop = Workshop::new();
    workshop.make("logit_lens", "{ top: 3 }", &INPUTS, "lens").unwrap();
    let rows = workshop.artifact("lens.lens").read("rows").unwrap();
    assert_eq!(rows.num_rows(), 6 * 2);
    let top = workshop.artifact("lens.top").read("rows").unwrap();
    assert_eq!(top.num_rows(), 6 * 2 * 3);
    let text = top.column_by_name("text").unwrap().as_any().downcast_ref::<StringArray>().unwrap();
    assert!(text.iter().all(|text| text.is_some()));
    let column = |name: &str| rows.column_by_name(name).unwrap().clone();
    let position = column("position");
    let position = position.as_any().downcast_ref::<UInt32Array>().unwrap();
    assert!(position.iter().flatten().all(|position| position == 6 || position == 4));
    let probability = column("probability");
    let probability = probability.as_any().downcast_ref::<Float64Array>().unwrap();
    assert!(probability.iter().flatten().all(|p| p > 0.0 && p < 1.0));
    let last = &effects(&workshop, "lens")["blocks.1.hook_resid_post"];
    assert!(last.iter().all(|(clean, patched)| (clean - patched).abs() < 1e-4));

    workshop.make("logit_lens", "{ positions: { span: subject }, metric: prob }", &INPUTS, "subject").unwrap();
    let (_, scores) = read_scores(&workshop.artifact("subject.scores")).unwrap();
    let names: Vec<&str> = scores.iter().map(|score| score.mediator.name.as_str()).collect();
    assert_eq!(names, ["blocks.0.hook_resid_post@2", "blocks.1.hook_resid_post@2"]);
}

#[test]
fn steering_takes_directions_of_three_kinds() {
    let mut workshop = Workshop::new();
    let with = "{ hook: blocks.0.hook_resid_post, direction: { difference_of_means: { positions: last } }, do: { add: { strengths: [0, 4], normalize: true } } }";
    workshop.make("steer", with, &INPUTS, "means").unwrap();
    let means = effects(&workshop, "means");
    assert!(means["blocks.0.hook_resid_post+0"].iter().all(|(clean, patched)| clean == patched));
    assert!(means["blocks.0.hook_resid_post+4"].iter().all(|(clean, patched)| (clean - patched).abs() > 1e-6));
    let (meta, _) = read_scores(&workshop.artifact("means.scores")).unwrap();
    assert_eq!(meta.settings["direction"], "mean(clean) − mean(other) at positions last");
    assert_eq!(meta.settings["normalized"], "true");

    let with = "{ hook: blocks.1.hook_resid_post, direction: { unembedding: { of: cat, less: an } }, do: project_out, positions: { span: subject } }";
    workshop.make("steer", with, &INPUTS, "words").unwrap();
    assert_eq!(effects(&workshop, "words").len(), 1);
    // Only the last position is read after the last layer, and the subject is not there.
    assert!(effects(&workshop, "words").values().flatten().all(|(clean, patched)| (clean - patched).abs() < 1e-5));

    let with = "{ hook: blocks.1.hook_resid_post, direction: { unembedding: { of: Once upon a time, less: an } }, do: project_out }";
    let error = workshop.make("steer", with, &INPUTS, "many").unwrap_err();
    assert!(error.contains("tokens of this tokenizer, not one"), "{error}");
}

#[test]
fn what_cannot_be_is_found_before_anything_runs() {
    let workshop = Workshop::new();
    let cases = [
        ("direct_logit_attribution", "{ components: [] }", "components", "no kind of component"),
        ("direct_logit_attribution", "{ components: [heads, heads] }", "components[1]", "listed twice"),
        ("direct_logit_attribution", "{ neuron_layers: [0] }", "neuron_layers", "changes nothing without neurons"),
        (
            "direct_logit_attribution",
            "{ components: [neurons], neuron_layers: [2] }",
            "neuron_layers[0]",
            "there is no layer 2",
        ),
        ("logit_lens", "{ top: 0 }", "top", "at least 1"),
        ("logit_lens", "{ top: 600 }", "top", "only 512 tokens"),
        ("logit_lens", "{ positions: { span: subjekt } }", "positions", "no span `subjekt`"),
        ("logit_lens", "{ positions: { at: [9] } }", "positions.at[0]", "no prompt has a position 9"),
        (
            "steer",
            "{ hook: blocks.7.hook_resid_post, direction: { latent: 3 }, do: project_out }",
            "hook",
            "no hook point",
        ),
        (
            "steer",
            "{ hook: blocks.*.hook_resid_post, direction: { difference_of_means: {} }, do: project_out }",
            "hook",
            "stands for 2",
        ),
        (
            "steer",
            "{ hook: blocks.0.hook_resid_post, direction: { latent: 3 }, do: project_out }",
            "direction.latent",
            "none is connected",
        ),
        (
            "steer",
            "{ hook: blocks.0.hook_resid_post, direction: { difference_of_means: { counterfactual: othr } }, do: project_out }",
            "direction.difference_of_means.counterfactual",
            "no counterfactual `othr`",
        ),
        (
            "steer",
            "{ hook: hook_embed, direction: { difference_of_means: {} }, do: { add: { strengths: [1, 1] } } }",
            "do.add.strengths[1]",
            "twice",
        ),
        (
            "steer",
            "{ hook: blocks.0.mlp.hook_post, direction: { unembedding: { of: a, less: b } }, do: project_out }",
            "direction.unembedding",
            "the unembedding reads vectors of 16",
        ),
        (
            "steer",
            "{ hook: blocks.0.attn.hook_pattern, direction: { difference_of_means: {} }, do: project_out }",
            "hook",
            "a number a key",
        ),
    ];
    for (uses, with, place, message) in cases {
        let wrong = workshop.wrong(uses, with, &INPUTS);
        let found = wrong.iter().any(|(at, why)| at == place && why.contains(message));
        assert!(found && wrong.len() == 1, "{uses} {with}: {wrong:?}");
    }
}
