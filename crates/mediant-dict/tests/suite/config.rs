//! Options: defaults, what does not belong together, schedules.

use mediant_dict::{
    AuxLoss, BatchChoice, DecoderNorm, JumpRelu, LearningRate, MatchingPursuit, Objective, Sparsity, TopAfa,
    TrainConfig,
};
use serde_json::{Value, json};

use crate::support::config;

fn problems(options: Value) -> Vec<(&'static str, String)> {
    let found = config(&options).resolve().unwrap_err();
    found.into_iter().map(|problem| (problem.path, problem.message)).collect()
}

#[test]
fn defaults_are_those_of_saelens() {
    let topk: TrainConfig =
        serde_json::from_value(json!({ "sae": { "architecture": "topk" }, "d_sae": 512, "steps": 10 })).unwrap();
    let training = topk.resolve().unwrap();
    assert_eq!(
        training.objective,
        Objective::TopK {
            k: 100,
            rescale_acts_by_decoder_norm: true,
            aux_loss_coefficient: 1.0,
            aux_loss: AuxLoss::Saelens
        }
    );
    assert_eq!((training.batch, training.lr.lr, training.adam_betas), (4096, 3e-4, (0.9, 0.999)));
    assert_eq!((training.max_grad_norm, training.dead_feature_window), (Some(1.0), 1000));
    assert_eq!((training.decoder_init_norm, training.apply_b_dec_to_input), (Some(0.1), true));
    let relu: TrainConfig =
        serde_json::from_value(json!({ "sae": { "architecture": "relu" }, "d_sae": 512, "tokens": 4097 })).unwrap();
    let training = relu.resolve().unwrap();
    assert_eq!(training.objective, Objective::Relu { l1: 1.0, l1_warm_up_steps: 0 });
    let of = |sae: Value| config(&json!({ "sae": sae, "d_sae": 512 })).resolve().unwrap().objective;
    let gated = Objective::Gated { l1: 1.0, l1_warm_up_steps: 0, detach_decoder: false };
    assert_eq!(of(json!({ "architecture": "gated" })), gated);
    let choice = BatchChoice {
        k: 100.0,
        rescale_acts_by_decoder_norm: true,
        aux_loss_coefficient: 1.0,
        aux_loss: AuxLoss::Saelens,
        threshold_lr: 0.01,
        threshold_start_step: None,
    };
    assert_eq!(of(json!({ "architecture": "batchtopk" })), Objective::BatchTopK { choice });
    assert_eq!(
        of(json!({ "architecture": "matryoshka", "matryoshka_widths": [32, 128, 512] })),
        Objective::Matryoshka { choice, widths: vec![32, 128], aux_by_width: false }
    );
    let jump_relu = JumpRelu {
        l0: 1.0,
        l0_warm_up_steps: 0,
        threshold_init: 0.01,
        bandwidth: 0.05,
        sparsity: Sparsity::Step,
        ste_to_input: false,
        pre_act_loss_coefficient: None,
    };
    assert_eq!(of(json!({ "architecture": "jumprelu" })), Objective::JumpRelu(jump_relu));
    let tanh = of(json!({ "architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "tanh" }));
    assert_eq!(tanh, Objective::JumpRelu(JumpRelu { sparsity: Sparsity::Tanh { scale: 4.0 }, ..jump_relu }));
    let top_afa = config(&json!({ "sae": { "architecture": "top_afa" } })).resolve().unwrap();
    let paper = TopAfa { afa_coefficient: 1.0 / 32.0, aux_loss_coefficient: 1.0 / 32.0, k_aux: 512 };
    assert_eq!(top_afa.objective, Objective::TopAfa(paper));
    let pursuit = config(&json!({ "sae": { "architecture": "matching_pursuit" } })).resolve().unwrap();
    let rule = MatchingPursuit { residual_threshold: 1e-2, max_iterations: None, stop_on_duplicate_support: true };
    assert_eq!(pursuit.objective, Objective::MatchingPursuit(rule));
    assert_eq!((pursuit.decoder_init_norm, pursuit.decoder_norm), (Some(1.0), DecoderNorm::Free));
    assert_eq!((top_afa.decoder_init_norm, top_afa.decoder_norm), (Some(1.0), DecoderNorm::OneBeforeStep));
    assert_eq!(training.decoder_norm, DecoderNorm::Free);
    assert_eq!(training.steps, 2);
}

#[test]
fn options_of_dictionary_learning_have_its_defaults() {
    let of = |sae: Value| config(&json!({ "sae": sae, "steps": 2000 })).resolve().unwrap().objective;
    let choice = BatchChoice {
        k: 4.0,
        rescale_acts_by_decoder_norm: true,
        aux_loss_coefficient: 1.0 / 32.0,
        aux_loss: AuxLoss::DictionaryLearning,
        threshold_lr: 0.01,
        threshold_start_step: Some(1000),
    };
    let theirs = json!({ "architecture": "batchtopk", "k": 4, "aux_loss": "dictionary_learning",
        "topk_threshold_start_step": 1000 });
    assert_eq!(of(theirs), Objective::BatchTopK { choice });
    let relative = JumpRelu {
        l0: 1.0,
        l0_warm_up_steps: 0,
        threshold_init: 0.001,
        bandwidth: 0.001,
        sparsity: Sparsity::Relative { target_l0: 20.0 },
        ste_to_input: false,
        pre_act_loss_coefficient: None,
    };
    let theirs = json!({ "architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "relative" });
    assert_eq!(of(theirs), Objective::JumpRelu(relative));
}

#[test]
fn encoders_begin_as_transposes_or_with_norms_of_their_own() {
    let of = |sae: Value| config(&json!({ "sae": sae })).resolve().unwrap();
    let start = |own: Value| {
        let mut sae = json!({ "architecture": "top_afa" });
        sae.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let data = crate::support::synthetic(200, 16, 24, 10);
        // The weights as they begin: no step changes them at a learning rate that is nothing.
        let config = config(&json!({ "sae": sae, "steps": 1, "lr": 1e-30 }));
        crate::support::train(&config, &data).sae.weights().clone()
    };
    let norms = |weights: &mediant_dict::Weights| -> Vec<f32> {
        weights.w_enc.chunks_exact(16).map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt()).collect()
    };
    let (transposed, short, drawn) =
        (start(json!({})), start(json!({ "encoder_init_norm": 0.1 })), start(json!({ "encoder_init_norm": null })));
    assert!(norms(&transposed).iter().all(|norm| (norm - 1.0).abs() < 1e-5));
    assert!(norms(&short).iter().all(|norm| (norm - 0.1).abs() < 1e-6));
    // Uniform in ±√(6/64), of which 16 have a square of 16 · 2/64 in the mean of 64 latents; the first has not that of another.
    let drawn_norms = norms(&drawn);
    let square = drawn_norms.iter().map(|norm| norm * norm).sum::<f32>() / 64.0;
    assert!((square - 0.5).abs() < 0.05 && (drawn_norms[0] - drawn_norms[1]).abs() > 1e-3, "{square}");
    assert!(drawn.w_enc.iter().all(|x| x.abs() <= (6.0f32 / 64.0).sqrt()));
    let pairs = drawn.w_enc.chunks_exact(16).zip(drawn.w_dec.chunks_exact(16)).zip(&drawn_norms);
    for ((column, row), norm) in pairs {
        assert!(column.iter().zip(row).all(|(w, d)| (w / norm - d).abs() < 1e-5));
    }
    let recorded = serde_json::to_value(of(json!({ "architecture": "relu", "encoder_init_norm": 0.1 }))).unwrap();
    assert_eq!(recorded["encoder_init"], json!({ "norm": 0.1 }));
    assert_eq!(serde_json::to_value(of(json!({ "architecture": "relu" }))).unwrap().get("encoder_init"), None);
}

#[test]
fn null_turns_off_what_has_a_default() {
    let options =
        json!({ "sae": { "architecture": "topk", "k": 4, "decoder_init_norm": null }, "max_grad_norm": null });
    let training = config(&options).resolve().unwrap();
    assert_eq!((training.max_grad_norm, training.decoder_init_norm), (None, None));
}

#[test]
fn options_that_do_nothing_or_contradict_are_errors() {
    let topk = |extra: Value| {
        let mut sae = json!({ "architecture": "topk", "k": 4 });
        sae.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "sae": sae })
    };
    let with = |extra: Value| {
        let mut all = topk(json!({}));
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all
    };
    let of = |family: &str, extra: Value| {
        let mut sae = json!({ "architecture": family });
        if ["batchtopk", "matryoshka"].contains(&family) {
            sae["k"] = json!(4);
        }
        sae.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "sae": sae })
    };
    for (options, path, message) in [
        (topk(json!({ "l1": 1.0 })), "sae.l1", "no option of `architecture: topk`"),
        (topk(json!({ "l1_warm_up_steps": 1 })), "sae.l1_warm_up_steps", "no option"),
        (json!({ "sae": { "architecture": "relu", "k": 4 } }), "sae.k", "no option of `architecture: relu`"),
        (
            json!({ "sae": { "architecture": "relu", "aux_loss_coefficient": 0.0 } }),
            "sae.aux_loss_coefficient",
            "no option",
        ),
        (topk(json!({ "k": 65 })), "sae.k", "only 64 latents"),
        (topk(json!({ "k": 0 })), "sae.k", "at least 1"),
        (topk(json!({ "k": 4.5 })), "sae.k", "whole number"),
        (topk(json!({ "topk_threshold_lr": 0.1 })), "sae.topk_threshold_lr", "no option of `architecture: topk`"),
        (topk(json!({ "l0_coefficient": 1.0 })), "sae.l0_coefficient", "no option"),
        (of("gated", json!({ "k": 4 })), "sae.k", "no option of `architecture: gated`"),
        (of("gated", json!({ "l1": -1.0 })), "sae.l1", "at least 0"),
        (of("gated", json!({ "l1": 1e39 })), "sae.l1", "32 bits"),
        (
            of("relu", json!({ "l1_warm_up_steps": 31 })),
            "sae.l1_warm_up_steps",
            "longer than the training, which has 30",
        ),
        (of("jumprelu", json!({ "l0_warm_up_steps": 31 })), "sae.l0_warm_up_steps", "longer than the training"),
        (of("relu", json!({ "l1_warm_up_steps": 30, "l0_target": 4 })), "sae.l1_warm_up_steps", "takes all 30 steps"),
        (of("topk", json!({})), "sae", "`k` is 100 by default, and there are only 64 latents"),
        (of("batchtopk", json!({ "k": 0.0 })), "sae.k", "above 0"),
        (of("batchtopk", json!({ "k": 0.02 })), "sae.k", "no latent would be active"),
        (of("batchtopk", json!({ "k": 64.5 })), "sae.k", "only 64 latents"),
        (of("batchtopk", json!({ "topk_threshold_lr": 0.0 })), "sae.topk_threshold_lr", "above 0 and at most 1"),
        (of("batchtopk", json!({ "matryoshka_widths": [8] })), "sae.matryoshka_widths", "no option"),
        (of("batchtopk", json!({ "topk_threshold_start_step": 29 })), "sae.topk_threshold_start_step", "never begin"),
        (topk(json!({ "topk_threshold_start_step": 1 })), "sae.topk_threshold_start_step", "no option"),
        (topk(json!({ "aux_loss": "saelens", "aux_loss_coefficient": 0 })), "sae.aux_loss", "does nothing"),
        (of("top_afa", json!({ "aux_loss": "dictionary_learning" })), "sae.aux_loss", "no option"),
        (of("relu", json!({ "gated_detach_decoder": true })), "sae.gated_detach_decoder", "no option"),
        (of("relu", json!({ "encoder_init_norm": 0.0 })), "sae.encoder_init_norm", "positive"),
        (of("matching_pursuit", json!({ "encoder_init_norm": 1 })), "sae.encoder_init_norm", "is its decoder"),
        (of("batchtopk", json!({ "aux_loss_coefficient": -0.5 })), "sae.aux_loss_coefficient", "at least 0"),
        (of("batchtopk", json!({ "use_matryoshka_aux_loss": true })), "sae.use_matryoshka_aux_loss", "no option"),
        (
            of(
                "matryoshka",
                json!({ "matryoshka_widths": [8], "use_matryoshka_aux_loss": true, "aux_loss_coefficient": 0 }),
            ),
            "sae.use_matryoshka_aux_loss",
            "does nothing",
        ),
        (of("matryoshka", json!({})), "sae.architecture", "needs `matryoshka_widths`"),
        (of("matryoshka", json!({ "matryoshka_widths": [] })), "sae.matryoshka_widths", "needs a width"),
        (of("matryoshka", json!({ "matryoshka_widths": [64] })), "sae.matryoshka_widths", "needs a width"),
        (of("matryoshka", json!({ "matryoshka_widths": [0, 8] })), "sae.matryoshka_widths", "must rise"),
        (of("matryoshka", json!({ "matryoshka_widths": [16, 16] })), "sae.matryoshka_widths", "must rise"),
        (of("matryoshka", json!({ "matryoshka_widths": [16, 65] })), "sae.matryoshka_widths", "must rise"),
        (of("top_afa", json!({ "k": 4 })), "sae.k", "no option of `architecture: top_afa`"),
        (of("top_afa", json!({ "afa_coeff": -1.0 })), "sae.afa_coeff", "at least 0"),
        (of("top_afa", json!({ "k_aux": 0 })), "sae.k_aux", "at least 1"),
        (of("top_afa", json!({ "decoder_init_norm": 0.1 })), "sae.decoder_init_norm", "at norm 1"),
        (of("top_afa", json!({ "decoder_init_norm": null })), "sae.decoder_init_norm", "at norm 1"),
        (of("matching_pursuit", json!({ "max_iterations": 0 })), "sae.max_iterations", "at least 1"),
        (of("matching_pursuit", json!({ "residual_threshold": -1.0 })), "sae.residual_threshold", "at least 0"),
        (of("matching_pursuit", json!({ "decoder_init_norm": 0.1 })), "sae.decoder_init_norm", "of norm 1"),
        (of("matching_pursuit", json!({ "apply_b_dec_to_input": false })), "sae.apply_b_dec_to_input", "not built"),
        (topk(json!({ "max_iterations": 9 })), "sae.max_iterations", "no option"),
        (topk(json!({ "afa_coeff": 0.1 })), "sae.afa_coeff", "no option of `architecture: topk`"),
        (of("jumprelu", json!({ "l1": 1.0 })), "sae.l1", "no option of `architecture: jumprelu`"),
        (
            of("jumprelu", json!({ "target_l0": 8 })),
            "sae.target_l0",
            "does nothing without the quadratic or the relative",
        ),
        (
            of("jumprelu", json!({ "jumprelu_sparsity_loss_mode": "relative", "target_l0": 65 })),
            "sae.target_l0",
            "at most `d_sae`",
        ),
        (
            of("jumprelu", json!({ "jumprelu_sparsity_loss_mode": "relative", "jumprelu_ste_to_input": true })),
            "sae.jumprelu_ste_to_input",
            "towards thresholds alone",
        ),
        (
            of("jumprelu", json!({ "jumprelu_sparsity_loss_mode": "relative", "l0_target": 6 })),
            "sae.l0_target",
            "the relative loss aims",
        ),
        (of("jumprelu", json!({ "jumprelu_tanh_scale": 8 })), "sae.jumprelu_tanh_scale", "without the tanh loss"),
        (
            of("jumprelu", json!({ "jumprelu_sparsity_loss_mode": "quadratic" })),
            "sae.jumprelu_sparsity_loss_mode",
            "needs `target_l0`",
        ),
        (
            of("jumprelu", json!({ "jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 65 })),
            "sae.target_l0",
            "at most `d_sae`",
        ),
        (of("jumprelu", json!({ "jumprelu_bandwidth": 0.0 })), "sae.jumprelu_bandwidth", "above 0"),
        (of("jumprelu", json!({ "jumprelu_init_threshold": -0.1 })), "sae.jumprelu_init_threshold", "at least 0"),
        (of("jumprelu", json!({ "pre_act_loss_coefficient": -0.1 })), "sae.pre_act_loss_coefficient", "at least 0"),
        (topk(json!({ "decoder_init_norm": -1.0 })), "sae.decoder_init_norm", "positive"),
        (
            topk(json!({ "decoder_init_norm": 1.0, "decoder_norm": "one_after_step" })),
            "sae.decoder_init_norm",
            "at norm 1",
        ),
        (with(json!({ "tokens": 5 })), "tokens", "both"),
        (with(json!({ "steps": null })), "", "neither"),
        (with(json!({ "steps": 0 })), "steps", "at least 1"),
        (with(json!({ "steps": u64::MAX })), "steps", "more than can be counted"),
        (with(json!({ "batch": 1 })), "batch", "at least 2"),
        (with(json!({ "lr": 0.0 })), "lr", "positive"),
        (with(json!({ "lr_end": 1e-4 })), "lr_end", "`lr_end` does nothing with a constant"),
        (with(json!({ "lr_warm_up_steps": 31 })), "lr_warm_up_steps", "30 steps"),
        (with(json!({ "lr_decay_steps": 30, "lr_warm_up_steps": 1 })), "lr_decay_steps", "30 steps"),
        (with(json!({ "norm_estimate_batches": 3 })), "norm_estimate_batches", "does nothing"),
        (with(json!({ "adam_beta1": 1.0 })), "adam_beta1", "below 1"),
        (with(json!({ "log_every": 0 })), "log_every", "at least 1"),
    ] {
        let found = problems(options.clone());
        assert!(found.iter().any(|(at, text)| *at == path && text.contains(message)), "{options}: {found:?}");
    }
    // What would be right.
    let help = |options: Value| config(&options).resolve().unwrap_err()[0].help.clone().unwrap();
    assert_eq!(help(of("relu", json!({ "k": 4 }))), "it belongs to `architecture: topk`, `batchtopk`, `matryoshka`");
    assert_eq!(
        help(of("jumprelu", json!({ "target_l0": 4 }))),
        "add `jumprelu_sparsity_loss_mode: quadratic` or `relative`"
    );
    assert_eq!(help(of("matryoshka", json!({}))), "add `matryoshka_widths: [256, 1024]`, for example");
    // Several at once.
    assert_eq!(problems(with(json!({ "batch": 0, "lr": -1.0, "tokens": 1 }))).len(), 3);
    let unknown = json!({ "sae": { "architecture": "topk", "kk": 4 }, "d_sae": 64, "steps": 1 });
    assert!(serde_json::from_value::<TrainConfig>(unknown).is_err());
}

#[test]
fn learning_rates_are_those_of_torchs_schedulers() {
    // LinearLR(1/4 → 1 over 4), constant, LinearLR(1 → 0 over 5) of a training of 20 steps, as SequentialLR steps them.
    let rate = LearningRate { lr: 1.0, cosine_end: None, warm_up_steps: 4, decay_steps: 5, steps: 20 };
    let expected = [(0, 0.25), (3, 1.0), (4, 1.0), (14, 1.0), (15, 1.0), (16, 0.8), (19, 0.2)];
    for (step, expected) in expected {
        assert!((rate.at(step) - expected).abs() < 1e-12, "{step}: {}", rate.at(step));
    }
    // CosineAnnealingLR(T_max 10, eta_min 0.1) after 5 steps of warm-up, then from 0.1 down.
    let rate = LearningRate { lr: 1.0, cosine_end: Some(0.1), warm_up_steps: 5, decay_steps: 5, steps: 20 };
    for (step, expected) in [(4, 1.0), (5, 1.0), (10, 0.55), (15, 0.1), (16, 0.08), (19, 0.02)] {
        assert!((rate.at(step) - expected).abs() < 1e-12, "{step}: {}", rate.at(step));
    }
    for warm in [
        json!({ "architecture": "relu", "l1": 2.0, "l1_warm_up_steps": 4 }),
        json!({ "architecture": "gated", "l1": 2.0, "l1_warm_up_steps": 4 }),
        json!({ "architecture": "jumprelu", "l0_coefficient": 2.0, "l0_warm_up_steps": 4 }),
    ] {
        let objective = config(&json!({ "sae": warm })).resolve().unwrap().objective;
        assert_eq!([0, 1, 4, 9].map(|step| objective.coefficient_at(step)), [0.0, 0.5, 2.0, 2.0]);
    }
}

#[test]
fn the_default_compute_dtype_is_left_out_of_keys_and_artifacts() {
    let of = |options: Value| {
        let config = config(&options);
        let written =
            [serde_json::to_value(&config).unwrap(), serde_json::to_value(config.resolve().unwrap()).unwrap()];
        written.map(|value| value.get("compute_dtype").cloned())
    };
    let topk = || json!({ "architecture": "topk", "k": 4 });
    assert_eq!(of(json!({ "sae": topk() })), [None, None]);
    assert_eq!(of(json!({ "sae": topk(), "compute_dtype": "f32" })), [None, None]);
    assert_eq!(of(json!({ "sae": topk(), "compute_dtype": "bf16" })), [Some(json!("bf16")), Some(json!("bf16"))]);
}
