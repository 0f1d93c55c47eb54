//! Interventions in the stages that run a model: what they change, what they leave alone, what is refused.

use arrow::array::{Float64Array, StringArray};
use mediant_artifact::{ActivationsReader, read_metrics};

use super::workshop::{Workshop, bind};

const TOKENS: [(&str, &str); 2] = [("model", "model"), ("tokens", "tokens")];

fn loss(workshop: &mut Workshop, interventions: &str, more: &[(&str, &str)], name: &str) -> f64 {
    let inputs = [&TOKENS[..], more].concat();
    workshop.make("evaluate_lm", &format!("{{ interventions: {interventions} }}"), &inputs, name).unwrap();
    let metrics = read_metrics(&workshop.artifact(name)).unwrap();
    metrics.iter().find(|row| row.name == "ce_loss").unwrap().value
}

/// All rows of a hook point.
fn cached(workshop: &mut Workshop, with: &str, more: &[(&str, &str)], name: &str, hook: &str) -> Vec<Vec<f32>> {
    let inputs = [&TOKENS[..], more].concat();
    workshop.make("cache_activations", with, &inputs, name).unwrap();
    let stored = ActivationsReader::open(&workshop.artifact(name)).unwrap().hook(hook).unwrap();
    let mut values = vec![0.0; stored.width() * stored.rows() as usize];
    stored.range_f32(0..stored.rows(), &mut values).unwrap();
    values.chunks(stored.width()).map(<[f32]>::to_vec).collect()
}

/// An autoencoder of the residual stream between the layers.
fn with_dictionary() -> Workshop {
    let mut workshop = Workshop::new();
    let with = "{ hooks: [blocks.0.hook_resid_post, blocks.0.attn.hook_z, blocks.1.ln1.hook_scale] }";
    workshop.make("cache_activations", with, &TOKENS, "acts").unwrap();
    let with = "{ hook: blocks.0.hook_resid_post, sae: { architecture: topk, k: 4 }, d_sae: 32, steps: 20, batch: 64 }";
    workshop.make("train_sae", with, &[("activations", "acts")], "sae").unwrap();
    workshop
}

#[test]
fn every_kind_changes_the_loss() {
    let mut workshop = with_dictionary();
    let plain = loss(&mut workshop, "[]", &[], "plain");
    let (acts, sae) = ([("activations", "acts")], [("dictionary", "sae")]);
    let resid = "at: blocks.0.hook_resid_post";
    let cases: [(String, &[(&str, &str)]); 11] = [
        (format!("{{ {resid}, do: zero, positions: {{ exclude_first: 1 }} }}"), &[]),
        ("{ at: 'blocks.*.attn.hook_z', do: zero, heads: [1] }".to_owned(), &[]),
        ("{ at: blocks.1.mlp.hook_post, do: zero, neurons: [0, 5, 9] }".to_owned(), &[]),
        (format!("{{ {resid}, do: {{ add: {{ direction: {{ latent: 3 }}, strength: -2 }} }} }}"), &sae),
        (format!("{{ {resid}, do: {{ project_out: {{ direction: {{ unembedding: {{ of: cat, less: an }} }} }} }} }}"), &[]),
        (format!("{{ {resid}, do: mean }}"), &acts),
        ("{ at: blocks.0.attn.hook_z, do: mean_by_position, heads: [0] }".to_owned(), &acts),
        (format!("{{ {resid}, do: resample }}"), &acts),
        ("{ at: hook_embed, do: { noise: { std: 0.5 } } }".to_owned(), &[]),
        (
            "{ at: blocks.1.attn.hook_attn_scores, do: { knock_out: { keys: { at: [0] } } }, positions: { exclude_first: 1 } }".to_owned(),
            &[],
        ),
        (format!("{{ {resid}, do: {{ splice: {{ error: drop }} }} }}"), &sae),
    ];
    for (i, (item, more)) in cases.iter().enumerate() {
        let changed = loss(&mut workshop, &format!("[{item}]"), more, &format!("case-{i}"));
        assert!((changed - plain).abs() > 1e-6 && changed.is_finite(), "{item}: {changed} and {plain}");
        assert_eq!(changed, loss(&mut workshop, &format!("[{item}]"), more, &format!("again-{i}")), "{item}");
    }
    let other = loss(&mut workshop, "[{ at: hook_embed, do: { noise: { std: 0.5 } }, seed: 1 }]", &[], "other");
    assert_ne!(other, loss(&mut workshop, &format!("[{}]", cases[8].0), &[], "noise"));
}

