//! Autoencoders from other tools and back to them: `load_sae`, `export`, `mediant export`.

use std::fs;
use std::path::{Path, PathBuf};

use mediant_artifact::Artifact;
use mediant_dict::format::{Input, TensorFile, parse};
use serde_json::Value;

use super::model::with_model;
use super::project::Project;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-dict/tests/fixtures")
}

/// Those that SAELens 6.54.12 wrote, with what it computes with them.
const SAELENS: [&str; 10] = [
    "standard",
    "gated",
    "topk",
    "topk_no_rescale",
    "batchtopk",
    "matryoshka_batchtopk",
    "jumprelu",
    "jumprelu_tanh",
    "topk_layer_norm",
    "standard_constant_norm_rescale",
];

fn expected(case: &Path) -> TensorFile {
    parse::safetensors(Input::open(&case.join("expected.safetensors")).unwrap()).unwrap()
}

/// max |a − b| ≤ 1e-4 · max |b|
#[track_caller]
fn assert_close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let worst = a.iter().zip(b).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(scale > 0.1 && worst <= 1e-4 * scale, "{what}: {worst} of {scale}");
}

#[test]
fn saelens_folders_load_give_their_numbers_and_go_back_byte_for_byte() {
    let project = Project::new();
    let pipeline = format!(
        "mediant: 1\nstages:\n  sae:\n    uses: load_sae\n    matrix: {{ case: [{}] }}\n    with: {{ source: \"{}/saelens/${{matrix.case}}\", \
         hook: blocks.0.hook_resid_post }}\n  files:\n    uses: export\n    inputs: {{ dictionary: sae }}\n    with: {{ format: saelens }}\n",
        SAELENS.join(", "),
        fixtures().display(),
    );
    project.write("pipeline.yaml", &pipeline);
    project.ran(&[]);
    let exported = project.mediant(&["export", "pipeline.yaml", "files", "out"]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    for case in SAELENS {
        let folder = fixtures().join("saelens").join(case);
        let artifact = Artifact::open(&project.object(&format!("sae[case={case}]"))).unwrap();
        let (sae, meta) = mediant_dict::artifact::read(&artifact).unwrap();
        assert_eq!((meta.hook.as_str(), meta.model), ("blocks.0.hook_resid_post", None));
        let expected = expected(&folder);
        let x = expected.read("x").unwrap();
        let codes = sae.encode(&x);
        assert_close(case, &codes.to_dense(meta.d_sae), &expected.read("inference.feature_acts").unwrap());
        assert_close(case, &sae.decode(&codes, &x), &expected.read("inference.sae_out").unwrap());

        // Plain files in the store, the same where they were exported to, the same as they came.
        let object = project.object(&format!("files[case={case}]"));
        let out = project.path("out").join(format!("files[case={case}]"));
        let weights = fs::read(folder.join("sae_weights.safetensors")).unwrap();
        assert!(weights == fs::read(out.join("sae_weights.safetensors")).unwrap(), "{case}");
        assert!(weights == fs::read(object.join("sae_weights.safetensors")).unwrap(), "{case}");
        let json =
            |folder: &Path| -> Value { serde_json::from_slice(&fs::read(folder.join("cfg.json")).unwrap()).unwrap() };
        let mut theirs = json(&folder);
        theirs["metadata"]["hook_name"] = "blocks.0.hook_resid_post".into();
        assert_eq!(json(&out), theirs, "{case}");
    }
    // Damage to an exported file is found, and repaired.
    let file = project.object("files[case=topk]").join("cfg.json");
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&file, permissions).unwrap();
    fs::write(&file, "{}").unwrap();
    assert_eq!(project.ran(&[]), "files[case=topk]");
    assert!(fs::read_to_string(project.object("files[case=topk]").join("cfg.json")).unwrap().len() > 2);
}

