//! Path patching, causal tracing and attention knockout: where each must equal something simpler.

use mediant_artifact::Contrast;
use mediant_lm::{Batch, HookPoint, Hooks, Positions, Rows, Site, State};
use mediant_methods::{
    Answers, By, Cuts, Direction, Error, Metric, Paths, Receiver, Restored, Sender, TOKEN_GROUPS, Tracing, knock_out,
    patch, path_patch, reaches, subject_std, targets, trace, traced,
};

use super::prompts::{fixture_model, hook, random_pairs, recorded, recorded_of};

fn done(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

#[test]
fn in_the_last_layer_all_paths_together_are_activation_patching() {
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12, 5]);
        let last = model.config().n_layers - 1;
        let unembedding = Receiver { point: HookPoint::Block(last, Site::ResidPost), heads: None };
        let mlp = Receiver { point: HookPoint::Block(last, Site::MlpIn), heads: None };
        let heads: Vec<_> = (0..model.config().n_heads)
            .map(|head| Sender { point: HookPoint::Block(last, Site::Z), head: Some(head) })
            .collect();
        let paths = Paths { senders: heads, receivers: vec![mlp, unembedding] };
        for direction in [Direction::Denoising, Direction::Noising] {
            let found = recorded_of(&pairs, paths.mediators(), direction.contrast(), |recorder| {
                let metric = Metric::LogitDiff;
                path_patch(&model, &pairs, &paths, direction, metric, recorder, done).unwrap();
            });
            let z = hook(&model, &format!("blocks.{last}.attn.hook_z"));
            let whole = targets(&[z], Some(&[By::Head]), &Positions::All, &[], &pairs).unwrap();
            let expected = recorded(&pairs, &whole, direction.contrast(), |recorder| {
                patch(&model, &pairs, &whole, direction, Metric::LogitDiff, recorder, done).unwrap();
            });
            for (found, expected) in found.patched().iter().zip(expected.patched()) {
                assert!((found - expected).abs() < 1e-4, "{name} {direction:?}: {found} {expected}");
            }
        }
    }
}

#[test]
fn paths_go_down_the_residual_stream_only() {
    let head = |layer| Sender { point: HookPoint::Block(layer, Site::Z), head: Some(0) };
    let mlp = |layer| Receiver { point: HookPoint::Block(layer, Site::MlpIn), heads: None };
    let query = |layer| Receiver { point: HookPoint::Block(layer, Site::QInput), heads: None };
    assert!(reaches(&head(1), &mlp(1), false) && !reaches(&head(1), &mlp(1), true));
    assert!(reaches(&head(1), &query(2), true) && !reaches(&head(1), &query(1), false));
    let sender = Sender { point: HookPoint::Block(1, Site::MlpOut), head: None };
    assert!(!reaches(&sender, &mlp(1), false) && reaches(&sender, &query(2), false));
}

#[test]
fn what_is_put_back_at_the_end_is_the_clean_run() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12, 5]);
    let std = 3.0 * subject_std(&model, &pairs, "first").unwrap();
    let tracing = Tracing {
        subject: "first".to_owned(),
        std: std as f32,
        samples: 3,
        restore: vec![Restored::Residual, Restored::Mlp],
        window: 2,
        seed: 5,
        metric: Metric::LogProb,
    };
    let found = recorded_of(&pairs, traced(&tracing.restore, 3), Contrast::Restored, |recorder| {
        trace(&model, &pairs, &tracing, recorder, done).unwrap();
    });
    let cell = |layer: usize, group: &str| {
        &found.effects[layer * TOKEN_GROUPS.len() + TOKEN_GROUPS.iter().position(|name| *name == group).unwrap()]
    };
    // The residual stream after the last layer, at the last token, is all that the answer depends on.
    for (clean, noisy, restored) in cell(2, "last") {
        assert!(
            (clean - restored).abs() < 1e-4 && (clean - noisy.unwrap()).abs() > 1e-3,
            "{clean} {noisy:?} {restored}"
        );
    }
    // After the last layer nothing reads an earlier token.
    for (_, noisy, restored) in cell(2, "first_subject") {
        assert!((noisy.unwrap() - restored).abs() < 1e-4);
    }
    assert!(cell(0, "middle_subject").is_empty(), "subjects of two tokens have no middle");
}

#[test]
fn a_position_that_sees_itself_alone_is_a_text_of_one_token() {
    // With rotary positions a token turns by nothing against itself, wherever it stands.
    let model = fixture_model("llama");
    let pairs = random_pairs(211, &[7, 12]);
    let cuts = Cuts { queries: Positions::Last, keys: vec![Positions::Range(0, -1)], window: 9, by_head: false };
    let found = recorded_of(&pairs, cuts.mediators(3, 6), Contrast::LostOfClean, |recorder| {
        knock_out(&model, &pairs, &cuts, Metric::LogitDiff, recorder, done).unwrap();
    });
    for (example, prompt) in pairs.prompts().iter().enumerate() {
        let last = [prompt.clean.ids[prompt.clean.ids.len() - 1]];
        let batch = Batch::new(model.config(), &[&last], &model.device()).unwrap();
        let logits = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        let alone = Metric::LogitDiff.values(logits, &Answers::of([&prompt.clean].into_iter())).unwrap()[0];
        for layer in 0..3 {
            assert!((found.effects[layer][example].2 - alone).abs() < 1e-4, "{layer} {example}");
        }
    }
    let nothing_left = Cuts { keys: vec![Positions::All], ..cuts };
    recorded_of(&pairs, nothing_left.mediators(3, 6), Contrast::LostOfClean, |recorder| {
        let error = knock_out(&model, &pairs, &nothing_left, Metric::LogitDiff, recorder, done);
        assert!(error.unwrap_err().to_string().contains("without any key"));
    });
}
