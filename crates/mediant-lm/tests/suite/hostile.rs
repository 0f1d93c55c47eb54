//! Checkpoints that are damaged or lie: one clear error each, no panic, no allocation beyond the file's size.

use std::fs;

use mediant_artifact::{ArtifactWriter, Kind, Processing};
use mediant_lm::{HfFolder, import};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::allocator::largest;
use super::support::{fixture, gpt2_json};

/// A one-block GPT-2: its config and its file of weights, header and values apart.
fn small() -> (Value, Value, Vec<u8>) {
    let config = gpt2_json(1, 4, 2, 6, 5);
    let parsed = mediant_lm::LmConfig::from_json(&config).unwrap();
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut end = 0;
    let names = [
        ("wte.weight", vec![6, 4]),
        ("wpe.weight", vec![5, 4]),
        ("ln_f.weight", vec![4]),
        ("ln_f.bias", vec![4]),
        ("h.0.ln_1.weight", vec![4]),
        ("h.0.ln_1.bias", vec![4]),
        ("h.0.ln_2.weight", vec![4]),
        ("h.0.ln_2.bias", vec![4]),
        ("h.0.attn.c_attn.weight", vec![4, 12]),
        ("h.0.attn.c_attn.bias", vec![12]),
        ("h.0.attn.c_proj.weight", vec![4, 4]),
        ("h.0.attn.c_proj.bias", vec![4]),
        ("h.0.mlp.c_fc.weight", vec![4, 16]),
        ("h.0.mlp.c_fc.bias", vec![16]),
        ("h.0.mlp.c_proj.weight", vec![16, 4]),
        ("h.0.mlp.c_proj.bias", vec![4]),
    ];
    for (name, shape) in names {
        let start = end;
        end += shape.iter().product::<usize>() * 4;
        header[format!("transformer.{name}")] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
    }
    assert_eq!(end as u64, parsed.parameters() * 4);
    (config, header, vec![0; end])
}

fn file(header: &[u8], values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, values].concat()
}

/// Opens and imports a folder with these bytes as weights. No piece of memory is much larger than the files.
fn open(config: &[u8], weights: &[u8]) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let (opened, most) = largest(|| HfFolder::open(folder.path()));
    let size = config.len() + weights.len();
    assert!(most <= 4 * size + (64 << 10), "{most} bytes at once for files of {size}");
    try_import(opened.map_err(|e| e.to_string())?)
}

