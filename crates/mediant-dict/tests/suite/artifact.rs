//! Dictionaries as artifacts, training from cached activations, export to SAELens.

use mediant_artifact::{
    ActivationsMeta, ActivationsWriter, Artifact, ArtifactWriter, DType, DictionaryReader, Digest, HookFact, Kind,
    Processing,
};
use mediant_dict::artifact::{Origin, export, read, write};
use mediant_dict::format::{Format, saelens};
use mediant_dict::train::{Activations, Cached, InMemory, Trained};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{self, config, synthetic};

const HOOK: &str = "blocks.2.hook_resid_post";

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// The activations as an artifact, f32.
fn cached(data: &InMemory) -> (TempDir, Artifact) {
    let dir = tempfile::tempdir().unwrap();
    let hooks = [HookFact { name: HOOK.to_owned(), shape: vec![data.width] }];
    let mut writer =
        ActivationsWriter::new(ArtifactWriter::create(dir.path(), Kind::Activations).unwrap(), &hooks, DType::F32)
            .unwrap();
    for (example, bounds) in data.offsets.windows(2).enumerate() {
        let rows = (bounds[1] - bounds[0]) as u32;
        let numbers: Vec<u32> = (0..rows).collect();
        // Examples are numbered as in the tokens, which may have gaps.
        writer.index(&vec![2 * example as u32; rows as usize], &numbers, &vec![7; rows as usize]).unwrap();
    }
    let bytes: Vec<u8> = data.data.iter().flat_map(|x| x.to_le_bytes()).collect();
    writer.hooks_mut()[0].write(&bytes).unwrap();
    let meta = ActivationsMeta {
        model: digest("model"),
        tokens: digest("tokens"),
        hooks: hooks.to_vec(),
        dtype: DType::F32,
        positions: "all".to_owned(),
        prepend_bos: true,
        context: 10,
        rows: *data.offsets.last().unwrap(),
        processing: Processing::default(),
    };
    writer.finish(&meta).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    (dir, artifact)
}

fn train(options: &serde_json::Value, source: &dyn Activations) -> Trained {
    support::train(&config(options), source)
}

#[test]
fn cached_activations_train_like_those_in_memory() {
    let data = synthetic(3000, 16, 24, 11);
    let (_dir, artifact) = cached(&data);
    let source = Cached::open(&artifact, &[HOOK]).unwrap();
    assert_eq!((source.widths(), source.offsets()), (&[16][..], data.offsets.as_slice()));
    let options = json!({ "sae": { "architecture": "topk", "k": 4 }, "block": 500 });
    assert_eq!(train(&options, &source).sae, train(&options, &data).sae);
    assert!(Cached::open(&artifact, &["blocks.9.hook_resid_post"]).is_err());
    assert!(Cached::open(&artifact, &["index"]).is_err());
}

#[test]
fn dictionaries_come_back_and_go_to_saelens() {
    let data = synthetic(500, 16, 24, 11);
    // A family's options, and one of SAELens' names for them.
    for (sae, name, detail, written) in [
        (
            json!({ "architecture": "topk", "k": 4, "aux_loss_coefficient": 0.25 }),
            "topk",
            "aux_loss_coefficient",
            "topk",
        ),
        (
            json!({ "architecture": "relu", "l1": 0.5, "apply_b_dec_to_input": false }),
            "standard",
            "l1_coefficient",
            "standard",
        ),
        (
            json!({ "architecture": "matching_pursuit", "max_iterations": 5 }),
            "matching_pursuit",
            "decoder_init_norm",
            "matching_pursuit",
        ),
        (json!({ "architecture": "gated", "l1": 0.5 }), "gated", "l1_warm_up_steps", "gated"),
        (json!({ "architecture": "batchtopk", "k": 3.5 }), "batchtopk", "topk_threshold_lr", "jumprelu"),
        (
            json!({ "architecture": "matryoshka", "k": 4, "matryoshka_widths": [8, 32] }),
            "matryoshka_batchtopk",
            "matryoshka_widths",
            "jumprelu",
        ),
        (
            json!({ "architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 4 }),
            "jumprelu",
            "target_l0",
            "jumprelu",
        ),
    ] {
        let options = json!({ "sae": sae, "steps": 12 });
        let trained = train(&options, &data);
        let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let origin =
            Origin { hook: HOOK.to_owned(), hook_out: None, model: digest("model"), context: 10, prepend_bos: true };
        let writer = ArtifactWriter::create(dir.path(), Kind::Dictionary).unwrap();
        write(writer, &trained, &config(&options).resolve().unwrap(), &origin).unwrap();

        let artifact = Artifact::open(dir.path()).unwrap();
        let (sae, meta) = read(&artifact).unwrap();
        assert_eq!(sae, trained.sae);
        assert_eq!((meta.hook.as_str(), meta.d_in, meta.d_sae), (HOOK, 16, 64));
        assert_eq!(meta.config["training"]["batch"], 48);
        assert_eq!(DictionaryReader::open(&artifact).unwrap().curve().unwrap(), trained.curve);

        let folder = out.path().join("sae");
        export(&artifact, Format::Saelens, false, &folder).unwrap();
        let (back, metadata) = saelens::load(&folder).unwrap();
        assert_eq!(back, trained.sae);
        assert_eq!(metadata.hook(), Some(HOOK));
        assert_eq!(metadata.get("training_architecture").unwrap(), name);
        assert!(!metadata.get("training_architecture_details").unwrap()[detail].is_null());
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("cfg.json")).unwrap()).unwrap();
        assert_eq!(config["architecture"], written);
    }
}

#[test]
fn the_curve_has_every_number_at_every_point() {
    let data = synthetic(500, 16, 24, 11);
    let trained = train(&json!({ "sae": { "architecture": "relu" }, "steps": 23, "log_every": 10 }), &data);
    let steps: Vec<u64> = trained.curve.iter().filter(|row| row.name == "loss").map(|row| row.step).collect();
    assert_eq!(steps, [1, 10, 20, 23]);
    let names: Vec<&str> = trained.curve.iter().filter(|row| row.step == 10).map(|row| row.name.as_str()).collect();
    let expected = [
        "loss",
        "mse_loss",
        "ev_trainer",
        "l0",
        "dead_fraction",
        "grad_norm",
        "lr",
        "examples_in_batch",
        "l1_loss",
        "l1_coefficient",
    ];
    assert_eq!(names, expected);
    assert!(trained.curve.iter().all(|row| row.tokens == row.step * 48 && row.value.is_finite()));
}

#[test]
fn top_afa_comes_back_and_no_other_tool_has_it() {
    let data = synthetic(500, 16, 24, 11);
    let options = json!({ "sae": { "architecture": "top_afa" }, "steps": 12 });
    let trained = train(&options, &data);
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin =
        Origin { hook: HOOK.to_owned(), hook_out: None, model: digest("model"), context: 10, prepend_bos: true };
    let writer = ArtifactWriter::create(dir.path(), Kind::Dictionary).unwrap();
    write(writer, &trained, &config(&options).resolve().unwrap(), &origin).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    let (sae, meta) = read(&artifact).unwrap();
    assert_eq!((&sae, meta.architecture.as_str()), (&trained.sae, "top_afa"));
    assert_eq!(meta.config["training"]["decoder_norm"], "one_before_step");
    let refused = export(&artifact, Format::Saelens, false, &out.path().join("sae")).unwrap_err().to_string();
    assert!(refused.contains("no place for top_afa"), "{refused}");
    assert!(saelens::save(&sae, &saelens::Metadata::default(), out.path()).is_err());
}
