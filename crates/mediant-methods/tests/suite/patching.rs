//! Exact patching and ablation against TransformerLens, and what must hold whatever the model.

use mediant_artifact::{Contrast, HookFact};
use mediant_lm::{Model, Positions};
use mediant_methods::{Ablation, By, Direction, Error, Metric, Pairs, Target, ablate, patch, targets};
use mediant_tensor::Flex;

use super::prompts::{Recorded, Reference, fixture_model, hook, random_pairs, recorded};

fn targets_of(hooks: &[HookFact], by: &[By], pairs: &Pairs) -> Vec<Target> {
    targets(hooks, Some(by), &Positions::All, &["first".to_owned(), "last".to_owned()], pairs).unwrap()
}

fn patched(model: &Model<Flex>, pairs: &Pairs, targets: &[Target], direction: Direction) -> Recorded {
    recorded(pairs, targets, direction.contrast(), |recorder| {
        patch(model, pairs, targets, direction, Metric::LogitDiff, recorder, |_, _| Ok::<_, Error>(())).unwrap();
    })
}

#[test]
fn activation_patching_is_that_of_transformer_lens() {
    let reference = Reference::read();
    let (model, pairs) = (&reference.model, reference.pairs());
    let hooks = |site: &str| -> Vec<_> { (0..3).map(|l| hook(model, &format!("blocks.{l}.{site}"))).collect() };
    let cases = [
        ("resid_pre", "hook_resid_pre", By::Position),
        ("attn_out", "hook_attn_out", By::Position),
        ("mlp_out", "hook_mlp_out", By::Position),
        ("head_z", "attn.hook_z", By::Head),
    ];
    for (name, site, by) in cases {
        let targets = targets_of(&hooks(site), &[by], &pairs);
        let result = patched(model, &pairs, &targets, Direction::Denoising);
        reference.assert_close(&format!("activation_patching.{name}"), &result.patched());
        let clean: Vec<f64> = result.effects[0].iter().map(|effect| effect.0).collect();
        let counterfactual: Vec<f64> = result.effects[0].iter().filter_map(|effect| effect.1).collect();
        reference.assert_close("clean_metric", &clean);
        reference.assert_close("corrupt_metric", &counterfactual);
    }
}

#[test]
fn ablation_is_that_of_transformer_lens() {
    let reference = Reference::read();
    let (model, pairs) = (&reference.model, reference.pairs());
    let hooks: Vec<_> = (0..3).map(|layer| hook(model, &format!("blocks.{layer}.attn.hook_z"))).collect();
    let targets = targets_of(&hooks, &[By::Head], &pairs);
    for (name, ablation) in [("zero", Ablation::Zero), ("mean", Ablation::MeanByPosition)] {
        let result = recorded(&pairs, &targets, Contrast::LostOfClean, |recorder| {
            let done = |_, _| Ok::<_, Error>(());
            ablate(model, &pairs, &targets, ablation, Metric::LogitDiff, recorder, done).unwrap();
        });
        reference.assert_close(&format!("ablation.{name}.head_z"), &result.patched());
    }
}

#[test]
fn patching_everything_gives_the_other_run() {
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12, 12, 5]);
        let whole: Vec<_> = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.2.hook_resid_post", "logits"]
            .map(|name| hook(&model, name))
            .into_iter()
            .flat_map(|hook| targets_of(&[hook], &[], &pairs))
            .collect();
        for direction in [Direction::Denoising, Direction::Noising] {
            let result = patched(&model, &pairs, &whole, direction);
            for (score, effects) in result.scores.iter().zip(&result.effects) {
                let wanted = |effect: &(f64, Option<f64>, f64)| match direction {
                    Direction::Denoising => effect.0,
                    Direction::Noising => effect.1.unwrap(),
                };
                for effect in effects {
                    assert!((effect.2 - wanted(effect)).abs() < 1e-4, "{name}: {:?} {effect:?}", score.mediator.name);
                }
                assert!((score.value - 1.0).abs() < 1e-3, "{name}: {score:?}");
            }
        }
    }
}

