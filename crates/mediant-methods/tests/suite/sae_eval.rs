//! Autoencoders whose scores are known without running anything.

use mediant_artifact::{MetricRow, Tokens, TokensMeta};
use mediant_dict::{Activation, Extra, Sae, Weights};
use mediant_lm::train::{Gpt2Shape, Start, gpt2_config, initial};
use mediant_lm::{LmConfig, Model, Parameter, batches};
use mediant_methods::Error;
use mediant_methods::sae_eval::{SpecialTokens, sae_eval};
use mediant_tensor::Flex;
use mediant_tensor::random::{below, stream};

const D: usize = 16;
const VOCAB: usize = 31;

fn model() -> Model<Flex> {
    let shape =
        Gpt2Shape { n_layers: 2, d_model: D, n_heads: 2, d_mlp: 4 * D, vocab_size: VOCAB, context: 24, tied: true };
    let config = LmConfig::from_json(&gpt2_config(&shape, None, None, 0.0, 0.02)).unwrap();
    let parameters = config.slots().into_iter().map(|slot| {
        // Ten times the usual size: a model whose blocks do something.
        let values: Vec<f32> =
            initial(&config, slot, Start { std: 0.02, sinusoidal: false }, 0).into_iter().map(|x| 10.0 * x).collect();
        (slot, Parameter::new(values, &slot.shape(&config), &Default::default()).unwrap())
    });
    let parameters: Vec<_> = parameters.collect();
    Model::new(config, parameters).unwrap()
}

/// Sequences of 5 to 20 tokens, the first of each special.
fn tokens(sequences: usize) -> Tokens {
    let mut rng = stream(0, "test");
    let (mut offsets, mut ids, mut mask) = (vec![0], vec![], vec![]);
    for _ in 0..sequences {
        let len = 5 + below(&mut rng, 16) as usize;
        ids.extend((0..len).map(|_| below(&mut rng, VOCAB as u64) as i32));
        mask.extend((0..len).map(|i| i > 0));
        offsets.push(ids.len());
    }
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size: VOCAB,
        context: 24,
        packed: false,
        prepend_bos: true,
        bos: Some(0),
        separator: None,
        split: "test".to_owned(),
        documents: sequences as u64,
        tokens: ids.len() as u64,
        sequences: sequences as u64,
    };
    Tokens { meta, offsets, ids, mask }
}

/// ReLU of x and −x, decoded by `gain`: x̂ = gain · x.
fn mirror(gain: f32) -> Sae {
    let mut w_enc = vec![0.0; 2 * D * D];
    for i in 0..D {
        w_enc[i * D + i] = 1.0;
        w_enc[(D + i) * D + i] = -1.0;
    }
    let w_dec = w_enc.iter().map(|x| gain * x).collect();
    let weights = Weights {
        d_in: D,
        d_sae: 2 * D,
        w_enc,
        b_enc: vec![0.0; 2 * D],
        w_dec,
        b_dec: vec![0.0; D],
        extra: Extra::None,
    };
    Sae::new(weights, Activation::Relu, true).unwrap()
}

fn evaluate(sae: &Sae, hook: &str, special: SpecialTokens) -> Vec<MetricRow> {
    let (model, tokens) = (model(), tokens(40));
    let found = sae_eval::<_, Error>(&model, sae, hook.parse().unwrap(), &tokens, special, |_, _| Ok(())).unwrap();
    found.metrics(0)
}

fn value(rows: &[MetricRow], name: &str) -> f64 {
    rows.iter().find(|row| row.name == name).unwrap().value
}

#[test]
fn a_perfect_reconstruction_costs_nothing() {
    for hook in ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_pre"] {
        let rows = evaluate(&mirror(1.0), hook, SpecialTokens::Original);
        assert_eq!(value(&rows, "ev_mc"), 1.0, "{hook}");
        assert_eq!(value(&rows, "ce_sae"), value(&rows, "ce_clean"));
        assert_eq!(value(&rows, "ce_score"), 1.0);
        assert_eq!(value(&rows, "l0"), D as f64);
        assert_eq!(value(&rows, "dead_fraction"), 0.0);
        assert!(value(&rows, "ce_zero_ablation") != value(&rows, "ce_clean"));
    }
}

