//! Trainings whose target is not what they read, and trainings that begin from a dictionary.

use std::path::{Path, PathBuf};

use mediant_artifact::{Artifact, ArtifactWriter, Digest, Kind};
use mediant_dict::artifact::{Origin, export, read, write};
use mediant_dict::format::{Foreign, Format, Writes, saelens};
use mediant_dict::train::{Activations, CpuLearner, Estimates, Places, Trained, Trainer};
use mediant_dict::{Sae, TrainConfig};
use serde_json::{Value, json};

use crate::support::{Two, assert_close, config, start, steps, synthetic, synthetic_pair, tensors, train};

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
            assert_ne!(trained.sae.decode(&trained.sae.encode(&x), &x), out);
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
    for scaled in ["expected_average_only_in", "root_mean_square_norm"] {
        assert!(paths(of(json!({ "normalize_activations": scaled }))).is_empty());
    }
    for normalised in ["layer_norm", "constant_norm_rescale"] {
        assert_eq!(paths(of(json!({ "normalize_activations": normalised }))), ["sae.normalize_activations"]);
    }
    assert_eq!(paths(json!({ "hook": "a", "hook_out": "a", "sae": { "architecture": "relu" } })), ["hook_out"]);
    assert_eq!(paths(json!({ "sae": { "architecture": "relu", "skip": true } })), ["sae.skip"]);
}

/// Scales that are powers of two change no bit of a training on activations that are normalised.
#[test]
fn input_and_output_have_scales_of_their_own() {
    let normalised = "expected_average_only_in";
    for own in [
        json!({ "sae": { "architecture": "relu", "l1": 0.02, "skip": true, "normalize_activations": normalised } }),
        json!({ "sae": { "architecture": "batchtopk", "k": 6, "topk_threshold_lr": 0.05, "b_dec_init": "mean",
            "normalize_activations": normalised } }),
    ] {
        let config = transcoder(&own, &json!({ "steps": 200, "batch": 128, "lr": 3e-3, "norm_estimate_batches": 3 }));
        let train = |factors| {
            let data = synthetic_pair(1000, [32, 20], 48, 20).times(factors);
            (finish(begin(&config, &data), &data), all(&data, 0))
        };
        let ((plain, x), (other, stretched)) = (train([1.0, 1.0]), train([4.0, 0.0625]));
        assert_eq!(other.curve, plain.curve, "{own}");
        let scales = |of: &Trained| (of.facts.activation_scale, of.facts.target_scale.unwrap());
        assert_eq!(scales(&other), (scales(&plain).0 / 4.0, scales(&plain).1 * 16.0));
        let codes = plain.sae.encode(&x);
        // Where decoder norms are folded in, codes have the unit of the output.
        let unit = if own["sae"]["architecture"] == "batchtopk" { 0.0625 } else { 1.0 };
        assert!(other.sae.encode(&stretched) == codes.mapped(|_, code| code * unit), "{own}");
        let sixteenth: Vec<f32> = plain.sae.reconstruct(&x).iter().map(|y| y / 16.0).collect();
        assert_eq!(other.sae.reconstruct(&stretched), sixteenth);
        // What is folded in makes of activations as they are what the last step made of scaled ones.
        let l0 = codes.entries() as f64 / 1000.0;
        let last = *curve(&plain, "l0").last().unwrap();
        assert!((l0 - last).abs() < (0.07 * last).max(1.0), "{own}: {l0}, {last}");
        let y = all(&synthetic_pair(1000, [32, 20], 48, 20), 1);
        let errors = plain.sae.reconstruct(&x).iter().zip(&y).map(|(r, y)| f64::from(r - y).powi(2)).sum::<f64>();
        let mse = errors / 1000.0 * f64::from(scales(&plain).1).powi(2);
        assert!(mse < 1.5 * curve(&plain, "mse_loss").last().unwrap(), "{own}: {mse}");
        // A training that goes on from it begins where it ended.
        let data = synthetic_pair(1000, [32, 20], 48, 20);
        let again = Trainer::start_from(
            &plain.sae,
            config.resolve().unwrap(),
            PLACES,
            &mut Estimates::new(&data),
            CpuLearner::new,
        );
        let again = again.unwrap().finish().unwrap();
        for (((name, _), a), b) in
            plain.sae.weights().shapes().into_iter().zip(again.sae.weights().each()).zip(plain.sae.weights().each())
        {
            if name != "threshold" {
                assert_close(name, a, b, 1e-5);
            }
        }
    }
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

/// What `fixtures/transcoders/make.py` and `make_sparsify.py` wrote.
fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcoders").join(name)
}

const OF_SAELENS: [&str; 4] = ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"];
const OF_SPARSIFY: [&str; 2] = ["sparsify_transcoder", "sparsify_skip_transcoder"];

