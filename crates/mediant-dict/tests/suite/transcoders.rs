//! Trainings whose target is not what they read, and trainings that begin from a dictionary.

use std::path::Path;

use mediant_artifact::{Artifact, ArtifactWriter, Digest, Kind};
use mediant_dict::artifact::{Origin, export, read, write};
use mediant_dict::format::Format;
use mediant_dict::train::{Activations, CpuLearner, Estimates, Places, Trained, Trainer};
use mediant_dict::{Activation, Extra, Sae, TrainConfig, Weights};
use serde_json::{Value, json};

use crate::support::{Two, assert_close, config, start, steps, synthetic, synthetic_pair, tensors, train, transpose};

const PLACES: Places = Places { read: 0, written: 1 };

fn families() -> [Value; 5] {
    [
        json!({ "sae": { "architecture": "relu", "l1": 0.02, "skip": true } }),
        json!({ "sae": { "architecture": "topk", "k": 6, "b_dec_init": "mean" } }),
        json!({ "sae": { "architecture": "batchtopk", "k": 6, "topk_threshold_lr": 0.05 } }),
        json!({ "sae": { "architecture": "matryoshka", "k": 6, "matryoshka_widths": [24], "skip": true } }),
        json!({ "sae": { "architecture": "jumprelu", "l0_coefficient": 0.002, "skip": true } }),
    ]
}

fn transcoder(own: &Value, more: &Value) -> TrainConfig {
    let mut own = own.clone();
    own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    own["hook_out"] = json!("out");
    config(&own)
}

fn begin(config: &TrainConfig, data: &Two) -> Trainer<CpuLearner> {
    Trainer::start(config.resolve().unwrap(), PLACES, &mut Estimates::new(data), CpuLearner::new).unwrap()
}

fn finish(mut trainer: Trainer<CpuLearner>, data: &dyn Activations) -> Trained {
    let all = trainer.training().steps;
    steps(&mut trainer, data, all).unwrap();
    trainer.finish().unwrap()
}

fn curve(trained: &Trained, name: &str) -> Vec<f64> {
    trained.curve.iter().filter(|row| row.name == name).map(|row| row.value).collect()
}

/// All vectors of a hook point.
fn all(data: &Two, hook: usize) -> Vec<f32> {
    let rows: Vec<u64> = (0..*data.offsets().last().unwrap()).collect();
    let mut out = vec![0.0; rows.len() * data.widths()[hook]];
    data.fill(hook, &rows, &mut out).unwrap();
    out
}

#[test]
fn transcoders_learn_what_the_other_hook_point_holds() {
    let data = synthetic_pair(4000, [32, 20], 48, 20);
    for own in families() {
        let options = json!({ "steps": 800, "batch": 128, "lr": 3e-3, "dead_feature_window": 50 });
        let trained = finish(begin(&transcoder(&own, &options), &data), &data);
        let explained = *curve(&trained, "ev_trainer").last().unwrap();
        assert!(explained > 0.7, "{own}: {explained}");
        assert!(curve(&trained, "ev_trainer")[0] < 0.3, "{own}");
        let weights = trained.sae.weights();
        assert_eq!((weights.d_in, weights.d_out, trained.sae.apply_b_dec_to_input()), (32, 20, false));
        // The finished weights make of the input what the last steps made of it.
        let (x, y) = (all(&data, 0), all(&data, 1));
        let out = trained.sae.reconstruct(&x);
        let mut sums = mediant_dict::evaluate::Sums::default();
        let mean: Vec<f64> =
            (0..20).map(|j| y.iter().skip(j).step_by(20).map(|y| f64::from(*y)).sum::<f64>() / 4000.0).collect();
        y.chunks_exact(20).zip(out.chunks_exact(20)).for_each(|(y, r)| sums.add(y, r, &[], &mean));
        assert!(sums.mse() < 1.5 * curve(&trained, "mse_loss").last().unwrap(), "{own}: {}", sums.mse());
        // A row is what it is alone, to the bit.
        let alone = trained.sae.reconstruct(&x[32 * 5..32 * 6]);
        assert_eq!(alone, out[20 * 5..20 * 6], "{own}");
        // The skip connection is learnt, and takes part.
        if let Some(w_skip) = &weights.w_skip {
            assert!(w_skip.iter().any(|w| w.abs() > 0.01), "{own}");
            assert_ne!(trained.sae.decode(&trained.sae.encode(&x)), out);
        }
    }
}