#[test]
fn zeros_recover_nothing_unless_special_tokens_keep_their_activations() {
    let hook = "blocks.0.hook_resid_post";
    let rows = evaluate(&mirror(0.0), hook, SpecialTokens::Replaced);
    assert_eq!(value(&rows, "ce_sae"), value(&rows, "ce_zero_ablation"));
    assert_eq!(value(&rows, "ce_score"), 0.0);
    assert_eq!(value(&rows, "l2_ratio"), 0.0);
    let kept = evaluate(&mirror(0.0), hook, SpecialTokens::Original);
    assert_ne!(value(&kept, "ce_sae"), value(&kept, "ce_zero_ablation"));
    // The first token of each of 40 sequences is special; it is not measured, and predictions of it do not exist.
    let n = |rows: &[MetricRow], name: &str| rows.iter().find(|row| row.name == name).unwrap().n;
    assert_eq!(n(&rows, "mse"), n(&kept, "mse") + 40);
    assert_eq!(n(&rows, "ce_sae"), n(&kept, "ce_sae"));
    assert_eq!(n(&kept, "ce_sae"), n(&kept, "mse"));
}

#[test]
fn the_mean_alone_explains_nothing() {
    let hook = "blocks.0.hook_resid_post";
    let (model, tokens) = (model(), tokens(40));
    let run = |sae: &Sae| {
        sae_eval::<_, Error>(&model, sae, hook.parse().unwrap(), &tokens, SpecialTokens::Original, |_, _| Ok(()))
            .unwrap()
    };
    let sums = run(&mirror(0.0)).total().reconstruction;
    let mean: Vec<f32> = sums.x.iter().map(|x| (x / sums.n as f64) as f32).collect();
    let weights = Weights {
        d_in: D,
        d_sae: 2,
        w_enc: vec![0.0; 2 * D],
        b_enc: vec![0.0; 2],
        w_dec: vec![0.0; 2 * D],
        b_dec: mean,
        extra: Extra::None,
    };
    let rows = run(&Sae::new(weights, Activation::Relu, true).unwrap()).metrics(0);
    // The mean is rounded to f32.
    assert!(value(&rows, "ev_mc").abs() < 1e-10, "{}", value(&rows, "ev_mc"));
    assert_eq!((value(&rows, "l0"), value(&rows, "dead_fraction")), (0.0, 1.0));
}

#[test]
fn rows_say_what_they_are() {
    let rows = evaluate(&mirror(0.5), "blocks.0.hook_resid_post", SpecialTokens::Original);
    for row in &rows {
        assert!(row.value.is_finite() && row.n > 0);
        assert_eq!(
            (row.tags["hook"].as_str(), row.tags["special_tokens"].as_str()),
            ("blocks.0.hook_resid_post", "original")
        );
        if let (Some(numerator), Some(denominator)) = (row.numerator, row.denominator) {
            let ratio = numerator / denominator;
            let expected = if row.name == "ev_mc" { 1.0 - ratio } else { ratio };
            assert!((row.value - expected).abs() < 1e-12, "{}", row.name);
        }
    }
    for name in ["ev_mc", "mse", "cossim", "l0", "ce_clean", "ce_sae", "ce_zero_ablation", "ce_score"] {
        let row = rows.iter().find(|row| row.name == name).unwrap();
        let (low, high) = (row.low.unwrap(), row.high.unwrap());
        assert!(low <= row.value && row.value <= high, "{name}: {low} {} {high}", row.value);
    }
    assert!((value(&rows, "cossim") - 1.0).abs() < 1e-9 && (value(&rows, "l2_ratio") - 0.5).abs() < 1e-9);
    assert!(batches(&tokens(3), model().config(), 0).count() == 1);
}

#[test]
fn threads_do_not_change_the_bits() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&mirror(0.7), "blocks.1.hook_resid_pre", SpecialTokens::Original))
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn a_hook_of_another_width_is_refused() {
    let (model, tokens) = (model(), tokens(2));
    for hook in ["blocks.0.mlp.hook_post", "blocks.0.attn.hook_z"] {
        let result = sae_eval::<_, Error>(
            &model,
            &mirror(1.0),
            hook.parse().unwrap(),
            &tokens,
            SpecialTokens::Original,
            |_, _| Ok(()),
        );
        assert!(result.unwrap_err().to_string().contains("reads vectors of 16 numbers"));
    }
}
