//! Autoencoders whose scores are known without running anything.

use mediant_artifact::MetricRow;
use mediant_dict::evaluate::Variant;
use mediant_dict::{Activation, Extra, InputNorm, Sae, Weights};
use mediant_lm::{Batch, BlockSlot, Edit, HookPoint, Hooks, Positions, Rows, Slot, State, batches};
use mediant_methods::sae_eval::{Options, SaeEvaluation, SpecialTokens, Spliced, sae_eval};
use mediant_methods::{Error, SaeSplice};
use mediant_tensor::Flex;

use super::support::{D, VOCAB, model, tokens};

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
        d_out: D,
        d_sae: 2 * D,
        w_enc,
        b_enc: vec![0.0; 2 * D],
        w_dec,
        b_dec: vec![0.0; D],
        w_skip: None,
        extra: Extra::None,
    };
    Sae::new(weights, Activation::Relu, true).unwrap()
}

fn options(special_tokens: SpecialTokens) -> Options {
    Options { special_tokens, variants: vec![Variant::FveDl], mdl_bins: 16, zf_rows: 50 }
}

fn spliced(sae: Sae, hook: &str) -> Spliced {
    let hook = hook.parse().unwrap();
    Spliced { name: None, sae, hook, out: hook, batch: None }
}

/// Written elsewhere than read.
fn transcoder(sae: Sae, hook: &str, out: &str) -> Spliced {
    Spliced { out: out.parse().unwrap(), ..spliced(sae, hook) }
}

fn run(all: Vec<Spliced>, special: SpecialTokens) -> Result<SaeEvaluation, Error> {
    sae_eval::<_, Error>(&model(), all, &tokens(40), &options(special), |_, _| Ok(()))
}