#[test]
fn transcoders_resume_to_the_bit_on_any_number_of_threads() {
    let data = synthetic_pair(333, [16, 21], 24, 10);
    for own in families() {
        let config = transcoder(&own, &json!({ "dead_feature_window": 5 }));
        let whole = finish(begin(&config, &data), &data);
        let dir = tempfile::tempdir().unwrap();
        let mut trainer = begin(&config, &data);
        steps(&mut trainer, &data, 7).unwrap();
        trainer.save(dir.path()).unwrap();
        let resumed = Trainer::resume(config.resolve().unwrap(), PLACES, &data, dir.path(), CpuLearner::new).unwrap();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let resumed = one.install(|| finish(resumed, &data));
        assert_eq!(resumed.sae, whole.sae, "{own}");
        assert_eq!(resumed.curve, whole.curve, "{own}");
    }
}

#[test]
fn options_that_do_not_fit_a_transcoder_are_refused() {
    let paths = |own: Value| -> Vec<&'static str> {
        config(&own).resolve().err().unwrap_or_default().into_iter().map(|wrong| wrong.path).collect()
    };
    let of = |more: Value| {
        let mut own = json!({ "hook": "in", "hook_out": "out", "sae": { "architecture": "relu" } });
        own["sae"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        own
    };
    assert!(paths(of(json!({}))).is_empty());
    assert_eq!(paths(of(json!({ "architecture": "gated" }))), ["sae.architecture"]);
    assert_eq!(paths(of(json!({ "apply_b_dec_to_input": true }))), ["sae.apply_b_dec_to_input"]);
    let normalised = json!({ "normalize_activations": "expected_average_only_in" });
    assert_eq!(paths(of(normalised)), ["sae.normalize_activations"]);
    assert_eq!(paths(json!({ "hook": "a", "hook_out": "a", "sae": { "architecture": "relu" } })), ["hook_out"]);
    assert_eq!(paths(json!({ "sae": { "architecture": "relu", "skip": true } })), ["sae.skip"]);
}

fn from(sae: &Sae, config: &TrainConfig, data: &dyn Activations) -> mediant_dict::Result<Trainer<CpuLearner>> {
    let mut estimates = Estimates::new(data);
    Trainer::start_from(sae, config.resolve().unwrap(), 0, &mut estimates, CpuLearner::new)
}

#[test]
fn a_training_begins_with_the_parameters_of_a_dictionary() {
    let data = synthetic(1000, 32, 48, 20);
    let own = [
        json!({ "architecture": "relu", "l1": 0.05, "normalize_activations": "expected_average_only_in" }),
        json!({ "architecture": "gated", "l1": 0.05 }),
        json!({ "architecture": "topk", "k": 4 }),
        json!({ "architecture": "batchtopk", "k": 4, "topk_threshold_lr": 0.1 }),
        json!({ "architecture": "jumprelu", "l0_coefficient": 0.02 }),
    ];
    for sae in own {
        let config = config(&json!({ "sae": sae, "steps": 200, "batch": 128, "lr": 3e-3, "log_every": 1 }));
        let first = train(&config, &data);
        // Before any step it is what it began from; the running threshold alone begins anew.
        let untouched = from(&first.sae, &config, &data).unwrap().finish().unwrap();
        let (a, b) = (first.sae.weights(), untouched.sae.weights());
        for (((name, _), a), b) in a.shapes().into_iter().zip(a.each()).zip(b.each()) {
            if sae["architecture"] != "batchtopk" || name != "threshold" {
                assert_close(name, b, a, 1e-5);
            }
        }
        let second = finish(from(&first.sae, &config, &data).unwrap(), &data);
        let (cold, warm) = (curve(&first, "mse_loss"), curve(&second, "mse_loss"));
        assert!(warm[0] < 0.8 * cold[0], "{sae}: {} after {}", warm[0], cold[0]);
    }
}

