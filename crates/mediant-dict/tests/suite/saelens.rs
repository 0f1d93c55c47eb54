//! What SAELens 6.54.12 computes: codes, reconstructions, losses, gradients, and its files.

use std::collections::BTreeMap;

use mediant_dict::format::saelens::{self, Metadata};
use mediant_dict::{Activation, Extra, MatchingPursuit, Objective, Sae, Weights};
use serde_json::json;

use crate::support::{assert_close, config, fixture, normal, run, tensors, transpose};

/// The issue's tolerance: per tensor, of its largest value.
const TOLERANCE: f32 = 1e-4;
const D_IN: usize = 24;
const D_SAE: usize = 96;
const CASES: [&str; 13] = [
    "standard",
    "gated",
    "topk",
    "topk_no_rescale",
    "batchtopk",
    "matryoshka_batchtopk",
    "matryoshka_aux",
    "jumprelu",
    "jumprelu_tanh",
    "matching_pursuit",
    "matching_pursuit_rounds",
    "topk_layer_norm",
    "standard_constant_norm_rescale",
];

/// The parameters in training.
fn parameters(expected: &BTreeMap<String, Vec<f32>>, objective: &Objective) -> Weights {
    let param = |name: &str| expected[&format!("param.{name}")].clone();
    let gated = matches!(objective, Objective::Gated { .. });
    let tied = matches!(objective, Objective::MatchingPursuit(_));
    Weights {
        d_in: D_IN,
        d_out: D_IN,
        d_sae: D_SAE,
        w_enc: if tied { Vec::new() } else { transpose(&param("W_enc"), D_IN, D_SAE) },
        b_enc: if tied { Vec::new() } else { param(if gated { "b_gate" } else { "b_enc" }) },
        w_dec: param("W_dec"),
        b_dec: param("b_dec"),
        w_skip: None,
        extra: match objective {
            Objective::Gated { .. } => Extra::Gate { b_mag: param("b_mag"), r_mag: param("r_mag") },
            Objective::JumpRelu(_) => Extra::Threshold(param("threshold")),
            Objective::MatchingPursuit(_) => Extra::Tied,
            _ => Extra::None,
        },
    }
}

/// The autoencoder as it is while it trains. Of the families that choose over a batch, one that makes the same choice in
/// this batch: decoder norms folded in, and a threshold just below the smallest chosen activation.
fn training_form(mut weights: Weights, objective: &Objective, least: Option<f32>) -> Sae {
    if let Some(least) = least {
        weights.fold_decoder_norms();
        weights.extra = Extra::Threshold(vec![least * (1.0 - 1e-5); D_SAE]);
    }
    Sae::new(weights, objective.activation(), true).unwrap()
}

fn matches_the_reference(case: &str, sae: serde_json::Value) {
    let objective = config(&json!({ "sae": sae, "d_sae": D_SAE })).resolve().unwrap().objective;
    let expected = tensors(&fixture(case).join("expected.safetensors"));
    let weights = parameters(&expected, &objective);
    let x = &expected["x"];
    let dead: Vec<bool> = expected["dead"].iter().map(|&x| x != 0.0).collect();
    let (found, gradients, errors) = run(&weights, &objective, true, x, &dead);

    let training_form = training_form(weights, &objective, found.least);
    let codes = training_form.encode(x);
    assert_close("feature_acts", &codes.to_dense(D_SAE), &expected["train.feature_acts"], TOLERANCE);
    assert_close("decoded", &training_form.decode(&codes, x), &expected["train.sae_out"], TOLERANCE);
    let sae_out: Vec<f32> = errors.iter().zip(x).map(|(error, x)| error + x).collect();
    assert_close("sae_out", &sae_out, &expected["train.sae_out"], TOLERANCE);
    assert_eq!(found.active, codes.entries());
    let fired = |latent: usize| (0..x.len() / D_IN).any(|row| codes.row(row).0.contains(&(latent as u32)));
    assert!((0..D_SAE).all(|latent| found.fired[latent] == fired(latent)));

    let mut losses = vec![("mse_loss".to_owned(), found.losses.mse)];
    losses.extend(objective.other_losses().into_iter().zip(found.losses.others.iter().copied()));
    assert_close("loss", &[found.losses.total() as f32], &expected["train.loss"], 1e-5);
    for (name, loss) in &losses {
        assert_close(name, &[*loss as f32], &expected[&format!("train.losses.{name}")], 1e-5);
    }
    assert_eq!(losses.len(), expected.keys().filter(|name| name.starts_with("train.losses.")).count());

    let shapes = gradients.shapes();
    assert_eq!(shapes.len(), expected.keys().filter(|name| name.starts_with("grad.")).count());
    for ((name, _), gradient) in shapes.into_iter().zip(gradients.each()) {
        match name {
            "W_enc_T" => {
                assert_close(name, &transpose(gradient, D_SAE, D_IN), &expected["grad.W_enc"], TOLERANCE);
            }
            _ => assert_close(name, gradient, &expected[&format!("grad.{name}")], TOLERANCE),
        }
    }

    let (sae, _) = saelens::load(&fixture(case)).unwrap();
    let codes = sae.encode(x);
    assert_close("inference codes", &codes.to_dense(D_SAE), &expected["inference.feature_acts"], TOLERANCE);
    assert_close("inference", &sae.decode(&codes, x), &expected["inference.sae_out"], TOLERANCE);
}