#[test]
fn files_of_other_tools_give_what_the_tools_compute() {
    for name in OF_SAELENS.into_iter().chain(OF_SPARSIFY) {
        let foreign = Foreign::open(&made(name), None).unwrap();
        let (format, hooks) = match OF_SAELENS.contains(&name) {
            true => (Format::Saelens, Some(["blocks.1.hook_mlp_in", "blocks.1.hook_mlp_out"].map(str::to_owned))),
            false => (Format::Sparsify, None),
        };
        assert_eq!((foreign.format, foreign.skips()), (format, name.contains("skip")), "{name}");
        let [hook, out] = hooks.map_or([None, None], |hooks| hooks.map(Some));
        assert_eq!((&foreign.hook, &foreign.writes), (&hook, &Writes::Another(out)), "{name}");
        let sae = foreign.load().unwrap();
        let expected = tensors(&made(name).join("expected.safetensors"));
        let codes = sae.encode(&expected["x"]);
        assert!(codes.entries() > 20, "{name}");
        assert_close(name, &codes.to_dense(foreign.d_sae), &expected["feature_acts"], 1e-6);
        assert_close(name, &sae.reconstruct(&expected["x"]), &expected["sae_out"], 1e-6);
        // The skip connection is part of it.
        let alone = sae.decode(&codes, &expected["x"]);
        assert_eq!(alone == sae.reconstruct(&expected["x"]), !foreign.skips());
    }
}

#[test]
fn files_of_saelens_come_back_as_they_were() {
    for name in OF_SAELENS {
        let (sae, metadata) = saelens::load(&made(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        saelens::save(&sae, &metadata, dir.path()).unwrap();
        let json = |folder: &Path| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join("cfg.json")).unwrap()).unwrap()
        };
        assert_eq!(json(dir.path()), json(&made(name)));
        let weights = |folder: &Path| std::fs::read(folder.join("sae_weights.safetensors")).unwrap();
        assert_eq!(weights(dir.path()), weights(&made(name)), "{name}");
    }
}

#[test]
fn files_that_are_of_no_transcoder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, from, to, expected) in [
        ("transcoder", r#""apply_b_dec_to_input": false"#, r#""apply_b_dec_to_input": true"#, "as it is of every"),
        ("transcoder", r#""d_out": 5"#, r#""d_out": 6"#, "has shape [16, 5], not [16, 6]"),
        (
            "transcoder",
            r#""architecture": "transcoder""#,
            r#""architecture": "skip_transcoder""#,
            "`W_skip` is missing",
        ),
        ("skip_transcoder", r#""architecture": "skip_transcoder""#, r#""architecture": "transcoder""#, "no place"),
        ("transcoder", r#""metadata": {"#, r#""metadata": {"hook_head_index_out": 3, "#, "writes head 3"),
        ("sparsify_transcoder", r#""skip_connection": false"#, r#""skip_connection": true"#, "`W_skip` is missing"),
        ("sparsify_skip_transcoder", r#""transcode": true"#, r#""transcode": false"#, "skip an autoencoder"),
    ] {
        for entry in std::fs::read_dir(made(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let format = if name.starts_with("sparsify") { Format::Sparsify } else { Format::Saelens };
        assert!(Foreign::open(dir.path(), Some(format)).is_ok());
        let config = dir.path().join("cfg.json");
        let good = std::fs::read_to_string(&config).unwrap();
        assert!(good.contains(from), "{from}");
        std::fs::write(&config, good.replacen(from, to, 1)).unwrap();
        let error = Foreign::open(dir.path(), Some(format)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
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
        let out = tempfile::tempdir().unwrap();
        let exported = export(&artifact, Format::Saelens, false, out.path());
        if sae.activation().architecture() == "topk" {
            assert!(exported.unwrap_err().to_string().contains("no place for topk transcoders of vectors of 16"));
        } else {
            exported.unwrap();
            let (back, metadata) = saelens::load(out.path()).unwrap();
            assert_eq!(back, sae, "{own}");
            let hooks = (metadata.hook(), metadata.hook_out());
            assert_eq!(hooks, (Some("blocks.0.hook_mlp_in"), Some("blocks.0.hook_mlp_out")));
        }
    }
}

/// Written by us, read by us: what the transcoder computes stays.
#[test]
fn every_format_holds_the_transcoders_that_it_has_a_place_for() {
    let data = synthetic_pair(400, [16, 16], 24, 10);
    let x = all(&data, 0);
    for (own, format, holds) in [
        (json!({ "architecture": "topk", "k": 6, "skip": true }), Format::Sparsify, true),
        (json!({ "architecture": "topk", "k": 6 }), Format::Sparsify, true),
        (json!({ "architecture": "relu", "l1": 0.02 }), Format::Sparsify, false),
        (json!({ "architecture": "jumprelu" }), Format::GemmaScope, true),
        (json!({ "architecture": "relu", "skip": true }), Format::GemmaScope, false),
        (json!({ "architecture": "topk", "k": 6 }), Format::DictionaryLearning, false),
    ] {
        let config = transcoder(&json!({ "sae": own }), &json!({}));
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
        let out = tempfile::tempdir().unwrap();
        let exported = export(&Artifact::open(dir.path()).unwrap(), format, false, out.path());
        assert_eq!(exported.is_ok(), holds, "{own}");
        if holds {
            let foreign = Foreign::open(out.path(), None).unwrap();
            assert_eq!(foreign.format, format);
            assert_ne!(foreign.writes, Writes::WhatItReads);
            let back = foreign.load().unwrap();
            assert_close("output", &back.reconstruct(&x), &trained.sae.reconstruct(&x), 1e-5);
        }
    }
}
