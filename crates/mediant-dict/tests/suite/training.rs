//! Whole trainings: they learn, resume to the bit, and do not depend on threads.

use mediant_dict::train::{InMemory, Trained};
use mediant_dict::{Error, TrainConfig};
use serde_json::{Value, json};

use crate::support::{config, resume, start, steps, synthetic, train};

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn value(trained: &Trained, name: &str) -> f64 {
    trained.curve.iter().rfind(|row| row.name == name).unwrap().value
}

/// All families, with every option that adds state or randomness.
pub(crate) fn families() -> [Value; 17] {
    [
        json!({ "sae": { "architecture": "topk", "k": 4, "aux_loss_coefficient": 0.5, "b_dec_init": "geometric_median" },
            "dead_feature_window": 5, "block": 100, "seed": 3, "log_every": 4 }),
        json!({ "sae": { "architecture": "relu", "l1": 0.05, "l1_warm_up_steps": 10, "normalize_activations": "expected_average_only_in" },
            "lr_warm_up_steps": 5, "lr_decay_steps": 10, "norm_estimate_batches": 3 }),
        json!({ "sae": { "architecture": "gated", "l1": 0.05, "l1_warm_up_steps": 10, "l0_target": 6, "b_dec_init": "mean" } }),
        json!({ "sae": { "architecture": "batchtopk", "k": 4.5, "normalize_activations": "expected_average_only_in" },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "matryoshka", "k": 4, "matryoshka_widths": [24, 40], "topk_threshold_lr": 0.05 },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "matryoshka", "k": 4, "matryoshka_widths": [24, 40], "use_matryoshka_aux_loss": true },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "jumprelu", "l0_coefficient": 0.02, "l0_warm_up_steps": 10, "pre_act_loss_coefficient": 1e-3 },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "jumprelu", "l0_coefficient": 0.02, "jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 5,
            "jumprelu_ste_to_input": true, "decoder_init_norm": 0.5 } }),
        json!({ "sae": { "architecture": "top_afa", "normalize_activations": "expected_average_only_in" },
            "dead_feature_window": 5, "adam_beta2": 0.99 }),
        json!({ "sae": { "architecture": "matching_pursuit", "max_iterations": 4, "normalize_activations": "expected_average_only_in" } }),
        json!({ "sae": { "architecture": "relu", "l1": 0.05, "decoder_norm": "one_after_step", "encoder_init_norm": 0.1 },
            "max_grad_norm": 0.5 }),
        json!({ "sae": { "architecture": "gated", "l1": 0.05, "gated_detach_decoder": true, "decoder_norm": "one_after_step" },
            "adam_beta1": 0 }),
        json!({ "sae": { "architecture": "batchtopk", "k": 4.5, "aux_loss": "dictionary_learning", "topk_threshold_start_step": 10 },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "relative", "target_l0": 5, "jumprelu_bandwidth": 0.1,
            "jumprelu_init_threshold": 0.1, "apply_b_dec_to_input": false }, "adam_beta1": 0 }),
        json!({ "sae": { "architecture": "topk", "k": 4, "aux_loss": "dictionary_learning", "decoder_norm": "one_after_step",
            "rescale_acts_by_decoder_norm": false }, "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "top_afa", "normalize_activations": "layer_norm", "b_dec_init": "mean" },
            "dead_feature_window": 5 }),
        json!({ "sae": { "architecture": "topk", "k": 4, "normalize_activations": "constant_norm_rescale" }, "dead_feature_window": 5 }),
    ]
}

#[test]
fn trainings_learn() {
    let data = synthetic(4000, 32, 48, 20);
    let options = json!({ "steps": 800, "batch": 128, "lr": 3e-3, "dead_feature_window": 50 });
    for mut own in families() {
        own.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let trained = train(&config(&own), &data);
        // Three of 48 directions and a constant make up each vector; before training nothing is explained.
        assert!(value(&trained, "ev_trainer") > 0.85, "{own}: {}", value(&trained, "ev_trainer"));
        let first = trained.curve.iter().find(|row| row.name == "ev_trainer").unwrap().value;
        // A pursuit explains some of a vector by any rows.
        let pursuit = own["sae"]["architecture"] == "matching_pursuit";
        assert!(first < if pursuit { 0.5 } else { 0.2 }, "{own}: {first}");
        let before = trained.curve.iter().find(|row| row.name == "mse_loss").unwrap().value;
        assert!(value(&trained, "mse_loss") < 0.3 * before, "{own}");
        assert!((trained.facts.epochs - 800.0 * 128.0 / 4000.0).abs() < 1e-12);
        // The finished weights do what the last step did, with a threshold where a batch chose.
        let codes = trained.sae.encode(&data.data);
        let l0 = codes.entries() as f64 / 4000.0;
        // A batch of 128 is a sample; top_afa has some thirty active latents and the others five.
        assert!((l0 - value(&trained, "l0")).abs() < (0.07 * l0).max(1.0), "{own}: {l0}, {}", value(&trained, "l0"));
        let mut sums = mediant_dict::evaluate::Sums::default();
        let out = trained.sae.decode(&codes, &data.data);
        for (row, (x, r)) in data.data.chunks_exact(32).zip(out.chunks_exact(32)).enumerate() {
            sums.add(x, r, codes.row(row).1, &[0.0; 32]);
        }
        assert!(sums.ev_mc() > 0.8, "{own}: {}", sums.ev_mc());
    }
}