#[test]
fn what_does_not_differ_is_not_patched_and_changes_nothing() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 7]);
    // The first token of a pair is the same, and nothing before it differs.
    let targets = targets_of(&[hook(&model, "blocks.1.hook_resid_pre")], &[By::Position], &pairs);
    let result = patched(&model, &pairs, &targets, Direction::Denoising);
    assert!(result.effects[0].iter().all(|effect| Some(effect.2) == effect.1), "{:?}", result.effects[0]);
    assert_eq!(result.scores[0].value, 0.0);
    assert!(result.scores[1].value != 0.0);
}

#[test]
fn spans_and_neurons_are_what_they_say() {
    let model = fixture_model("llama");
    let pairs = random_pairs(211, &[9, 6]);
    let resid = hook(&model, "blocks.1.hook_resid_mid");
    let spans =
        patched(&model, &pairs, &targets_of(std::slice::from_ref(&resid), &[By::Span], &pairs), Direction::Noising);
    let positions = patched(&model, &pairs, &targets_of(&[resid], &[By::Position], &pairs), Direction::Noising);
    // `last` is position 8 of the first prompt and 5 of the second.
    assert!((spans.effects[1][0].2 - positions.effects[8][0].2).abs() < 1e-5);
    assert!((spans.effects[1][1].2 - positions.effects[5][1].2).abs() < 1e-5);
    let neurons = targets_of(&[hook(&model, "blocks.2.mlp.hook_post")], &[By::Neuron], &pairs);
    assert_eq!(neurons.len(), 112);
    assert_eq!((neurons[3].mediator.kind.as_str(), neurons[3].mediator.unit), ("neuron", Some(3)));
}

#[test]
fn resampling_takes_another_prompt_of_the_same_length() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 7, 9, 9, 9]);
    let whole = targets_of(&[hook(&model, "blocks.0.hook_resid_pre")], &[], &pairs);
    let result = recorded(&pairs, &whole, Contrast::LostOfClean, |recorder| {
        let done = |_, _| Ok::<_, Error>(());
        ablate(&model, &pairs, &whole, Ablation::Resample, Metric::LogitDiff, recorder, done).unwrap();
    });
    assert!(result.effects[0].iter().all(|effect| (effect.0 - effect.2).abs() > 1e-6), "everyone got another's");
    let alone = random_pairs(211, &[7, 7, 9]);
    recorded(&alone, &whole, Contrast::LostOfClean, |recorder| {
        let done = |_, _| Ok::<_, Error>(());
        let error = ablate(&model, &alone, &whole, Ablation::Resample, Metric::LogitDiff, recorder, done);
        assert!(error.unwrap_err().to_string().contains("prompt 2 is the only one of 9 tokens"));
    });
}

#[test]
fn a_position_that_a_prompt_does_not_have_has_no_effect_in_it() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[5, 8]);
    let positions = targets_of(&[hook(&model, "blocks.1.hook_resid_pre")], &[By::Position], &pairs);
    let found = patched(&model, &pairs, &positions, Direction::Denoising);
    let counts: Vec<usize> = found.effects.iter().map(Vec::len).collect();
    assert_eq!(counts, [2, 2, 2, 2, 2, 1, 1, 1]);
    assert_eq!(found.scores.iter().map(|row| row.n).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 1, 1, 1]);
}

#[test]
fn a_loss_of_a_negative_value_is_above_zero() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[6, 6, 6]);
    let mlp = targets_of(&[hook(&model, "blocks.2.hook_mlp_out")], &[], &pairs);
    let found = recorded(&pairs, &mlp, Contrast::LostOfClean, |recorder| {
        let done = |_, _| Ok::<_, Error>(());
        ablate(&model, &pairs, &mlp, Ablation::Zero, Metric::LogProb, recorder, done).unwrap();
    });
    let score = &found.scores[0];
    assert!(score.denominator < 0.0, "logarithms of probabilities are");
    assert!(
        (score.value - score.numerator / score.denominator.abs()).abs() < 1e-12 && score.value * score.numerator > 0.0
    );
}