#[test]
fn a_changed_file_runs_the_stage_again_and_others_do_not_matter() {
    let project = Project::new();
    project.write(
        "pipeline.yaml",
        "mediant: 1\nstages:\n  sae:\n    uses: load_sae\n    with: { source: sae, hook: blocks.0.hook_resid_post }\n",
    );
    fs::create_dir(project.path("sae")).unwrap();
    for file in ["cfg.json", "sae_weights.safetensors"] {
        fs::copy(fixtures().join("saelens/topk").join(file), project.path("sae").join(file)).unwrap();
    }
    assert_eq!(project.ran(&[]), "sae");
    project.write("sae/README.md", "an autoencoder");
    assert_eq!(project.ran(&[]), "-");
    let config = fs::read_to_string(project.path("sae/cfg.json")).unwrap();
    project.write("sae/cfg.json", &config.replace("\"k\": 7", "\"k\": 6"));
    assert_eq!(project.ran(&[]), "sae");
    let (sae, _) = mediant_dict::artifact::read(&Artifact::open(&project.object("sae")).unwrap()).unwrap();
    assert!(format!("{:?}", sae.activation()).contains("k: 6"));

    // A value that is not finite is found when the numbers are read.
    let path = project.path("sae/sae_weights.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let ran = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("holds a value that is not a finite number"), "{}", ran.stderr);
}

const TRAINED: &str = "
mediant: 1
stages:
  model: { uses: load_model, with: { source: model } }
  tokens:
    uses: tokenize
    inputs: { model: model }
    with: { source: ids.jsonl, context: 32, test_fraction: 0.25, pack: false, prepend_bos: false }
  acts:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: [blocks.1.hook_resid_post] }
  sae:
    uses: train_sae
    matrix:
      include:
        - { name: plain, sae: { architecture: topk, k: 8, rescale_acts_by_decoder_norm: false } }
        - { name: scaled, sae: { architecture: topk, k: 8, apply_b_dec_to_input: false, decoder_init_norm: 0.7 } }
        - { name: jump, sae: { architecture: jumprelu, b_dec_init: mean } }
        - { name: relu, sae: { architecture: relu, b_dec_init: mean } }
        - { name: gate, sae: { architecture: gated, gated_detach_decoder: true, apply_b_dec_to_input: false, b_dec_init: mean } }
        - { name: batch, sae: { architecture: batchtopk, k: 8, aux_loss: dictionary_learning, topk_threshold_start_step: 20 } }
    inputs: { activations: acts }
    with: { sae: \"${matrix.sae}\", d_sae: 96, steps: 30, batch: 128 }
  eval: { uses: evaluate_sae, inputs: { model: model, sae: sae, tokens: tokens.test } }
  saelens: { uses: export, inputs: { dictionary: sae }, with: { format: saelens } }
  sparsify: { uses: export, inputs: { dictionary: \"sae[name=scaled]\" }, with: { format: sparsify } }
  gemma: { uses: export, inputs: { dictionary: \"sae[name=jump]\" }, with: { format: gemma_scope, fold_decoder_norms: true } }
  dl: { uses: export, inputs: { dictionary: sae }, with: { format: dictionary_learning } }
";

/// The architectures of [`TRAINED`], in dictionary_learning's classes.
const CLASSES: [(&str, &str); 6] = [
    ("plain", "AutoEncoderTopK"),
    ("scaled", "AutoEncoderTopK"),
    ("jump", "JumpReluAutoEncoder"),
    ("relu", "AutoEncoder"),
    ("gate", "GatedAutoEncoder"),
    ("batch", "JumpReluAutoEncoder"),
];

#[test]
fn what_was_trained_comes_back_from_every_format_with_the_same_metrics() {
    let project = with_model(TRAINED);
    project.ran(&[]);
    for stage in ["saelens", "sparsify", "gemma", "dl"] {
        let exported = project.mediant(&["export", "pipeline.yaml", stage, &format!("out/{stage}")]);
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    }
    for (name, class) in CLASSES {
        let folder = project.path(&format!("out/dl/dl[name={name}]"));
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let trainer = &config["trainer"];
        assert_eq!((&trainer["dict_class"], &trainer["submodule_name"]), (&class.into(), &"resid_post_layer_1".into()));
        assert_eq!((&trainer["layer"], &trainer["steps"], &trainer["lr"]), (&1.into(), &30.into(), &3e-4.into()));
        assert_eq!(trainer.get("k"), (class == "AutoEncoderTopK").then_some(&8.into()));
    }
    let metric = |name: &str, file: &str, sql: &str| -> f64 {
        let sql = sql.replace("NAME", name);
        let found = project.mediant(&["query", file, &sql, "--csv"]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        found.stdout.lines().nth(1).unwrap().parse().unwrap()
    };
    let loaded = TRAINED.split("  acts:").next().unwrap().to_owned()
        + "  sae:
    uses: load_sae
    matrix:
      source: [\"out/saelens/saelens[name=plain]\", \"out/saelens/saelens[name=scaled]\", \"out/saelens/saelens[name=jump]\", out/sparsify, out/gemma,
        \"out/dl/dl[name=plain]\", \"out/dl/dl[name=scaled]\", \"out/dl/dl[name=jump]\", \"out/dl/dl[name=relu]\", \"out/dl/dl[name=gate]\", \"out/dl/dl[name=batch]\"]
    inputs: { model: model }
    with: { source: \"${matrix.source}\", hook: blocks.1.hook_resid_post }
  eval: { uses: evaluate_sae, inputs: { model: model, sae: sae, tokens: tokens.test } }
";
    project.write("loaded.yaml", &loaded);
    let ran = project.mediant(&["run", "loaded.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let dl = CLASSES.map(|(name, _)| (name, format!("out/dl/dl[name={name}]")));
    let others = [
        ("plain", "out/saelens/saelens[name=plain]"),
        ("scaled", "out/saelens/saelens[name=scaled]"),
        ("jump", "out/saelens/saelens[name=jump]"),
        ("scaled", "out/sparsify"),
        ("jump", "out/gemma"),
    ];
    for (name, source) in others.map(|(name, source)| (name, source.to_owned())).into_iter().chain(dl) {
        for measure in ["ev_mc", "l0", "ce_sae"] {
            let trained = metric(
                name,
                "pipeline.yaml",
                &format!("SELECT value FROM eval WHERE name = '{measure}' AND axis_name = 'NAME'"),
            );
            let again = metric(
                &source,
                "loaded.yaml",
                &format!("SELECT value FROM eval WHERE name = '{measure}' AND source = 'NAME'"),
            );
            assert!((trained - again).abs() <= 1e-4 * trained.abs().max(0.01), "{source} {measure}: {trained} {again}");
        }
    }
}

#[test]
fn plain_topk_and_matching_pursuit_refuse_before_anything_runs_to_have_decoder_norms_folded() {
    let project = Project::new();
    for (case, expected) in [
        ("topk_no_rescale", Some("its k largest pre-activations would be others")),
        ("matching_pursuit", Some("whose encoder is the decoder")),
        ("jumprelu", None),
    ] {
        let pipeline = format!(
            "mediant: 1\nstages:\n  sae:\n    uses: load_sae\n    with: {{ source: \"{}/saelens/{case}\", hook: blocks.0.hook_resid_post }}\n  \
             files:\n    uses: export\n    inputs: {{ dictionary: sae }}\n    with: {{ format: saelens, fold_decoder_norms: true }}\n",
            fixtures().display()
        );
        project.write("pipeline.yaml", &pipeline);
        let planned = project.mediant(&["plan", "pipeline.yaml"]);
        match expected {
            Some(expected) => {
                assert_eq!(planned.code, Some(2), "{case}");
                assert!(planned.stderr.contains(expected), "{}", planned.stderr);
            }
            None => assert_eq!(planned.code, Some(0), "{}", planned.stderr),
        }
    }
}

#[test]
fn autoencoders_that_normalise_each_vector_go_into_the_files_of_saelens_alone() {
    let project = Project::new();
    for (format, possible) in [("saelens", true), ("sparsify", false), ("dictionary_learning", false)] {
        let pipeline = format!(
            "mediant: 1\nstages:\n  sae:\n    uses: load_sae\n    with: {{ source: \"{}/saelens/topk_layer_norm\", hook: blocks.0.hook_resid_post }}\n  \
             files:\n    uses: export\n    inputs: {{ dictionary: sae }}\n    with: {{ format: {format} }}\n",
            fixtures().display()
        );
        project.write("pipeline.yaml", &pipeline);
        let planned = project.mediant(&["plan", "pipeline.yaml"]);
        assert_eq!(planned.code, Some(if possible { 0 } else { 2 }), "{}", planned.stderr);
        let why = "no place for topk autoencoders with `normalize_activations: layer_norm`";
        assert_eq!(
            planned.stderr.contains(why) && planned.stderr.contains("write `saelens`"),
            !possible,
            "{}",
            planned.stderr
        );
    }
}