#[test]
fn the_sparsity_coefficient_is_steered_to_the_wanted_l0() {
    let data = synthetic(4000, 32, 48, 20);
    for (target, sae) in [
        (4.0, json!({ "architecture": "relu", "l1": 0.02, "l1_warm_up_steps": 50 })),
        (8.0, json!({ "architecture": "relu", "l1": 2.0 })),
        (6.0, json!({ "architecture": "gated", "l1": 0.02 })),
        (6.0, json!({ "architecture": "jumprelu", "l0_coefficient": 1e-4 })),
    ] {
        let mut own = json!({ "sae": sae, "steps": 2000, "batch": 128, "lr": 3e-3, "log_every": 10 });
        own["sae"]["l0_target"] = target.into();
        let trained = train(&config(&own), &data);
        let last = |name: &str| -> f64 {
            let all: Vec<f64> = trained.curve.iter().filter(|row| row.name == name).map(|row| row.value).collect();
            all[all.len() - 20..].iter().sum::<f64>() / 20.0
        };
        // The mean over 20 batches of 128; the controller overshoots by a few percent and comes back.
        assert!((last("l0") / target - 1.0).abs() < 0.1, "{own}: {}", last("l0"));
        assert!(last("ev_trainer") > 0.5, "{own}: {}", last("ev_trainer"));
    }
}

