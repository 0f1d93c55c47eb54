//! Files of other tools: each gives what its tool computes, comes back as it went, or is refused with a reason.

use std::fs;
use std::path::{Path, PathBuf};

use mediant_dict::format::{Foreign, Format, Input, fold_decoder_norms, parse};
use mediant_dict::{Activation, Sae, Weights};
use proptest::prelude::*;

use crate::support::{assert_close, fixture, normal, tensors};

/// What `make_formats.py` wrote.
fn made(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(case)
}

#[test]
fn every_format_gives_what_its_tool_computes() {
    use Format::{DictionaryLearning, GemmaScope, Sparsify};
    for (case, format, architecture, hook) in [
        ("dl_standard", DictionaryLearning, "relu", true),
        ("dl_april", DictionaryLearning, "relu", true),
        ("dl_gated", DictionaryLearning, "gated", true),
        ("dl_topk", DictionaryLearning, "topk", true),
        ("dl_batchtopk", DictionaryLearning, "jumprelu", true),
        ("dl_matryoshka", DictionaryLearning, "jumprelu", true),
        ("dl_jumprelu", DictionaryLearning, "jumprelu", true),
        ("sparsify", Sparsify, "topk", false),
        ("sparsify_bf16", Sparsify, "topk", false),
        ("gemma_scope", GemmaScope, "jumprelu", false),
        ("gemma_scope_compressed", GemmaScope, "jumprelu", false),
    ] {
        let foreign = Foreign::open(&made(case), None).unwrap();
        assert_eq!((foreign.format, foreign.activation.architecture()), (format, architecture), "{case}");
        assert_eq!(foreign.hook.as_deref(), hook.then_some("blocks.3.hook_resid_post"), "{case}");
        let sae = foreign.load().unwrap();
        let expected = tensors(&made(case).join("expected.safetensors"));
        let codes = sae.encode(&expected["x"]);
        assert_close(case, &codes.to_dense(foreign.d_sae), &expected["feature_acts"], 1e-5);
        assert_close(case, &sae.decode(&codes, &expected["x"]), &expected["sae_out"], 1e-5);
        assert!(codes.entries() > 20, "{case}");
    }
}