/// Written by `fixtures/saelens/make_normalised.py`.
#[test]
fn vectors_are_normalised_one_by_one() {
    for case in ["topk_layer_norm", "standard_constant_norm_rescale"] {
        let (sae, _) = saelens::load(&fixture(case)).unwrap();
        let expected = tensors(&fixture(case).join("expected.safetensors"));
        let codes = sae.encode(&expected["x"]);
        assert_close(case, &codes.to_dense(D_SAE), &expected["inference.feature_acts"], TOLERANCE);
        assert_close(case, &sae.decode(&codes, &expected["x"]), &expected["inference.sae_out"], TOLERANCE);
    }
}

#[test]
fn standard() {
    matches_the_reference("standard", json!({ "architecture": "relu", "l1": 0.7 }));
}

#[test]
fn gated() {
    matches_the_reference("gated", json!({ "architecture": "gated", "l1": 0.4 }));
}

#[test]
fn topk() {
    matches_the_reference("topk", json!({ "architecture": "topk", "k": 7, "aux_loss_coefficient": 0.5 }));
}

#[test]
fn topk_without_rescaling() {
    let sae = json!({ "architecture": "topk", "k": 7, "rescale_acts_by_decoder_norm": false });
    matches_the_reference("topk_no_rescale", sae);
}

#[test]
fn batchtopk() {
    matches_the_reference("batchtopk", json!({ "architecture": "batchtopk", "k": 6.5 }));
}

#[test]
fn matryoshka() {
    let sae = json!({ "architecture": "matryoshka", "k": 6, "matryoshka_widths": [16, 48, 96] });
    matches_the_reference("matryoshka_batchtopk", sae);
    let sae = json!({ "architecture": "matryoshka", "k": 6, "matryoshka_widths": [16, 48, 96],
        "use_matryoshka_aux_loss": true });
    matches_the_reference("matryoshka_aux", sae);
}

#[test]
fn jumprelu() {
    let sae = json!({ "architecture": "jumprelu", "l0_coefficient": 0.3, "jumprelu_init_threshold": 0.08 });
    matches_the_reference("jumprelu", sae);
}

#[test]
fn jumprelu_with_tanh_and_the_pre_activation_loss() {
    let sae = json!({ "architecture": "jumprelu", "l0_coefficient": 0.3, "jumprelu_sparsity_loss_mode": "tanh",
        "pre_act_loss_coefficient": 3e-3 });
    matches_the_reference("jumprelu_tanh", sae);
}

#[test]
fn matching_pursuit() {
    matches_the_reference("matching_pursuit", json!({ "architecture": "matching_pursuit" }));
    let sae = json!({ "architecture": "matching_pursuit", "residual_threshold": 2.0, "max_iterations": 9,
        "stop_on_duplicate_support": false });
    matches_the_reference("matching_pursuit_rounds", sae);
}

#[test]
fn folded_weights_are_those_that_saelens_saves() {
    for (case, sae) in [
        ("topk", json!({ "architecture": "topk", "k": 7 })),
        ("batchtopk", json!({ "architecture": "batchtopk", "k": 6.5 })),
    ] {
        let objective = config(&json!({ "sae": sae, "d_sae": D_SAE })).resolve().unwrap().objective;
        let saved = tensors(&fixture(case).join("sae_weights.safetensors"));
        let expected = tensors(&fixture(case).join("expected.safetensors"));
        let mut weights = parameters(&expected, &objective);
        if let Some(choice) = objective.batch_choice() {
            // The reference has seen one batch, and its threshold began at 0.
            let (found, ..) = run(&weights, &objective, true, &expected["x"], &[false; D_SAE]);
            let threshold = choice.threshold_lr as f32 * found.least.unwrap();
            assert_close("threshold", &[threshold; D_SAE], &saved["threshold"], 1e-6);
        }
        weights.fold_decoder_norms();
        // One multiplication or division and the rounding of the norm.
        assert_close("W_enc", &transpose(&weights.w_enc, D_SAE, D_IN), &saved["W_enc"], 1e-6);
        assert_close("b_enc", &weights.b_enc, &saved["b_enc"], 1e-6);
        assert_close("W_dec", &weights.w_dec, &saved["W_dec"], 1e-6);
    }
}