#[test]
fn resuming_at_any_step_gives_the_bits_of_no_interruption() {
    let data = synthetic(333, 16, 24, 10);
    for own in families() {
        let config = config(&own);
        let whole = train(&config, &data);
        for stop in [0, 1, 7, 16, 29] {
            let dir = tempfile::tempdir().unwrap();
            let mut trainer = start(&config, &data);
            steps(&mut trainer, &data, stop).unwrap();
            trainer.save(dir.path()).unwrap();
            drop(trainer);
            let mut trainer = resume(&config, &data, dir.path()).unwrap();
            assert_eq!(trainer.steps_done(), stop);
            steps(&mut trainer, &data, whole.facts.steps).unwrap();
            let resumed = trainer.finish().unwrap();
            assert_eq!(resumed.sae, whole.sae, "stopped after {stop}");
            assert_eq!(resumed.curve, whole.curve);
            assert_eq!(resumed.facts, whole.facts);
        }
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let data = synthetic(333, 16, 24, 10);
    let [topk, relu, gated, ..] = families().map(|own| config(&own));
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = start(&topk, &data);
    steps(&mut trainer, &data, 1).unwrap();
    trainer.save(dir.path()).unwrap();
    let refused = |config: &TrainConfig| resume(config, &data, dir.path()).is_err();
    assert!(!refused(&topk));
    assert!(refused(&relu) && refused(&gated));
    assert!(refused(&TrainConfig { d_sae: 65, ..topk }));
}

#[test]
fn threads_do_not_change_the_bits() {
    let data = synthetic(1000, 40, 64, 25);
    for own in families() {
        let mut config = config(&own);
        config.d_sae = 700;
        config.steps = Some(16);
        let run = |threads| on_threads(threads, || train(&config, &data));
        let (one, two, three) = (run(1), run(2), run(3));
        assert_eq!(one.sae, two.sae);
        assert_eq!(one.sae, three.sae);
        assert_eq!(one.curve, two.curve);
    }
}

/// The largest distance of a decoder row's norm from 1 after each of three steps.
fn off_norm(own: &Value) -> [f32; 3] {
    let data = synthetic(400, 16, 24, 10);
    [1, 2, 3].map(|all| {
        let mut sae = json!({ "k": 4, "rescale_acts_by_decoder_norm": false, "architecture": "topk" });
        sae.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let weights = train(&config(&json!({ "sae": sae, "steps": all, "lr": 1e-2 })), &data).sae.weights().clone();
        weights.decoder_norms().iter().fold(0.0f32, |worst, norm| worst.max((norm - 1.0).abs()))
    })
}

#[test]
fn decoder_rows_are_kept_at_norm_one() {
    assert!(off_norm(&json!({ "decoder_norm": "one_after_step" })).iter().all(|off| *off < 1e-6));
    // Off by one step, and by no more.
    let before = off_norm(&json!({ "decoder_norm": "one_before_step" }));
    assert!(before.iter().all(|off| *off > 1e-4 && *off < 0.1), "{before:?}");
    assert!(off_norm(&json!({})).iter().all(|off| *off > 0.5));
}

#[test]
fn seeds_change_weights_and_data_order() {
    let data = synthetic(400, 16, 24, 10);
    let run = |seed: u64| {
        train(&config(&json!({ "sae": { "architecture": "topk", "k": 4 }, "seed": seed, "steps": 3 })), &data)
    };
    assert_eq!(run(0).sae, run(0).sae);
    assert_ne!(run(0).sae, run(1).sae);
}

#[test]
fn what_is_not_finite_ends_the_training_and_names_the_step() {
    let mut data = synthetic(480, 16, 24, 10);
    data.data[100 * 16] = f32::NAN;
    // The epoch has ten batches of 48; the bad row is in one of them.
    let config = config(&json!({ "sae": { "architecture": "topk", "k": 4 } }));
    let mut trainer = start(&config, &data);
    let error = steps(&mut trainer, &data, 10).unwrap_err();
    let Error::NotFinite { step, .. } = error else { panic!("{error}") };
    assert_eq!(step, trainer.steps_done());
    assert!(error.to_string().contains(&format!("at step {step}")));
}

#[test]
fn normalised_training_folds_back_to_the_scale_of_the_data() {
    let mut data = synthetic(4000, 32, 48, 20);
    let own = json!({ "sae": { "architecture": "topk", "k": 4, "normalize_activations": "expected_average_only_in" },
        "steps": 600, "batch": 128, "lr": 3e-3 });
    let run = |data: &InMemory| train(&config(&own), data);
    let plain = run(&data);
    // Powers of two scale without rounding, so the two trainings see the same numbers.
    data.data.iter_mut().for_each(|x| *x *= 64.0);
    let large = run(&data);
    assert_eq!(plain.facts.activation_scale, 64.0 * large.facts.activation_scale);
    assert_eq!(plain.curve, large.curve);
    let sums = |trained: &Trained, data: &InMemory| {
        let codes = trained.sae.encode(&data.data);
        let out = trained.sae.decode(&codes, &data.data);
        let mut sums = mediant_dict::evaluate::Sums::default();
        for (row, (x, r)) in data.data.chunks_exact(32).zip(out.chunks_exact(32)).enumerate() {
            sums.add(x, r, codes.row(row).1, &[0.0; 32]);
        }
        sums.ev_mc()
    };
    // What the weights do without the scale is what the training did with it; a batch is a sample of the data.
    let (folded, trained) = (sums(&large, &data), value(&large, "ev_trainer"));
    assert!(trained > 0.4 && (folded - trained).abs() < 0.05, "{folded}, {trained}");
}

/// One by one: the training is that of the normalised vectors, to the bit, and the result is a function of the raw ones.
#[test]
fn trainings_of_normalised_vectors_are_those_of_vectors_normalised_before() {
    for norm in ["layer_norm", "constant_norm_rescale"] {
        for family in ["topk", "top_afa", "gated"] {
            let mut own = json!({ "sae": { "architecture": family, "b_dec_init": "mean" }, "dead_feature_window": 5 });
            if family == "topk" {
                own["sae"]["k"] = 4.into();
            }
            let raw = synthetic(400, 16, 24, 10);
            let plain = config(&own);
            own["sae"]["normalize_activations"] = norm.into();
            let trained = train(&config(&own), &raw);
            let mut before = synthetic(400, 16, 24, 10);
            before.data = trained.sae.normalised(&raw.data);
            assert_ne!(before.data, raw.data);
            let expected = train(&plain, &before);
            assert_eq!(trained.curve, expected.curve, "{norm} {family}");
            assert_eq!(trained.sae.weights(), expected.sae.weights());
            let codes = trained.sae.encode(&raw.data);
            assert_eq!(codes.to_dense(64), expected.sae.encode(&before.data).to_dense(64));
            assert_ne!(trained.sae.decode(&codes, &raw.data), expected.sae.decode(&codes, &before.data));
        }
    }
}

/// dictionary_learning's `get_norm_factor`, of an epoch here: √ of the mean of squared norms, by which vectors are divided.
#[test]
fn vectors_are_divided_by_the_root_of_their_mean_squared_norm() {
    let data = synthetic(400, 16, 24, 10);
    let own = json!({ "sae": { "architecture": "topk", "k": 4, "normalize_activations": "root_mean_square_norm" } });
    let training = config(&own).resolve().unwrap();
    assert_eq!(training.norm_estimate_batches, Some(100));
    let trained = train(&config(&own), &data);
    let squares: f64 = data.data.iter().map(|x| f64::from(*x).powi(2)).sum();
    let expected = 1.0 / (squares / 400.0).sqrt();
    // One number rounded to f32.
    assert!((f64::from(trained.facts.activation_scale) / expected - 1.0).abs() < 1e-6);
}

#[test]
fn a_batch_larger_than_the_data_goes_over_several_epochs() {
    let data = synthetic(30, 16, 24, 10);
    let trained =
        train(&config(&json!({ "sae": { "architecture": "topk", "k": 4 }, "steps": 4, "batch": 100 })), &data);
    assert_eq!(trained.facts.tokens, 400);
    assert!((trained.facts.epochs - 400.0 / 30.0).abs() < 1e-12);
}