#[test]
fn a_dictionary_that_does_not_fit_begins_nothing() {
    let data = synthetic(400, 32, 48, 20);
    let relu = config(&json!({ "sae": { "architecture": "relu" }, "steps": 2 }));
    let sae = train(&relu, &data).sae;
    let why = |own: Value| match from(&sae, &config(&own), &data) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(why(json!({ "sae": { "architecture": "relu" } })), "");
    assert!(why(json!({ "sae": { "architecture": "topk", "k": 4 } })).contains("relu"));
    assert!(why(json!({ "sae": { "architecture": "relu" }, "d_sae": 65 })).contains("64"));
    let plain = json!({ "sae": { "architecture": "relu", "apply_b_dec_to_input": false } });
    assert!(why(plain).contains("b_dec"));
    assert!(!start(&relu, &data).is_done());
}

/// The numbers of SAELens' own transcoders (`fixtures/transcoders/make.py`).
#[test]
fn transcoders_compute_what_saelens_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcoders");
    for (name, activation) in [
        ("transcoder", Activation::Relu),
        ("skip_transcoder", Activation::Relu),
        ("jumprelu_skip_transcoder", Activation::JumpRelu),
    ] {
        let file = tensors(&folder.join(format!("{name}.safetensors")));
        let (d_in, d_out, d_sae) = (6, 5, 16);
        let weights = Weights {
            d_in,
            d_out,
            d_sae,
            w_enc: transpose(&file["W_enc"], d_in, d_sae),
            b_enc: file["b_enc"].clone(),
            w_dec: file["W_dec"].clone(),
            b_dec: file["b_dec"].clone(),
            w_skip: file.get("W_skip").cloned(),
            extra: file.get("threshold").map_or(Extra::None, |threshold| Extra::Threshold(threshold.clone())),
        };
        assert_eq!(weights.w_skip.is_some(), name.contains("skip"));
        let sae = Sae::new(weights.clone(), activation, false).unwrap();
        assert_close(name, &sae.encode(&file["x"]).to_dense(d_sae), &file["codes"], 1e-6);
        assert_close(name, &sae.reconstruct(&file["x"]), &file["y"], 1e-6);
        assert!(Sae::new(weights, activation, true).is_err());
    }
}

#[test]
fn an_artifact_holds_a_transcoder_to_the_bit() {
    let data = synthetic_pair(400, [16, 21], 24, 10);
    for own in families() {
        let config = transcoder(&own, &json!({}));
        let trained = finish(begin(&config, &data), &data);
        let origin = Origin {
            hook: "blocks.0.hook_mlp_in".to_owned(),
            hook_out: Some("blocks.0.hook_mlp_out".to_owned()),
            model: Digest::of(b"model"),
            context: 10,
            prepend_bos: true,
        };
        let dir = tempfile::tempdir().unwrap();
        let writer = ArtifactWriter::create(dir.path(), Kind::Dictionary).unwrap();
        write(writer, &trained, &config.resolve().unwrap(), &origin).unwrap();
        let artifact = Artifact::open(dir.path()).unwrap();
        let (sae, meta) = read(&artifact).unwrap();
        assert_eq!(sae, trained.sae, "{own}");
        assert_eq!((meta.hook_out, meta.d_in, meta.d_out), (origin.hook_out, 16, Some(21)));
        // No format is written that has no place for it.
        let out = tempfile::tempdir().unwrap();
        assert!(export(&artifact, Format::Saelens, false, out.path()).unwrap_err().to_string().contains("transcoder"));
    }
}