#[test]
fn what_is_cached_is_what_interventions_leave() {
    let mut workshop = with_dictionary();
    let hook = "blocks.0.hook_resid_post";
    let plain = cached(&mut workshop, &format!("{{ hooks: [{hook}] }}"), &[], "plain", hook);

    let with = format!("{{ hooks: [{hook}], interventions: [{{ at: {hook}, do: zero, positions: {{ at: [3] }} }}] }}");
    let zeroed = cached(&mut workshop, &with, &[], "zeroed", hook);
    for (row, (zeroed, plain)) in zeroed.iter().zip(&plain).enumerate() {
        assert_eq!(zeroed, if row % 16 == 3 { &[0.0; 16][..] } else { plain }, "row {row}");
    }

    let mean: Vec<f64> =
        (0..16).map(|i| plain.iter().map(|row| f64::from(row[i])).sum::<f64>() / plain.len() as f64).collect();
    let with = format!("{{ hooks: [{hook}], interventions: [{{ at: {hook}, do: mean, positions: last }}] }}");
    let meant = cached(&mut workshop, &with, &[("activations", "acts")], "meant", hook);
    assert!(meant[15].iter().zip(&mean).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
    assert_eq!(meant[14], plain[14]);

    let with = format!("{{ hooks: [{hook}], interventions: [{{ at: {hook}, do: mean_by_position }}] }}");
    let by_position = cached(&mut workshop, &with, &[("activations", "acts")], "by-position", hook);
    let at_two: f64 = plain.iter().skip(2).step_by(16).map(|row| f64::from(row[4])).sum::<f64>() / 12.0;
    assert!((f64::from(by_position[2][4]) - at_two).abs() < 1e-5);
    assert_eq!(by_position[2], by_position[18]);

    let with = format!("{{ hooks: [{hook}], interventions: [{{ at: {hook}, do: resample, seed: 4 }}] }}");
    let drawn = cached(&mut workshop, &with, &[("activations", "acts")], "drawn", hook);
    assert!(drawn.iter().all(|row| plain.contains(row)));
    assert_ne!(drawn, plain);

    // The error that is kept is what makes the rest of the reconstruction right again.
    let splice = |error: &str, latents: &str| {
        format!(
            "{{ hooks: [{hook}], interventions: [{{ at: {hook}, do: {{ splice: {{ error: {error}, zero_latents: [{latents}] }} }} }}] }}"
        )
    };
    let all: Vec<String> = (0..32).map(|latent| latent.to_string()).collect();
    let sae = [("dictionary", "sae")];
    let dropped = cached(&mut workshop, &splice("drop", ""), &sae, "dropped", hook);
    let nothing = cached(&mut workshop, &splice("drop", &all.join(", ")), &sae, "nothing", hook);
    let kept = cached(&mut workshop, &splice("keep", &all.join(", ")), &sae, "kept", hook);
    for (((plain, dropped), nothing), kept) in plain.iter().zip(&dropped).zip(&nothing).zip(&kept) {
        for i in 0..16 {
            assert!((plain[i] - dropped[i] - (kept[i] - nothing[i])).abs() < 1e-4);
        }
    }

    let scale = "blocks.1.ln1.hook_scale";
    let plain = cached(&mut workshop, &format!("{{ hooks: [{scale}] }}"), &[], "scale", scale);
    let zero = format!("{{ at: {hook}, do: zero, neurons: [1, 2] }}");
    let moved = cached(&mut workshop, &format!("{{ hooks: [{scale}], interventions: [{zero}] }}"), &[], "moved", scale);
    assert_ne!(plain, moved);
    let with =
        format!("{{ hooks: [{scale}], interventions: [{zero}, {{ at: '*.*.ln1.hook_scale', do: freeze_scale }}] }}");
    let wrong = workshop.wrong("cache_activations", &with, &TOKENS);
    assert_eq!(wrong, [], "one of the scales lies after the change");
    assert_eq!(cached(&mut workshop, &with, &[], "frozen", scale), plain);
}

#[test]
fn texts_go_on_under_interventions() {
    let mut workshop = with_dictionary();
    let text = |workshop: &mut Workshop, options: &str, more: &[(&str, &str)], name: &str| -> Vec<String> {
        let with = format!("{{ prompts: ['Once upon a time', 'The dog'], max_tokens: 12{options} }}");
        workshop.make("generate", &with, &[&[("model", "model")], more].concat(), name).unwrap();
        let rows = workshop.artifact(name).read("rows").unwrap();
        let column = rows.column_by_name("continuation").unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        column.iter().flatten().map(str::to_owned).collect()
    };
    let plain = text(&mut workshop, "", &[], "plain");
    assert_eq!(text(&mut workshop, ", interventions: []", &[], "none"), plain);
    let steer = ", interventions: [{ at: blocks.1.hook_resid_post, do: { add: { direction: { unembedding: { of: cat, less: an } }, strength: 40, normalize: true } } }]";
    let steered = text(&mut workshop, steer, &[], "steered");
    assert!(steered.iter().zip(&plain).all(|(steered, plain)| steered != plain));
    let sampled = text(&mut workshop, &format!("{steer}, sampling: {{ temperature: 1 }}"), &[], "sampled");
    assert_ne!(sampled, text(&mut workshop, ", sampling: { temperature: 1 }", &[], "free"));
    let latent = ", interventions: [{ at: blocks.0.hook_resid_post, do: { add: { direction: { latent: 0 }, strength: 30 } }, positions: { exclude_first: 1 } }]";
    assert_ne!(text(&mut workshop, latent, &[("dictionary", "sae")], "latent"), plain);
    let mean = ", interventions: [{ at: blocks.0.hook_resid_post, do: mean }]";
    assert_ne!(text(&mut workshop, mean, &[("activations", "acts")], "mean"), plain);
    // A position for which there is no mean.
    let mean = ", interventions: [{ at: blocks.0.attn.hook_z, do: mean_by_position }]";
    let with = format!("{{ prompts: [{}], max_tokens: 2{mean} }}", "The dog ran. ".repeat(5).trim());
    let error = workshop.make("generate", &with, &[("model", "model"), ("activations", "acts")], "long").unwrap_err();
    assert!(error.contains("of which no activation of `blocks.0.attn.hook_z` is stored"), "{error}");
}

#[test]
fn tasks_are_judged_under_interventions() {
    let mut workshop = Workshop::new();
    let rows = "{ rows: [ { prompt: The dog saw, right: ' cat', wrong: ' an' }, { prompt: Once upon, right: ' an', wrong: ' cat' } ] }";
    workshop.make("table", rows, &[], "items").unwrap();
    let inputs = [("model", "model"), ("tasks", "items")];
    let diffs = |workshop: &mut Workshop, with: &str, name: &str| -> Vec<f64> {
        workshop.make("evaluate_tasks", with, &inputs, name).unwrap();
        let rows = workshop.artifact(&format!("{name}.items")).read("rows").unwrap();
        let column = |name: &str| -> Vec<f64> {
            let column = rows.column_by_name(name).unwrap();
            column.as_any().downcast_ref::<Float64Array>().unwrap().iter().flatten().collect()
        };
        column("log_prob_right").iter().zip(column("log_prob_wrong")).map(|(right, wrong)| right - wrong).collect()
    };
    let plain = diffs(&mut workshop, "{}", "plain");
    let steer = "{ interventions: [{ at: blocks.1.hook_resid_post, do: { add: { direction: { unembedding: { of: cat, less: an } }, strength: 3 } }, positions: last }] }";
    let steered = diffs(&mut workshop, steer, "steered");
    assert!(steered[0] > plain[0] && steered[1] < plain[1], "{plain:?} {steered:?}");
}

#[test]
fn what_cannot_be_is_found_before_anything_runs() {
    /// The stage, its intervention, what is connected, the option that is wrong, and a part of the message.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let workshop = with_dictionary();
    let all = [&TOKENS[..], &[("activations", "acts"), ("dictionary", "sae")]].concat();
    let (acts, sae) = ([&TOKENS[..], &all[2..3]].concat(), [&TOKENS[..], &all[3..4]].concat());
    let text = [("model", "model")];
    let cases: Vec<Case<'_>> = vec![
        ("evaluate_lm", "{ at: blocks.0.hook_resid_pots, do: zero }", &TOKENS, "at", "no hook point"),
        ("evaluate_lm", "{ at: logits, do: zero }", &TOKENS, "at", "a few rows at a time"),
        (
            "evaluate_lm",
            "{ at: blocks.0.attn.hook_z, do: zero, heads: [0, 2] }",
            &TOKENS,
            "heads[1]",
            "no head 2; it has 2",
        ),
        ("evaluate_lm", "{ at: blocks.0.hook_mlp_out, do: zero, heads: [0] }", &TOKENS, "heads", "no heads to choose"),
        (
            "evaluate_lm",
            "{ at: blocks.0.mlp.hook_post, do: zero, neurons: [64] }",
            &TOKENS,
            "neurons[0]",
            "no number 64",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.0.mlp.hook_post, do: zero, neurons: [] }",
            &TOKENS,
            "neurons",
            "nothing is listed",
        ),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: zero, positions: { span: subject } }",
            &TOKENS,
            "positions",
            "only prompts have spans",
        ),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: zero, positions: { at: [16] } }",
            &TOKENS,
            "positions.at[0]",
            "no text has a position 16",
        ),
        ("evaluate_lm", "{ at: hook_embed, do: zero, seed: 3 }", &TOKENS, "seed", "draws nothing"),
        ("evaluate_lm", "{ at: hook_embed, do: mean }", &TOKENS, "do", "none are connected"),
        ("evaluate_lm", "{ at: hook_embed, do: mean }", &acts, "input activations", "do not hold `hook_embed`"),
        ("evaluate_lm", "{ at: hook_embed, do: zero }", &acts, "input activations", "no intervention uses activations"),
        ("evaluate_lm", "{ at: hook_embed, do: zero }", &sae, "input dictionary", "no intervention uses a dictionary"),
        ("evaluate_lm", "{ at: hook_embed, do: { noise: { std: 0 } } }", &TOKENS, "do.noise.std", "above 0"),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: { add: { direction: { latent: 32 } } } }",
            &sae,
            "do.add.direction.latent",
            "no latent 32",
        ),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: { project_out: { direction: { latent: 1 } } } }",
            &TOKENS,
            "do.project_out.direction.latent",
            "none is connected",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.1.attn.hook_z, do: { project_out: { direction: { unembedding: { of: a, less: b } } } } }",
            &TOKENS,
            "do.project_out.direction.unembedding",
            "has shape [2, 8]",
        ),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: { project_out: { direction: { unembedding: { of: a, less: b } } } }, neurons: [1] }",
            &TOKENS,
            "neurons",
            "cannot be limited",
        ),
        (
            "evaluate_lm",
            "{ at: hook_embed, do: { splice: { error: drop } } }",
            &sae,
            "at",
            "the dictionary reads `blocks.0.hook_resid_post`",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.0.hook_resid_post, do: { splice: { error: keep } } }",
            &sae,
            "do.splice.error",
            "nothing is changed",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.0.attn.hook_z, do: { knock_out: { keys: last } } }",
            &TOKENS,
            "at",
            "not at `blocks.0.attn.hook_z`",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.0.attn.hook_attn_scores, do: { knock_out: { keys: { at: [0] } } } }",
            &TOKENS,
            "do.knock_out.keys",
            "position 0 would have no key",
        ),
        (
            "evaluate_lm",
            "{ at: blocks.0.attn.hook_pattern, do: { noise: { std: 1 } } }",
            &TOKENS,
            "do",
            "a number a key",
        ),
        ("evaluate_lm", "{ at: blocks.0.ln1.hook_scale, do: freeze_scale }", &TOKENS, "at", "no intervention before"),
        ("evaluate_lm", "{ at: hook_embed, do: freeze_scale }", &TOKENS, "at", "is no norm's scale"),
        ("generate", "{ at: hook_embed, do: zero, positions: last }", &text, "positions", "moves as it grows"),
        ("generate", "{ at: ln_final.hook_scale, do: freeze_scale }", &text, "do", "no pass without them"),
        (
            "cache_activations",
            "{ at: blocks.1.hook_resid_pre, do: zero }",
            &TOKENS,
            "at",
            "comes after `blocks.0.hook_resid_post`",
        ),
    ];
    for (uses, item, inputs, place, message) in cases {
        let options = match uses {
            "generate" => "prompts: [a], max_tokens: 2, ",
            "cache_activations" => "hooks: [blocks.0.hook_resid_post], ",
            _ => "",
        };
        let wrong = workshop.wrong(uses, &format!("{{ {options}interventions: [{item}] }}"), inputs);
        let place = if place.starts_with("input") { place.to_owned() } else { format!("interventions[0].{place}") };
        let found = wrong.iter().any(|(at, why)| *at == place && why.contains(message));
        assert!(found, "{uses} {item}: {wrong:?}");
    }
}

#[test]
fn no_interventions_leave_no_trace_in_keys() {
    for (uses, options) in [
        ("evaluate_lm", ""),
        ("evaluate_tasks", "source: items.jsonl, "),
        ("generate", "prompts: [a], max_tokens: 2, "),
        ("cache_activations", "hooks: [hook_embed], "),
    ] {
        let none = bind(uses, &format!("{{ {options}interventions: [] }}")).canon().unwrap();
        assert!(!format!("{none:?}").contains("interventions"), "{uses}");
        let some = bind(uses, &format!("{{ {options}interventions: [{{ at: hook_embed, do: zero }}] }}"));
        assert_ne!(some.canon().unwrap(), none);
    }
}