/// A function of gated and of jumprelu weights stays the same when decoder norms are folded in.
#[test]
fn folding_keeps_what_the_autoencoder_computes() {
    for case in ["gated", "jumprelu"] {
        let (sae, _) = saelens::load(&fixture(case)).unwrap();
        let x = normal(50 * D_IN, 3, 1.0);
        let mut folded = sae.weights().clone();
        folded.fold_decoder_norms();
        assert_close("norms", &folded.decoder_norms(), &[1.0; D_SAE], 1e-6);
        let folded = Sae::new(folded, sae.activation(), true).unwrap();
        let (before, after) = (sae.encode(&x), folded.encode(&x));
        assert!(before.entries() > 100);
        assert_close(case, &folded.decode(&after, &x), &sae.decode(&before, &x), 1e-5);
    }
}

#[test]
fn a_folder_of_saelens_comes_back_as_it_was() {
    for case in CASES {
        let (sae, metadata) = saelens::load(&fixture(case)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        saelens::save(&sae, &metadata, dir.path()).unwrap();
        let json = |path: std::path::PathBuf| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        assert_eq!(json(dir.path().join("cfg.json")), json(fixture(case).join("cfg.json")));
        let file = "sae_weights.safetensors";
        assert_eq!(
            std::fs::read(dir.path().join(file)).unwrap(),
            std::fs::read(fixture(case).join(file)).unwrap(),
            "{case}"
        );
        assert_eq!(saelens::load(dir.path()).unwrap(), (sae, metadata));
    }
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let weights = fixture("topk").join("sae_weights.safetensors");
    std::fs::copy(&weights, dir.path().join("sae_weights.safetensors")).unwrap();
    let good = std::fs::read_to_string(fixture("topk").join("cfg.json")).unwrap();
    let message = |config: &str| {
        std::fs::write(dir.path().join("cfg.json"), config).unwrap();
        saelens::load(dir.path()).unwrap_err().to_string()
    };
    for (from, to, expected) in [
        (r#""architecture": "topk""#, r#""architecture": "temporal""#, "\"temporal\" is not supported"),
        (r#""architecture": "topk""#, r#""architecture": "jumprelu""#, "threshold"),
        (r#""architecture": "topk""#, r#""architecture": "gated""#, "b_enc"),
        (r#""normalize_activations": "none""#, r#""normalize_activations": "covariance_whitening""#, "`layer_norm`"),
        (r#""reshape_activations": "none""#, r#""reshape_activations": "other""#, "other"),
        (r#""sae_lens_version": "6"#, r#""sae_lens_version": "5"#, "before SAELens 6"),
        (r#""d_in": 24"#, r#""d_in": 25"#, "shape"),
        (r#""d_sae": 96"#, r#""d_sae": -1"#, "`d_sae`"),
        (r#""k": 7"#, r#""k": 97"#, "97 active latents of 96"),
        ("{", "", "cfg.json"),
    ] {
        assert!(good.contains(from));
        let found = message(&good.replacen(from, to, 1));
        assert!(found.contains(expected), "{found}");
    }
    // Any cut of the weights is an error, not a panic.
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(dir.path().join("cfg.json"), &good).unwrap();
    for len in (0..bytes.len()).step_by(97) {
        std::fs::write(dir.path().join("sae_weights.safetensors"), &bytes[..len]).unwrap();
        assert!(saelens::load(dir.path()).is_err());
    }
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    let families = [
        (Activation::Relu, json!({ "architecture": "relu" })),
        (Activation::Gated, json!({ "architecture": "gated" })),
        (Activation::JumpRelu, json!({ "architecture": "jumprelu", "jumprelu_init_threshold": 0.3 })),
        (Activation::TopK { k: 5, rescale_acts_by_decoder_norm: true }, json!({ "architecture": "topk", "k": 5 })),
        (Activation::TopAfa, json!({ "architecture": "top_afa" })),
        (
            Activation::MatchingPursuit(MatchingPursuit {
                residual_threshold: 0.01,
                max_iterations: None,
                stop_on_duplicate_support: true,
            }),
            json!({ "architecture": "matching_pursuit" }),
        ),
    ];
    for (activation, sae) in families {
        let objective = config(&json!({ "sae": sae })).resolve().unwrap().objective;
        assert_eq!(objective.activation(), activation);
        for d_sae in [9, 64, 65, 300] {
            let mut weights = Weights::init(16, d_sae, Some(0.7), 3);
            objective.extend(&mut weights);
            let sae = Sae::new(weights, activation, true).unwrap();
            let x = normal(90 * 16, 1, 1.0);
            let whole = sae.encode(&x);
            let decoded = sae.decode(&whole, &x);
            for (start, len) in [(0, 1), (7, 2), (20, 5), (25, 65)] {
                let rows = &x[start * 16..][..len * 16];
                let part = sae.encode(rows);
                assert!((0..len).all(|row| part.row(row) == whole.row(start + row)));
                assert_eq!(sae.decode(&part, rows), decoded[start * 16..][..len * 16]);
            }
        }
    }
    let metadata = Metadata::default().with("hook_name", "blocks.0.hook_resid_post");
    assert_eq!(metadata.hook(), Some("blocks.0.hook_resid_post"));
}