fn try_import(folder: HfFolder) -> Result<(), String> {
    let out = TempDir::new().unwrap();
    let writer = ArtifactWriter::create(out.path(), Kind::Model).unwrap();
    import(&folder, Processing::default(), writer, |_, _| Ok::<_, mediant_lm::Error>(()))
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// The error of the small model with its header changed.
fn with_header(change: impl FnOnce(&mut Value)) -> String {
    let (config, mut header, values) = small();
    change(&mut header);
    open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap_err()
}

/// The error of the small model with the text of its header changed.
fn with_text(change: impl FnOnce(&str) -> String) -> String {
    let (config, header, values) = small();
    open(config.to_string().as_bytes(), &file(change(&header.to_string()).as_bytes(), &values)).unwrap_err()
}

const EMBED: &str = "transformer.wte.weight";

#[test]
fn the_small_model_is_sound() {
    let (config, header, values) = small();
    open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap();
}

#[test]
fn each_lie_has_its_error() {
    let (config, header, values) = small();
    let config = config.to_string();
    let sound = file(header.to_string().as_bytes(), &values);
    let raw = |weights: &[u8]| open(config.as_bytes(), weights).unwrap_err();
    let again = format!("{{\"{EMBED}\": {},", header[EMBED]);
    let huge = [&(1_u64 << 60).to_le_bytes()[..], &sound[8..]].concat();
    let cases = [
        (raw(&huge), "claims a header of 1152921504606846976 bytes"),
        (raw(&[&99_999_999_u64.to_le_bytes()[..], &sound[8..]].concat()), "claims a header of 99999999 bytes"),
        (raw(&sound[..sound.len() - 1]), "cut off"),
        (raw(&[&sound[..], &[0]].concat()), "adds up to"),
        (raw(&sound[..100]), "claims a header"),
        (raw(&sound[..5]), "too short"),
        (raw(&[]), "too short"),
        (raw(&file(b"{\"a\": ", &[])), "header is damaged"),
        (raw(&file(b"[]", &[])), "header is damaged"),
        (raw(&file(&[0xff, 0xfe], &[])), "header is damaged"),
        (raw(&file("[".repeat(100_000).as_bytes(), &[])), "nested too deeply"),
        (raw(&file("{\"a\":".repeat(100_000).as_bytes(), &[])), "nested too deeply"),
        (raw(&file(format!("{{\"a\": [{}0]}}", "0,".repeat(100_000)).as_bytes(), &[])), "a list of more than 64 items"),
        (
            with_text(|text| text.replacen('{', r#"{"z": {"dtype": "U8", "shape": [], "shape": []},"#, 1)),
            "`shape` stands twice",
        ),
        (with_text(|text| text.replacen('{', &again, 1)), "`transformer.wte.weight` stands twice"),
        (with_header(|h| h[EMBED]["data_offsets"] = json!([0, 92])), "offsets"),
        (with_header(|h| h["transformer.wpe.weight"]["data_offsets"] = json!([90, 170])), "overlap"),
        (with_header(|h| h[EMBED]["shape"] = json!([u64::MAX, 4])), "header is damaged"),
        (with_header(|h| h[EMBED]["shape"] = json!([4, 6])), "has shape [4, 6], but the config says [6, 4]"),
        (with_header(|h| h[EMBED]["dtype"] = json!("I32")), "I32; F32, F16 and BF16 are built"),
        (with_header(|h| h[EMBED]["dtype"] = json!("F31")), "header is damaged"),
        (with_header(|h| rename(h, EMBED, "transformer.wt.weight")), "lacks `transformer.wte.weight`"),
        (with_header(|h| rename(h, "transformer.ln_f.bias", "wte.weight")), "are the same parameter"),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "expected `{expected}` in `{error}`");
    }
}

fn rename(header: &mut Value, from: &str, to: &str) {
    let tensor = header.as_object_mut().unwrap().remove(from).unwrap();
    header[to] = tensor;
}

#[test]
fn a_tensor_without_a_place_is_refused() {
    let (config, mut header, mut values) = small();
    let end = values.len();
    header["transformer.h.1.ln_1.bias"] = json!({"dtype": "F32", "shape": [4], "data_offsets": [end, end + 16]});
    values.extend([0; 16]);
    let error = open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap_err();
    assert!(error.contains("no place for `transformer.h.1.ln_1.bias`"), "{error}");
}

#[test]
fn offsets_that_wrap_around_are_refused() {
    // A last tensor whose end, added to the header's length, overflows to the file's length.
    let (config, mut header, values) = small();
    header["z"] = json!({"dtype": "U8", "shape": [0], "data_offsets": [values.len(), values.len()]});
    let text = header.to_string();
    let room = |text: &str| u64::MAX - (text.len() as u64 + 8) + 1 + (text.len() as u64 + 8 + values.len() as u64);
    let end = room(&text);
    header["z"] =
        json!({"dtype": "U8", "shape": [end.wrapping_sub(values.len() as u64)], "data_offsets": [values.len(), end]});
    open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap_err();
}

#[test]
fn values_that_are_not_numbers_are_reported() {
    let (config, header, mut values) = small();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        values[4 * 7..4 * 8].copy_from_slice(&bad.to_le_bytes());
        let error = open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap_err();
        assert!(error.contains("`transformer.wte.weight`") && error.contains("index 7"), "{error}");
    }
}

/// The same in half precision, whose exponents differ; the weights are those of the first half of the file.
#[test]
fn values_that_are_not_numbers_are_reported_in_half_precision_too() {
    let (config, mut header, values) = small();
    for (dtype, bad) in [("F16", [0x7c00_u16, 0xfc00, 0x7c01]), ("BF16", [0x7f80, 0xff80, 0x7fc0])] {
        for tensor in header.as_object_mut().unwrap().values_mut().filter(|t| t.get("dtype").is_some()) {
            if tensor["dtype"] == "F32" {
                let place = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() / 2;
                tensor["data_offsets"] = json!([place(0), place(1)]);
            }
            tensor["dtype"] = json!(dtype);
        }
        for bad in bad {
            let mut values = values[..values.len() / 2].to_vec();
            values[2 * 30..2 * 31].copy_from_slice(&bad.to_le_bytes());
            let error = open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values)).unwrap_err();
            assert!(error.contains("`transformer.wpe.weight`") && error.contains("index 6"), "{error}");
        }
    }
}