#[test]
fn a_file_alone_is_read_where_it_says_enough() {
    for case in ["dl_standard", "dl_april", "dl_gated", "dl_matryoshka", "dl_jumprelu"] {
        let alone = Foreign::open(&made(case).join("ae.pt"), None).unwrap().load().unwrap();
        assert_eq!(alone, Foreign::open(&made(case), None).unwrap().load().unwrap(), "{case}");
    }
    let alone = Foreign::open(&made("gemma_scope").join("params.npz"), None).unwrap().load().unwrap();
    assert_eq!(alone, Foreign::open(&made("gemma_scope"), None).unwrap().load().unwrap());
    for (file, expected) in [
        (made("dl_topk").join("ae.pt"), "top-k or of batch top-k"),
        (made("sparsify").join("sae.safetensors"), "does not say how to compute"),
        (made("sparsify").join("cfg.json"), "of no format that is known"),
        (made("nothing"), "No such file"),
        (made(""), "none of the files"),
    ] {
        let error = Foreign::open(&file, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A copy of a case with one file changed.
fn changed(case: &Path, file: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(case).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(file);
    fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    dir
}

fn refused(folder: &Path) -> String {
    match Foreign::open(folder, None) {
        Err(error) => error.to_string(),
        Ok(foreign) => foreign.load().unwrap_err().to_string(),
    }
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for (case, file, from, to, expected) in [
        ("sparsify", "cfg.json", r#""skip_connection": false"#, r#""skip_connection": true"#, "skip an autoencoder"),
        ("sparsify", "cfg.json", r#""transcode": false"#, r#""signed": true"#, "makes latents of either sign"),
        ("sparsify", "cfg.json", r#""activation": "topk""#, r#""activation": "groupmax""#, "groupmax"),
        ("sparsify", "cfg.json", r#""multi_topk""#, r#""hyper_topk""#, "`hyper_topk` is not a field that is known"),
        ("sparsify", "cfg.json", r#""k": 5"#, r#""k": 25"#, "25 active latents of 24"),
        ("sparsify", "cfg.json", r#""d_in": 8"#, r#""d_in": 9"#, "has shape [24, 8], not [24, 9]"),
        ("sparsify", "cfg.json", r#""num_latents": 0"#, r#""num_latents": 7"#, "says 7 latents"),
        ("sparsify", "cfg.json", r#""k": 5"#, r#""k": 5, "k": 6"#, "the key `k` stands twice"),
        (
            "dl_topk",
            "config.json",
            r#""dict_class": "AutoEncoderTopK""#,
            r#""dict_class": "IdentityDict""#,
            "IdentityDict",
        ),
        ("dl_topk", "config.json", r#""dict_class": "AutoEncoderTopK""#, r#""dict_class": "AutoEncoder""#, "no place"),
        ("dl_topk", "config.json", r#""dict_size": 24"#, r#""dict_size": 25"#, "`dict_size` is not 24"),
        ("dl_topk", "config.json", r#""trainer""#, r#""coach""#, "`trainer` is missing"),
    ] {
        let dir = changed(&made(case), file, |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1).into_bytes()
        });
        let error = refused(dir.path());
        assert!(
            error.contains(expected) && error.contains(file) | error.contains(".pt") | error.contains("safetensors"),
            "{error}"
        );
    }
    // Two formats in one folder.
    let dir = changed(&made("sparsify"), "cfg.json", |bytes| bytes);
    fs::copy(made("gemma_scope").join("params.npz"), dir.path().join("params.npz")).unwrap();
    assert!(refused(dir.path()).contains("`format` must say which"), "{}", refused(dir.path()));
    assert!(Foreign::open(dir.path(), Some(Format::Sparsify)).is_ok());
}

/// Puts other bytes where these are, which must be there.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

#[test]
fn hostile_files_get_one_clear_error() {
    let huge = |mut bytes: Vec<u8>| {
        bytes[..8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        bytes
    };
    let nan = |mut bytes: Vec<u8>| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    type Edit = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, &str, Edit, &str); 14] = [
        ("sparsify", "sae.safetensors", huge, "claims a header of 9223372036854775807 bytes"),
        ("sparsify", "sae.safetensors", nan, "not a finite number (NaN"),
        ("sparsify", "sae.safetensors", half, "it may be cut off"),
        ("sparsify", "sae.safetensors", |_| Vec::new(), "too short"),
        ("sparsify", "sae.safetensors", |b| replaced(b, b"F32", b"U99"), "what it says of tensor"),
        ("sparsify", "sae.safetensors", |b| replaced(b, b"[24,8]", b"[24,9]"), "other offsets than its shape"),
        ("gemma_scope", "params.npz", half, "is cut off"),
        ("gemma_scope", "params.npz", |b| replaced(b, b"W_enc.npy", b"../nc.npy"), "leads elsewhere"),
        ("gemma_scope", "params.npz", |b| replaced(b, b"b_enc.npy", b"b_dec.npy"), "is there twice"),
        ("gemma_scope", "params.npz", |b| replaced(b, b"(8, 24)", b"(8, 25)"), "has not the size of its shape"),
        ("gemma_scope", "params.npz", |b| replaced(b, b"'<f4'", b"'>f4'"), "`>f4`; little-endian"),
        ("dl_topk", "ae.pt", half, "is cut off"),
        ("dl_topk", "ae.pt", |_| b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "since version 1.6"),
        ("dl_topk", "ae.pt", |b| replaced(b, b"OrderedDict", b"Misdirected"), "checksum does not match"),
    ];
    for (case, file, edit, expected) in cases {
        let dir = changed(&made(case), file, edit);
        let error = refused(dir.path());
        assert!(error.contains(expected), "{case} {expected}: {error}");
        assert!(error.contains(file) && !error.contains('\n'), "{error}");
    }
}

/// A zip archive of one stored entry.
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    let size = (bytes.len() as u32).to_le_bytes();
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &crc.sum().to_le_bytes(),
        &size,
        &size,
        &(name.len() as u16).to_le_bytes(),
    ]
    .concat();
    let local = [&b"PK\x03\x04"[..], &common, &[0, 0], name.as_bytes(), bytes].concat();
    let list = [&b"PK\x01\x02\x14\x00"[..], &common, &[0; 16], name.as_bytes()].concat();
    let end = [
        &b"PK\x05\x06"[..],
        &[0, 0, 0, 0, 1, 0, 1, 0],
        &(list.len() as u32).to_le_bytes(),
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, list, end].concat()
}

#[test]
fn a_pickle_that_asks_for_more_than_tensors_runs_nothing() {
    // What would run `touch` in Python.
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let command = format!("touch {}", mark.display());
    let pickle =
        [b"\x80\x02cposix\nsystem\nX", &(command.len() as u32).to_le_bytes()[..], command.as_bytes(), b"\x85R."]
            .concat();
    let file = dir.path().join("ae.pt");
    fs::write(&file, archive("archive/data.pkl", &pickle)).unwrap();
    let error = refused(&file);
    assert!(error.contains("it asks for `posix.system`") && error.contains("nothing was run"), "{error}");
    assert!(!mark.exists());
}

#[test]
fn a_zip_bomb_is_refused_by_its_sizes() {
    let mut bytes = archive("W_enc.npy", &[0; 64]);
    // Deflated, and 4 GiB out of 64 bytes.
    let list = bytes.len() - 22 - 46 - "W_enc.npy".len();
    bytes[list + 10] = 8;
    bytes[list + 24..list + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let error = parse::npz(Input::held("bomb.npz", bytes)).unwrap_err().to_string();
    assert!(error.contains("claims 4294967280 bytes out of 64"), "{error}");
}

fn random(activation: Activation, subtract: bool) -> Sae {
    let mut weights = Weights::init(8, 20, Some(0.7), 3);
    weights.b_enc = normal(20, 1, 0.1);
    weights.b_dec = normal(8, 2, 0.5);
    // Norms that differ, so that folding them matters.
    weights
        .w_dec
        .chunks_exact_mut(8)
        .enumerate()
        .for_each(|(i, row)| row.iter_mut().for_each(|x| *x *= 1.0 + i as f32));
    if activation == Activation::JumpRelu {
        weights.extra = mediant_dict::Extra::Threshold(normal(20, 4, 0.2));
    }
    Sae::new(weights, activation, subtract).unwrap()
}

#[test]
fn decoder_norms_fold_where_that_keeps_the_function() {
    let x = normal(30 * 8, 9, 1.0);
    let rescaling = Activation::TopK { k: 4, rescale_acts_by_decoder_norm: true };
    for activation in [Activation::Relu, Activation::JumpRelu, rescaling] {
        let sae = random(activation, true);
        let folded = fold_decoder_norms(&sae).unwrap();
        assert_close("norms", &folded.weights().decoder_norms(), &[1.0; 20], 1e-6);
        assert_close("reconstruction", &folded.reconstruct(&x), &sae.reconstruct(&x), 1e-5);
    }
    let plain = random(Activation::TopK { k: 4, rescale_acts_by_decoder_norm: false }, true);
    let error = fold_decoder_norms(&plain).unwrap_err().to_string();
    assert!(error.contains("its k largest pre-activations would be others"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse::safetensors(Input::held("x", bytes.clone()));
        let _ = parse::npz(Input::held("x", bytes.clone()));
        let _ = parse::torch(Input::held("x", [b"PK\x03\x04", &bytes[..]].concat()));
        let _ = parse::torch(Input::held("x", archive("a/data.pkl", &bytes)));
        let _ = parse::npz(Input::held("x", archive("a.npy", &bytes)));
    }

    #[test]
    fn any_change_of_a_file_is_read_or_refused(
        case in prop::sample::select(vec!["dl_gated", "sparsify", "gemma_scope", "gemma_scope_compressed"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (file, read): (&str, fn(Input) -> mediant_dict::Result<mediant_dict::format::TensorFile>) = match case {
            "sparsify" => ("sae.safetensors", parse::safetensors),
            "dl_gated" => ("ae.pt", parse::torch),
            _ => ("params.npz", parse::npz),
        };
        let mut bytes = fs::read(made(case).join(file)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = read(Input::held("x", bytes)) {
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            for name in names {
                let _ = file.read(&name);
            }
        }
    }
}

#[test]
fn saelens_folders_are_known_by_their_files() {
    let foreign = Foreign::open(&fixture("gated"), None).unwrap();
    assert_eq!((foreign.format, foreign.activation), (Format::Saelens, Activation::Gated));
}
