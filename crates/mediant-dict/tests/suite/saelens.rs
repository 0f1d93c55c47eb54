//! What SAELens 6.54.12 computes: codes, reconstructions, losses, gradients, and its files.

use mediant_dict::format::saelens::{self, Metadata};
use mediant_dict::{Activation, Objective, Sae, Weights};

use crate::support::{assert_close, fixture, normal, run, tensors, transpose};

/// The issue's tolerance: per tensor, of its largest value.
const TOLERANCE: f32 = 1e-4;
const D_IN: usize = 24;
const D_SAE: usize = 96;

fn matches_the_reference(case: &str, objective: Objective, l1: f64) {
    let expected = tensors(&fixture(case).join("expected.safetensors"));
    let weights = Weights {
        d_in: D_IN,
        d_sae: D_SAE,
        w_enc: transpose(&expected["param.W_enc"], D_IN, D_SAE),
        b_enc: expected["param.b_enc"].clone(),
        w_dec: expected["param.W_dec"].clone(),
        b_dec: expected["param.b_dec"].clone(),
    };
    let x = &expected["x"];
    let dead: Vec<bool> = expected["dead"].iter().map(|&x| x != 0.0).collect();
    let (found, gradients, errors) = run(&weights, &objective, true, x, l1, &dead);

    let training_form = Sae::new(weights, objective.into(), true).unwrap();
    let codes = training_form.encode(x);
    assert_close("feature_acts", &codes.to_dense(D_SAE), &expected["train.feature_acts"], TOLERANCE);
    assert_close("decoded", &training_form.decode(&codes), &expected["train.sae_out"], TOLERANCE);
    let sae_out: Vec<f32> = errors.iter().zip(x).map(|(error, x)| error + x).collect();
    assert_close("sae_out", &sae_out, &expected["train.sae_out"], TOLERANCE);
    assert_eq!(found.active, codes.entries());

    let losses = found.losses;
    let named = [
        ("loss", losses.total()),
        ("losses.mse_loss", losses.mse),
        ("losses.l1_loss", losses.l1),
        ("losses.auxiliary_reconstruction_loss", losses.aux),
    ];
    for (name, loss) in named {
        let reference = expected.get(&format!("train.{name}")).map_or(0.0, |loss| loss[0]);
        assert_close(name, &[loss as f32], &[reference], 1e-5);
    }
    assert_close("grad W_enc", &transpose(&gradients.w_enc, D_SAE, D_IN), &expected["grad.W_enc"], TOLERANCE);
    assert_close("grad b_enc", &gradients.b_enc, &expected["grad.b_enc"], TOLERANCE);
    assert_close("grad W_dec", &gradients.w_dec, &expected["grad.W_dec"], TOLERANCE);
    assert_close("grad b_dec", &gradients.b_dec, &expected["grad.b_dec"], TOLERANCE);

    let (sae, _) = saelens::load(&fixture(case)).unwrap();
    let codes = sae.encode(x);
    assert_close("inference codes", &codes.to_dense(D_SAE), &expected["inference.feature_acts"], TOLERANCE);
    assert_close("inference", &sae.decode(&codes), &expected["inference.sae_out"], TOLERANCE);
}

#[test]
fn standard() {
    matches_the_reference("standard", Objective::Relu { l1: 0.7, l1_warm_up_steps: 0 }, 0.7);
}

#[test]
fn topk() {
    let objective = Objective::TopK { k: 7, rescale_acts_by_decoder_norm: true, aux_loss_coefficient: 0.5 };
    matches_the_reference("topk", objective, 0.0);
}

#[test]
fn topk_without_rescaling() {
    let objective = Objective::TopK { k: 7, rescale_acts_by_decoder_norm: false, aux_loss_coefficient: 1.0 };
    matches_the_reference("topk_no_rescale", objective, 0.0);
}

#[test]
fn folded_weights_are_those_that_saelens_saves() {
    let expected = tensors(&fixture("topk").join("expected.safetensors"));
    let saved = tensors(&fixture("topk").join("sae_weights.safetensors"));
    let mut weights = Weights {
        d_in: D_IN,
        d_sae: D_SAE,
        w_enc: transpose(&expected["param.W_enc"], D_IN, D_SAE),
        b_enc: expected["param.b_enc"].clone(),
        w_dec: expected["param.W_dec"].clone(),
        b_dec: expected["param.b_dec"].clone(),
    };
    weights.fold_decoder_norms();
    // One multiplication or division and the rounding of the norm.
    assert_close("W_enc", &transpose(&weights.w_enc, D_SAE, D_IN), &saved["W_enc"], 1e-6);
    assert_close("b_enc", &weights.b_enc, &saved["b_enc"], 1e-6);
    assert_close("W_dec", &weights.w_dec, &saved["W_dec"], 1e-6);
}

#[test]
fn a_folder_of_saelens_comes_back_as_it_was() {
    for case in ["standard", "topk", "topk_no_rescale"] {
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
        (r#""architecture": "topk""#, r#""architecture": "gated""#, "\"gated\" is not supported"),
        (r#""normalize_activations": "none""#, r#""normalize_activations": "layer_norm""#, "layer_norm"),
        (r#""reshape_activations": "none""#, r#""reshape_activations": "hook_z""#, "hook_z"),
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
    for activation in [Activation::Relu, Activation::TopK { k: 5, rescale_acts_by_decoder_norm: true }] {
        for d_sae in [9, 64, 65, 300] {
            let sae = Sae::new(Weights::init(16, d_sae, Some(0.7), 3), activation, true).unwrap();
            let x = normal(90 * 16, 1, 1.0);
            let whole = sae.encode(&x);
            let decoded = sae.decode(&whole);
            for (start, len) in [(0, 1), (7, 2), (20, 5), (25, 65)] {
                let part = sae.encode(&x[start * 16..][..len * 16]);
                assert!((0..len).all(|row| part.row(row) == whole.row(start + row)));
                assert_eq!(sae.decode(&part), decoded[start * 16..][..len * 16]);
            }
        }
    }
    let metadata = Metadata::default().with("hook_name", "blocks.0.hook_resid_post");
    assert_eq!(metadata.hook(), Some("blocks.0.hook_resid_post"));
}