#[test]
fn an_index_that_leads_elsewhere_or_says_nothing() {
    let (config, header, values) = small();
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("inner")).unwrap();
    fs::write(path("inner/config.json"), config.to_string()).unwrap();
    for file_path in ["shard.safetensors", "inner/shard.safetensors"] {
        fs::write(path(file_path), file(header.to_string().as_bytes(), &values)).unwrap();
    }
    let with = |index: &str| {
        fs::write(path("inner/model.safetensors.index.json"), index).unwrap();
        largest(|| HfFolder::open(&path("inner")).map(drop).map_err(|e| e.to_string()))
    };
    let names: Vec<&String> = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").collect();
    let map = |file: &str| json!({"weight_map": Value::from_iter(names.iter().map(|n| ((*n).clone(), json!(file))))});
    with(&map("shard.safetensors").to_string()).0.unwrap();
    let absolute = path("shard.safetensors").display().to_string();
    for name in ["../shard.safetensors", "x/../../shard.safetensors", &absolute, "..", ".", "", "./shard.safetensors"] {
        let error = with(&map(name).to_string()).0.unwrap_err();
        assert!(error.contains("is not the name of a file beside it"), "{name}: {error}");
    }
    let twice = r#"{"weight_map": {"a": "b.safetensors", "a": "shard.safetensors"}}"#;
    let cases = [
        (twice.to_owned(), "`a` stands twice"),
        (r#"{"weight_map": {}, "weight_map": {}}"#.to_owned(), "`weight_map` stands twice"),
        (format!("{{\"weight_map\": {}", "{\"a\":".repeat(100_000)), "nested too deeply"),
        (format!("{{\"weight_map\": {{}}, \"metadata\": [{}0]}}", "0,".repeat(100_000)), "more than 64 items"),
        (r#"{"weight_map": {"a": 7}}"#.to_owned(), "index.json"),
        (r#"{"weight_map": []}"#.to_owned(), "index.json"),
        (r#"{"weight_map": {}}"#.to_owned(), "lacks"),
        ("{}".to_owned(), "weight_map"),
        ("[".to_owned(), "index.json"),
        (String::new(), "index.json"),
        (map("missing.safetensors").to_string(), "missing.safetensors"),
        (map("config.json").to_string(), "config.json"),
    ];
    for (index, expected) in cases {
        let (result, most) = with(&index);
        let error = result.unwrap_err();
        assert!(error.contains(expected) && error.len() < 400, "expected `{expected}` in `{error}`");
        assert!(most <= 4 * index.len() + (64 << 10), "{most} bytes at once for an index of {}", index.len());
    }
}

#[test]
fn folders_that_are_not_checkpoints() {
    let folder = TempDir::new().unwrap();
    let error = || HfFolder::open(folder.path()).unwrap_err().to_string();
    assert!(error().contains("config.json"));
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(error().contains("config.json"));
    fs::copy(fixture("gpt2").join("config.json"), folder.path().join("config.json")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(error().contains("neither model.safetensors nor"), "{}", error());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes changed, cut off or added anywhere in the header or its length.
    #[test]
    fn no_header_panics(changes in prop::collection::vec((0_usize..2600, any::<u8>()), 1..6), cut in prop::option::of(0_usize..4000)) {
        let (config, header, values) = small();
        let mut bytes = file(header.to_string().as_bytes(), &values);
        for (place, value) in changes {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let _ = open(config.to_string().as_bytes(), &bytes);
    }

    /// Numbers in the header replaced by others.
    #[test]
    fn no_number_panics(which in 0_usize..100, number in prop_oneof![any::<u64>(), 0_u64..2000, Just(u64::MAX), Just(1 << 61)]) {
        let (config, header, values) = small();
        let text = header.to_string();
        let starts: Vec<usize> = text.char_indices().filter(|(i, c)| c.is_ascii_digit() && !text.as_bytes()[i - 1].is_ascii_alphanumeric() && b"[,:".contains(&text.as_bytes()[i - 1])).map(|(i, _)| i).collect();
        let start = starts[which % starts.len()];
        let len = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap();
        let text = format!("{}{number}{}", &text[..start], &text[start + len..]);
        let _ = open(config.to_string().as_bytes(), &file(text.as_bytes(), &values));
    }

    /// Fields of the config replaced by other values.
    #[test]
    fn no_config_panics(field in 0_usize..7, number in prop_oneof![any::<i64>(), -3_i64..100]) {
        let (mut config, header, values) = small();
        let name = ["n_layer", "n_embd", "n_head", "vocab_size", "n_positions", "layer_norm_epsilon", "n_inner"][field];
        config[name] = json!(number);
        let _ = open(config.to_string().as_bytes(), &file(header.to_string().as_bytes(), &values));
    }
}