fn evaluate(sae: &Sae, hook: &str, special: SpecialTokens) -> Vec<MetricRow> {
    run(vec![spliced(sae.clone(), hook)], special).unwrap().metrics(0)
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

/// Exact in the normalised vectors, and brought back.
#[test]
fn a_reconstruction_of_normalised_vectors_is_brought_back() {
    let hook = "blocks.0.hook_resid_post";
    for norm in [InputNorm::LayerNorm, InputNorm::ConstantNormRescale] {
        let rows = evaluate(&mirror(1.0).with_input_norm(norm).unwrap(), hook, SpecialTokens::Original);
        // f32, and the 1e-5 that SAELens adds to the deviation on the way there alone.
        assert!((value(&rows, "ev_mc") - 1.0).abs() < 1e-8, "{norm:?}: {}", value(&rows, "ev_mc"));
        assert!((value(&rows, "ce_sae") - value(&rows, "ce_clean")).abs() < 1e-4, "{norm:?}");
        let half = evaluate(&mirror(0.5).with_input_norm(norm).unwrap(), hook, SpecialTokens::Original);
        assert!(value(&half, "ev_mc") < 0.9);
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

/// Reconstructs everything by this vector.
fn constant(b_dec: Vec<f32>) -> Sae {
    let weights = Weights {
        d_in: D,
        d_out: D,
        d_sae: 2,
        w_enc: vec![0.0; 2 * D],
        b_enc: vec![0.0; 2],
        w_dec: vec![0.0; 2 * D],
        b_dec,
        w_skip: None,
        extra: Extra::None,
    };
    Sae::new(weights, Activation::Relu, true).unwrap()
}

#[test]
fn the_mean_alone_explains_and_recovers_nothing() {
    let hook = "blocks.0.hook_resid_post";
    for special in [SpecialTokens::Original, SpecialTokens::Replaced] {
        let sums = run(vec![spliced(mirror(0.0), hook)], special).unwrap().total().reconstruction.remove(0);
        let mean = sums.x.iter().map(|x| (x / sums.n as f64) as f32).collect();
        let rows = evaluate(&constant(mean), hook, special);
        // The mean is rounded to f32.
        assert!(value(&rows, "ev_mc").abs() < 1e-10, "{}", value(&rows, "ev_mc"));
        assert!((value(&rows, "nmse") - 1.0).abs() < 1e-10 && value(&rows, "fve_dl").abs() < 1e-10);
        assert_eq!((value(&rows, "l0"), value(&rows, "dead_fraction")), (0.0, 1.0));
        assert_eq!((value(&rows, "mdl_l0"), value(&rows, "mdl_entropy")), (0.0, 0.0));
        // It is the mean ablation.
        assert_eq!(value(&rows, "ce_sae"), value(&rows, "ce_mean_ablation"));
        assert_eq!((value(&rows, "ce_score_mean"), value(&rows, "kl_score_mean")), (0.0, 0.0));
        assert!(value(&rows, "kl_mean_ablation") > 0.0 && value(&rows, "ce_score") != 0.0);
    }
}

/// Cross-entropy and divergence from logits, token by token, and the splice of another module.
#[test]
fn several_at_once_are_what_their_splices_give_together() {
    let (model, tokens) = (model(), tokens(40));
    let all = [
        (mirror(0.8), "blocks.0.hook_resid_post"),
        (mirror(0.6), "blocks.1.hook_mlp_out"),
        (mirror(0.9), "blocks.1.attn.hook_z"),
    ];
    let parts: Vec<Spliced> = all
        .iter()
        .enumerate()
        .map(|(i, (sae, hook))| Spliced { name: Some(format!("number{i}")), ..spliced(sae.clone(), hook) })
        .collect();
    let found = run(parts, SpecialTokens::Replaced).unwrap().metrics(0);

    let edits = all.clone().map(|(sae, hook)| {
        let splice = SaeSplice { sae, keep_error: false, zeroed: vec![], positions: Positions::All };
        (hook.parse::<HookPoint>().unwrap(), splice)
    });
    let (mut n, mut ce, mut kl) = (0, [0.0; 2], 0.0);
    for i in 0..tokens.len() {
        let batch = Batch::new(model.config(), &[tokens.sequence(i)], &Default::default()).unwrap();
        let logits = |edited: bool| {
            let edits = edits.iter().filter(|_| edited);
            let hooks = edits.fold(Hooks::none(), |all, (hook, edit)| all.edit(*hook, edit as &dyn Edit<Flex>));
            let logits = model.logits_from(&batch, State::Start, Rows::All, hooks).unwrap();
            let logits = logits.into_data().into_vec::<f32>().unwrap();
            let rows = logits.chunks(VOCAB).map(|row| {
                let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                row.iter().map(|x| f64::from(*x).exp() / total).collect::<Vec<f64>>()
            });
            rows.collect::<Vec<_>>()
        };
        let (clean, changed) = (logits(false), logits(true));
        for position in 0..tokens.sequence(i).len() - 1 {
            let target = tokens.sequence(i)[position + 1] as usize;
            n += 1;
            ce[0] -= clean[position][target].ln();
            ce[1] -= changed[position][target].ln();
            kl += clean[position].iter().zip(&changed[position]).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
    }
    let close = |name: &str, expected: f64| {
        let found = value(&found, name);
        assert!((found - expected).abs() < 1e-5 * expected.abs(), "{name}: {found} {expected}");
    };
    close("ce_clean", ce[0] / f64::from(n));
    close("ce_sae", ce[1] / f64::from(n));
    close("kl_sae", kl / f64::from(n));
    let zero = value(&found, "kl_zero_ablation");
    close("kl_score", (zero - kl / f64::from(n)) / zero);

    // Each alone has the same reconstruction metrics, since they are of unchanged activations.
    for (i, (sae, hook)) in all.iter().enumerate() {
        let alone = evaluate(sae, hook, SpecialTokens::Replaced);
        for row in
            alone.iter().filter(|row| ["ev_mc", "mse", "l0", "mdl_entropy", "eps_lbo"].contains(&row.name.as_str()))
        {
            let name = format!("number{i}");
            let same = found.iter().find(|other| {
                other.name == row.name
                    && other.tags["hook"] == *hook
                    && other.tags.get("quantile") == row.tags.get("quantile")
            });
            let same = same.unwrap();
            assert_eq!((same.value, same.tags["sae"].as_str()), (row.value, name.as_str()));
        }
    }
    let joint = found.iter().filter(|row| row.name == "ce_sae").collect::<Vec<_>>();
    assert_eq!(joint.len(), 1);
    assert_eq!(joint[0].tags["hook"], "blocks.0.hook_resid_post + blocks.1.attn.hook_z + blocks.1.hook_mlp_out");
}

#[test]
fn one_hook_takes_one() {
    let hook = "blocks.0.hook_resid_post";
    let error = run(vec![spliced(mirror(1.0), hook), spliced(mirror(0.5), hook)], SpecialTokens::Original).unwrap_err();
    assert!(error.to_string().contains("two dictionaries write `blocks.0.hook_resid_post`"), "{error}");
}

#[test]
fn norms_of_orthogonal_codes_are_those_of_the_inputs() {
    // x and −x of one dimension are never active together, and the decoder rows of different dimensions are orthogonal.
    let found = run(vec![spliced(mirror(1.0), "blocks.0.hook_resid_post")], SpecialTokens::Original).unwrap();
    let (hook, name, rows) = found.zf().next().unwrap();
    assert_eq!((hook.as_str(), name, rows.len()), ("blocks.0.hook_resid_post", None, 50));
    assert!(rows.iter().all(|row| (row.point.f_norm / row.point.z_norm - 1.0).abs() < 1e-6 && row.position > 0));
    assert!(rows.windows(2).all(|two| (two[0].example, two[0].position) < (two[1].example, two[1].position)));
    assert!(rows[0].example <= 1 && rows[49].example == 39);
    let metrics = found.metrics(0);
    let median = metrics.iter().find(|row| row.name == "eps_lbo" && row.tags["quantile"] == "0.5").unwrap();
    assert!(median.value < 1e-6);
    let (.., bins) = found.density().next().unwrap();
    assert_eq!(bins.iter().map(|bin| bin.latents).sum::<u64>(), 2 * D as u64);
}

/// By batch, the activations above a threshold that only the whole batch knows.
#[test]
fn a_batch_has_its_k_largest() {
    let mut weights = mirror(1.0).weights().clone();
    weights.extra = Extra::Threshold(vec![1e9; 2 * D]);
    let sae = Sae::new(weights, Activation::JumpRelu, true).unwrap();
    let hook = "blocks.0.hook_resid_post";
    let threshold = evaluate(&sae, hook, SpecialTokens::Original);
    assert_eq!((value(&threshold, "l0"), threshold[0].tags["latents"].as_str()), (0.0, "threshold"));
    let by_batch = |k| {
        let part = Spliced { batch: Some((k, 64)), ..spliced(sae.clone(), hook) };
        run(vec![part], SpecialTokens::Original).unwrap().metrics(0)
    };
    let rows = by_batch(3.0);
    assert_eq!(rows[0].tags["latents"], "batch");
    assert_eq!(value(&rows, "l0"), 3.0);
    assert!(value(&rows, "ev_mc") > value(&threshold, "ev_mc"));
    // All of them: as without any threshold.
    let all = by_batch(2.0 * D as f64);
    let relu = evaluate(&mirror(1.0), hook, SpecialTokens::Original);
    assert_eq!(value(&all, "l0"), value(&relu, "l0"));
    assert_eq!(value(&all, "ce_sae"), value(&relu, "ce_sae"));
}

/// The second projection of an MLP as a transcoder: what skips the latents makes all, and no latent is active.
#[test]
fn a_transcoder_that_is_what_lies_between_costs_nothing() {
    let model = model();
    let parameter = |slot: BlockSlot| {
        let parameters = model.parameters();
        let found = parameters.into_iter().find(|(other, _)| *other == Slot::Block(0, slot)).unwrap();
        found.1.into_values()
    };
    // [4 D, D], and one that is not zero.
    let down = parameter(BlockSlot::DownWeight);
    let w_skip: Vec<f32> = (0..D).flat_map(|out| (0..4 * D).map(move |i| i * D + out)).map(|at| down[at]).collect();
    let weights = Weights {
        d_in: 4 * D,
        w_enc: vec![0.0; 3 * 4 * D],
        b_enc: vec![0.0; 3],
        b_dec: parameter(BlockSlot::DownBias),
        w_skip: Some(w_skip),
        ..Weights::init(D, 3, Some(1.0), 0)
    };
    let exact = Sae::new(weights.clone(), Activation::Relu, false).unwrap();
    let (hook, out) = ("blocks.0.mlp.hook_post", "blocks.0.hook_mlp_out");
    for special in [SpecialTokens::Original, SpecialTokens::Replaced] {
        let found = run(vec![transcoder(exact.clone(), hook, out)], special).unwrap();
        let rows = found.metrics(0);
        assert!((value(&rows, "ev_mc") - 1.0).abs() < 1e-10 && value(&rows, "l0") == 0.0);
        // Two matrix products round differently.
        assert!((value(&rows, "ce_sae") - value(&rows, "ce_clean")).abs() < 1e-5);
        assert!(value(&rows, "kl_sae").abs() < 1e-8 && value(&rows, "kl_zero_ablation") > 1e-4);
        assert!((value(&rows, "kl_score") - 1.0).abs() < 1e-4 && (value(&rows, "ce_score") - 1.0).abs() < 1e-3);
        assert!((value(&rows, "l2_ratio") - 1.0).abs() < 1e-5);
        // Nothing is left for the latents.
        assert!(found.zf().next().unwrap().2.iter().all(|row| row.point.z_norm < 1e-4));
        assert!(rows.iter().all(|row| row.tags["hook"] == hook && row.tags["hook_out"] == out));
        // What is ablated is what is written.
        let written = evaluate(&mirror(1.0), out, special);
        for name in ["ce_zero_ablation", "ce_mean_ablation", "kl_zero_ablation", "kl_mean_ablation", "l2_norm_in"] {
            assert_eq!(value(&rows, name), value(&written, name), "{name}");
        }
    }
    let without = Sae::new(Weights { w_skip: None, ..weights }, Activation::Relu, false).unwrap();
    let rows = run(vec![transcoder(without, hook, out)], SpecialTokens::Original).unwrap().metrics(0);
    assert!(value(&rows, "ev_mc") < 0.1 && value(&rows, "kl_sae") > 1e-4);
}

/// One hook point is a copy of another: reading the one and writing the other is what an autoencoder at either does.
#[test]
fn a_transcoder_to_a_copy_is_an_autoencoder() {
    let (hook, copy) = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre");
    let sae = || mirror(0.8);
    let before = || Spliced { name: Some("before".to_owned()), ..spliced(mirror(0.6), "blocks.0.hook_mlp_out") };
    let after = || Spliced { name: Some("after".to_owned()), ..spliced(mirror(0.9), "blocks.1.attn.hook_z") };
    let named = |part: Spliced| Spliced { name: Some("it".to_owned()), ..part };
    let numbers = |rows: Vec<MetricRow>| -> Vec<(String, f64, Option<f64>)> {
        rows.into_iter().map(|row| (row.name, row.value, row.high)).collect()
    };
    for special in [SpecialTokens::Original, SpecialTokens::Replaced] {
        let alone = run(vec![transcoder(sae(), hook, copy)], special).unwrap();
        assert_eq!(numbers(alone.metrics(0)), numbers(evaluate(&sae(), hook, special)));
        // With others before and after it, it reads what those before it leave.
        let one = vec![before(), named(transcoder(sae(), hook, copy)), after()];
        let other = vec![before(), named(spliced(sae(), hook)), after()];
        let (one, other) = (run(one, special).unwrap().metrics(0), run(other, special).unwrap().metrics(0));
        let joint = one.iter().find(|row| row.name == "ce_sae").unwrap();
        assert_eq!(joint.tags["hook"], format!("blocks.0.hook_mlp_out + {hook} + blocks.1.attn.hook_z"));
        // The autoencoders beside it write what they read.
        assert!(
            one.iter().all(|row| row.name != "mse" || row.tags.contains_key("hook_out") == (row.tags["sae"] == "it"))
        );
        assert_eq!(joint.tags["hook_out"], format!("blocks.0.hook_mlp_out + {copy} + blocks.1.attn.hook_z"));
        assert_eq!(numbers(one), numbers(other));
    }
}

#[test]
fn what_is_written_before_it_is_read_is_refused() {
    let back = transcoder(mirror(1.0), "blocks.1.hook_resid_pre", "blocks.0.hook_resid_post");
    let error = run(vec![back], SpecialTokens::Original).unwrap_err();
    assert!(error.to_string().contains("which a pass reaches after"), "{error}");
    let both = vec![
        spliced(mirror(1.0), "blocks.0.hook_mlp_out"),
        transcoder(mirror(1.0), "blocks.0.hook_mlp_in", "blocks.0.hook_mlp_out"),
    ];
    assert!(run(both, SpecialTokens::Original).unwrap_err().to_string().contains("two dictionaries write"));
}

#[test]
fn rows_say_what_they_are() {
    let rows = evaluate(&mirror(0.5), "blocks.0.hook_resid_post", SpecialTokens::Original);
    for row in &rows {
        assert!(row.value.is_finite() && row.n > 0, "{}", row.name);
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
    let names = [
        "ev_mc",
        "mse",
        "nmse",
        "cossim",
        "l0",
        "ce_clean",
        "ce_sae",
        "ce_zero_ablation",
        "ce_score",
        "ce_score_mean",
        "kl_score",
    ];
    for name in names {
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
    // Heads one beside the other are a vector of the right width; the others are not.
    assert!(run(vec![spliced(mirror(1.0), "blocks.0.attn.hook_z")], SpecialTokens::Original).is_ok());
    for hook in ["blocks.0.mlp.hook_post", "blocks.0.attn.hook_result", "blocks.0.attn.hook_pattern"] {
        let error = run(vec![spliced(mirror(1.0), hook)], SpecialTokens::Original).unwrap_err();
        assert!(error.to_string().contains("reads vectors of 16 numbers"), "{error}");
    }
}
