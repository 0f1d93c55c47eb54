//! What the trainers of dictionary_learning 0.1.0 do: losses, gradients, optimiser, constraints and thresholds, step by step.

use std::collections::BTreeMap;
use std::path::Path;

use mediant_dict::train::{CpuLearner, DeviceLearner, Learner, Now, Samples, not_on_devices};
use mediant_dict::{Extra, Training, Weights};
use mediant_tensor::Flex;
use serde_json::{Value, json};

use crate::gradients::distance;
use crate::support::{config, tensors, transpose};

const D_IN: usize = 12;
const D_SAE: usize = 48;
const BATCH: usize = 64;
const STEPS: usize = 6;

type Tensors = BTreeMap<String, Vec<f32>>;

/// What `make_trainings.py` wrote.
fn made(case: &str) -> Tensors {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dictionary_learning");
    tensors(&folder.join(format!("{case}.safetensors")))
}

/// The parameters before the first (`start`) or after the last step (`end`).
fn parameters(tensors: &Tensors, when: &str) -> Weights {
    let tensor = |name: &str| tensors.get(&format!("{when}.{name}")).cloned();
    let one_of = |names: &[&str]| names.iter().find_map(|name| tensor(name)).unwrap();
    let w_enc = match tensor("W_enc") {
        Some(matrix) => transpose(&matrix, D_IN, D_SAE),
        None => one_of(&["encoder.weight"]),
    };
    let w_dec = match tensor("W_dec") {
        Some(matrix) => matrix,
        None => transpose(&one_of(&["decoder.weight"]), D_IN, D_SAE),
    };
    let extra = match (tensor("mag_bias"), tensor("r_mag"), tensor("threshold")) {
        (Some(b_mag), Some(r_mag), _) => Extra::Gate { b_mag, r_mag },
        (_, _, Some(threshold)) if threshold.len() == D_SAE => Extra::Threshold(threshold),
        _ => Extra::None,
    };
    Weights {
        d_in: D_IN,
        d_out: D_IN,
        d_sae: D_SAE,
        w_enc,
        b_enc: one_of(&["b_enc", "encoder.bias", "gate_bias"]),
        w_dec,
        b_dec: one_of(&["b_dec", "bias", "decoder_bias"]),
        w_skip: None,
        extra,
    }
}

/// A few hundred roundings of f32, where Adam divides a gradient of a decoder by the root of its own square after most of it, what
/// lies along the rows, was removed.
const TOLERANCE: f64 = 5e-5;

/// A trainer of dictionary_learning, and the options here that do what it does.
struct Case {
    name: &'static str,
    sae: Value,
    adam_beta1: f64,
    max_grad_norm: Option<f64>,
    /// Its loss is the one here divided by this.
    scale: f64,
    /// How far off the way that the parameters went, of its length.
    tolerance: f64,
}

fn cases() -> Vec<Case> {
    let case =
        |name, sae| Case { name, sae, adam_beta1: 0.9, max_grad_norm: Some(1.0), scale: 1.0, tolerance: TOLERANCE };
    let largest = |family: &str, coefficient: f64| {
        json!({ "architecture": family, "k": 4, "rescale_acts_by_decoder_norm": false, "decoder_norm": "one_after_step",
            "aux_loss": "dictionary_learning", "aux_loss_coefficient": coefficient })
    };
    let with_threshold = |mut sae: Value| {
        sae["topk_threshold_lr"] = json!(0.1);
        sae["topk_threshold_start_step"] = json!(2);
        sae
    };
    // Three widths: the mean of what is weighted by a third already.
    let mut matryoshka = with_threshold(largest("matryoshka", 9.0 * 0.5));
    matryoshka["matryoshka_widths"] = json!([12, 24]);
    vec![
        Case {
            max_grad_norm: None,
            ..case("standard", json!({ "architecture": "relu", "l1": 0.3, "decoder_norm": "one_after_step" }))
        },
        case("april", json!({ "architecture": "relu", "l1": 0.3 })),
        Case {
            max_grad_norm: None,
            adam_beta1: 0.0,
            ..case(
                "gated",
                json!({ "architecture": "gated", "l1": 0.3, "gated_detach_decoder": true, "decoder_norm": "one_after_step" }),
            )
        },
        case("topk", largest("topk", 0.5)),
        case("batchtopk", with_threshold(largest("batchtopk", 0.5))),
        // Adam's epsilon is nine times what it is here, of gradients that are small.
        Case { max_grad_norm: Some(9.0), scale: 9.0, tolerance: 2e-3, ..case("matryoshka", matryoshka) },
        Case {
            adam_beta1: 0.0,
            ..case(
                "jumprelu",
                json!({ "architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "relative", "l0_coefficient": 2,
                    "target_l0": 6, "jumprelu_bandwidth": 0.1, "apply_b_dec_to_input": false,
                    "decoder_norm": "one_after_step" }),
            )
        },
    ]
}

fn training(case: &Case) -> Training {
    let options = json!({ "sae": case.sae, "d_sae": D_SAE, "batch": BATCH, "adam_beta1": case.adam_beta1,
        "max_grad_norm": case.max_grad_norm });
    config(&options).resolve().unwrap()
}

fn follows<L: Learner>(case: &Case, learner: impl Fn(&Training, Weights) -> L) {
    let (tensors, training) = (made(case.name), training(case));
    let mut learner = learner(&training, parameters(&tensors, "start"));
    let none = vec![0.0; STEPS * D_SAE];
    let dead = tensors.get("dead").unwrap_or(&none);
    let batches = tensors["x"].chunks_exact(BATCH * D_IN).zip(dead.chunks_exact(D_SAE));
    for ((x, dead), expected) in batches.zip(&tensors["losses"]) {
        let dead: Vec<bool> = dead.iter().map(|dead| *dead != 0.0).collect();
        let now = Now { lr: 1e-3, coefficient: training.objective.coefficient_at(u64::MAX), dead: &dead };
        let loss = learner.step(Samples::from(x), &now).losses.total() / case.scale;
        assert!((loss / f64::from(*expected) - 1.0).abs() < 1e-5, "{}: {loss} is not {expected}", case.name);
    }
    let (found, expected) = (learner.weights(), parameters(&tensors, "end"));
    let start = parameters(&tensors, "start");
    for (((name, _), a), (b, start)) in
        found.shapes().into_iter().zip(found.each()).zip(expected.each().into_iter().zip(start.each()))
    {
        // How far off the way that the steps went.
        let way = |x: &[f32]| x.iter().zip(start).map(|(x, start)| x - start).collect::<Vec<f32>>();
        let distance = distance(&way(a), &way(b));
        assert!(distance <= case.tolerance, "{}, {name}: {distance}", case.name);
    }
    let threshold = tensors.get("end.threshold").filter(|threshold| threshold.len() == 1);
    if let (Some(found), Some(expected)) = (learner.threshold(), threshold) {
        let expected = f64::from(expected[0]);
        assert!((found / expected - 1.0).abs() < 1e-6, "{}: {found} is not {expected}", case.name);
    }
}

#[test]
fn trainings_follow_those_of_dictionary_learning() {
    for case in cases() {
        follows(&case, CpuLearner::new);
    }
}

#[test]
fn so_do_those_of_devices() {
    for case in cases() {
        assert_eq!(not_on_devices(&training(&case)), None);
        follows(&case, |training, weights| DeviceLearner::<Flex>::new(training, weights, &Default::default()));
    }
}
