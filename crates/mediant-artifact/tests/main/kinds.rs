//! Every kind of artifact, written and read.

use std::collections::BTreeMap;

use mediant_artifact::{
    ActivationsMeta, ActivationsReader, ActivationsWriter, Artifact, ArtifactWriter, CurveRow, DType, DictionaryMeta,
    DictionaryReader, DictionaryWriter, Digest, Error, FilesMeta, HookFact, Kind, LabelRow, Labels, LabelsWriter,
    Manifest, MetricRow, ModelMeta, ModelReader, ModelWriter, Norms, Processing, Sequence, TableMeta, TokenSpans,
    TokenizerReader, Tokens, TokensMeta, TokensWriter, read_metrics, write_files, write_metrics, write_table,
    write_tokenizer,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{files, numbers, rows, schema, writer};

fn open(dir: &TempDir) -> Artifact {
    let artifact = Artifact::open(dir.path()).unwrap();
    artifact.verify().unwrap();
    artifact
}

#[test]
fn model() {
    let (dir, artifact) = writer(Kind::Model);
    let mut model = ModelWriter::new(artifact).unwrap();
    // Several rows of 16 MiB, numbers that do not repeat.
    let large: Vec<u8> = (0..20_000_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    model.tensor("wte", DType::F32, &[5_000, 4_000], &large).unwrap();
    model.tensor("scalar", DType::F16, &[], &[0, 0x3c]).unwrap();
    model.tensor("none", DType::F32, &[0, 3], &[]).unwrap();
    assert!(model.tensor("wte", DType::F32, &[0], &[]).is_err(), "a name twice");
    assert!(model.tensor("short", DType::F32, &[2], &[0; 4]).is_err());
    model.file("config.json", b"{}").unwrap();
    model.file("tokenizer.json", b"tokens").unwrap();
    assert!(model.file("../up", b"").is_err());
    let meta = ModelMeta {
        architecture: "gpt2".to_owned(),
        config: json!({ "n_layer": 4, "layer_norm_epsilon": 1e-5 }),
        norms: Norms::Live,
        processing: Processing::default(),
        tokenizer: Some(Digest::of(b"tokens")),
        parameters: 20_000_001,
    };
    model.finish(&meta).unwrap();

    let model = ModelReader::open(&open(&dir)).unwrap();
    assert_eq!(model.meta, meta);
    assert_eq!(model.tensors.names().collect::<Vec<_>>(), ["wte", "scalar", "none"]);
    assert_eq!(model.tensors.info("wte").unwrap().shape, [5_000, 4_000]);
    assert!(model.tensors.get("wte").unwrap().bytes == large);
    assert_eq!(model.tensors.get("scalar").unwrap().to_f32().unwrap(), [1.0]);
    assert_eq!(model.tensors.get("none").unwrap().shape, [0, 3]);
    assert!(model.tensors.get("wpe").is_err());
    assert_eq!(model.files.get("config.json"), Some(&b"{}"[..]));
    assert_eq!(model.files.names().collect::<Vec<_>>(), ["config.json", "tokenizer.json"]);
}

#[test]
fn a_model_names_its_own_tokenizer() {
    let (_dir, artifact) = writer(Kind::Model);
    let meta = ModelMeta {
        architecture: "gpt2".to_owned(),
        config: json!({}),
        norms: Norms::Live,
        processing: Processing::default(),
        tokenizer: Some(Digest::of(b"another")),
        parameters: 0,
    };
    assert!(ModelWriter::new(artifact).unwrap().finish(&meta).is_err());
}

#[test]
fn tokenizer() {
    let (dir, artifact) = writer(Kind::Tokenizer);
    write_tokenizer(artifact, 300, &[("tokenizer.json", b"{}"), ("tokenizer_config.json", b"[]")]).unwrap();
    let tokenizer = TokenizerReader::open(&open(&dir)).unwrap();
    assert_eq!((tokenizer.meta.vocab_size, tokenizer.meta.digest), (300, Digest::of(b"{}")));
    assert_eq!(tokenizer.tokenizer_json().unwrap(), b"{}");
    assert!(write_tokenizer(writer(Kind::Tokenizer).1, 300, &[("vocab.json", b"{}")]).is_err());
}

fn tokens_meta(sequences: u64, tokens: u64) -> TokensMeta {
    TokensMeta {
        tokenizer: None,
        vocab_size: 50,
        context: 7,
        packed: false,
        prepend_bos: true,
        bos: Some(0),
        separator: None,
        split: "train".to_owned(),
        documents: sequences,
        tokens,
        sequences,
    }
}

/// Writes `count` sequences of 1 to 7 tokens.
fn write_tokens(artifact: ArtifactWriter, count: u64) -> TokensWriter {
    let mut writer = TokensWriter::new(artifact).unwrap();
    for i in 0..count {
        let length = 1 + i as usize % 7;
        let ids: Vec<i32> = (0..length).map(|t| (i as i32 + t as i32) % 50).collect();
        let mask: Vec<bool> = (0..length).map(|t| t > 0).collect();
        let document = vec![i as u32; length];
        let (start, end): (Vec<u32>, Vec<u32>) = (0..length as u32).map(|t| (t * 3, t * 3 + 2)).unzip();
        let sequence = Sequence { ids: &ids, mask: &mask, document: &document, start: &start, end: &end };
        writer.sequence(sequence).unwrap();
    }
    writer
}

#[test]
fn tokens() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = ArtifactWriter::create_in_parts(dir.path(), Kind::Tokens, 300).unwrap();
    let writer = write_tokens(artifact, 1_000);
    let meta = tokens_meta(writer.sequences(), writer.tokens());
    writer.finish(&meta).unwrap();
    let artifact = open(&dir);
    let tokens = Tokens::read(&artifact).unwrap();
    let spans = TokenSpans::read(&artifact).unwrap();
    assert_eq!((tokens.len(), tokens.ids.len(), &tokens.meta), (1_000, spans.end.len(), &meta));
    assert_eq!(tokens.sequence(999), [49, 0, 1, 2, 3, 4]);
    assert_eq!(tokens.mask_of(999), [false, true, true, true, true, true]);
    assert_eq!(tokens.sequence(0), [0]);
    let last = tokens.offsets[999]..tokens.offsets[1_000];
    assert_eq!(spans.document[last.clone()], [999; 6]);
    assert_eq!(spans.start[last.clone()], [0, 3, 6, 9, 12, 15]);
    assert_eq!(spans.end[last], [2, 5, 8, 11, 14, 17]);
}

#[test]
fn tokens_are_what_their_meta_says() {
    let finish = |change: fn(&mut TokensMeta)| {
        let (_dir, artifact) = writer(Kind::Tokens);
        let writer = write_tokens(artifact, 100);
        let mut meta = tokens_meta(writer.sequences(), writer.tokens());
        change(&mut meta);
        writer.finish(&meta)
    };
    assert!(finish(|_| ()).is_ok());
    assert!(finish(|meta| meta.vocab_size = 49).is_err());
    assert!(finish(|meta| meta.context = 6).is_err());
    assert!(finish(|meta| meta.tokens += 1).is_err());
    assert!(finish(|meta| meta.sequences += 1).is_err());

    let (_dir, artifact) = writer(Kind::Tokens);
    let mut writer = TokensWriter::new(artifact).unwrap();
    let one = Sequence { ids: &[1], mask: &[true], document: &[0], start: &[0], end: &[1] };
    assert!(writer.sequence(Sequence { ids: &[-1], ..one }).is_err());
    assert!(writer.sequence(Sequence { mask: &[], ..one }).is_err());
    assert!(writer.sequence(Sequence { ids: &[], mask: &[], document: &[], start: &[], end: &[] }).is_err());
}

#[test]
fn a_manifest_that_lies_about_tokens_is_found() {
    let (dir, artifact) = writer(Kind::Tokens);
    let writer = write_tokens(artifact, 100);
    let meta = tokens_meta(writer.sequences(), writer.tokens());
    writer.finish(&meta).unwrap();
    let path = dir.path().join("manifest.json");
    let json = std::fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("\"vocab_size\": 50", "\"vocab_size\": 10"), ("\"context\": 7", "\"context\": 6"), ("\"bos\"", "\"bso\"")]
    {
        assert!(json.contains(from));
        std::fs::write(&path, json.replace(from, to)).unwrap();
        assert!(Tokens::read(&Artifact::open(dir.path()).unwrap()).is_err(), "{to}");
    }
}

#[test]
fn labels() {
    let (dir, artifact) = writer(Kind::Labels);
    let mut writer = LabelsWriter::new(artifact).unwrap();
    let variables = ["subject", "number"];
    let row = |i: u32| LabelRow {
        document: i / 3,
        span: (!i.is_multiple_of(3)).then_some((i, i + 4)),
        variable: variables[i as usize % 2],
        value: if i.is_multiple_of(5) { "" } else { "plural" },
    };
    (0..3_000).for_each(|i| writer.label(row(i)).unwrap());
    assert!(writer.label(LabelRow { span: Some((2, 1)), ..row(0) }).is_err());
    writer.finish().unwrap();
    let labels = Labels::read(&open(&dir)).unwrap();
    assert!(labels.rows().eq((0..3_000).map(row)));
}

pub(crate) fn hooks() -> [HookFact; 2] {
    let hook = |name: &str, shape: &[usize]| HookFact { name: name.to_owned(), shape: shape.to_vec() };
    [hook("blocks.0.hook_resid_post", &[6]), hook("blocks.0.attn.hook_z", &[2, 3])]
}

/// Writes rows `from..to` of activations of sequences of ten tokens.
fn write_activations(writer: &mut ActivationsWriter, from: u64, to: u64) {
    let index: Vec<u32> = (from as u32..to as u32).collect();
    let each = |f: fn(u32) -> u32| index.iter().map(|&row| f(row)).collect::<Vec<_>>();
    let token: Vec<i32> = index.iter().map(|&row| row as i32 % 50).collect();
    writer.index(&each(|row| row / 10), &each(|row| row % 10), &token).unwrap();
    std::thread::scope(|scope| {
        for hook in writer.hooks_mut() {
            scope.spawn(|| hook.write_f32(&numbers(from, to, 6)).unwrap());
        }
    });
}

pub(crate) fn activations(dtype: DType, rows: u64) -> (TempDir, u64) {
    let (dir, artifact) = writer(Kind::Activations);
    let mut writer = ActivationsWriter::new(artifact, &hooks(), dtype).unwrap();
    write_activations(&mut writer, 0, rows);
    assert!(writer.index(&[0], &[0], &[0]).is_err(), "out of order");
    writer.finish(&activations_meta(dtype, rows)).unwrap();
    (dir, rows)
}

#[test]
fn interrupted_activations_go_on_to_the_same_bytes() {
    const ROWS: u64 = 150_000;
    let (whole, _) = activations(DType::F16, ROWS);
    let checkpoint = tempfile::tempdir().unwrap();
    {
        let (_dir, artifact) = writer(Kind::Activations);
        let mut writer = ActivationsWriter::new(artifact, &hooks(), DType::F16).unwrap();
        write_activations(&mut writer, 0, 50_000);
        write_activations(&mut writer, 50_000, 140_000);
        writer.checkpoint(checkpoint.path()).unwrap();
        writer.hooks_mut()[0].write_f32(&numbers(0, 1, 6)).unwrap();
        assert!(writer.checkpoint(&checkpoint.path().join("no")).is_err(), "one hook has more rows");
    }
    let dir = tempfile::tempdir().unwrap();
    let artifact = ArtifactWriter::resume(dir.path(), Kind::Activations, checkpoint.path()).unwrap();
    let mut writer = ActivationsWriter::new(artifact, &hooks(), DType::F16).unwrap();
    let done = writer.rows();
    assert_eq!(done, 131_072);
    write_activations(&mut writer, done, ROWS);
    writer.finish(&activations_meta(DType::F16, ROWS)).unwrap();
    assert!(files(dir.path()) == files(whole.path()));
}

fn activations_meta(dtype: DType, rows: u64) -> ActivationsMeta {
    ActivationsMeta {
        model: Digest::of(b"model"),
        tokens: Digest::of(b"tokens"),
        hooks: hooks().to_vec(),
        dtype,
        positions: "all".to_owned(),
        prepend_bos: true,
        context: 10,
        rows,
        processing: Processing::default(),
    }
}

#[test]
fn activations_by_hook() {
    let (dir, rows) = activations(DType::BF16, 2_000);
    let reader = ActivationsReader::open(&open(&dir)).unwrap();
    assert_eq!(reader.meta, activations_meta(DType::BF16, rows));
    let index = reader.index().unwrap();
    assert_eq!((index.example[1_999], index.position[1_999], index.token[1_999]), (199, 9, 49));
    let vectors = reader.hook("blocks.0.attn.hook_z").unwrap();
    assert_eq!(vectors.shape(), [2, 3]);
    let mut out = vec![0.0; 2_000 * 6];
    vectors.range_f32(0..2_000, &mut out).unwrap();
    assert!(out == numbers(0, 2_000, 6));
    assert!(matches!(reader.hook("blocks.9.hook_z"), Err(Error::NoTable { .. })));
}

#[test]
fn hooks_have_the_rows_of_the_index() {
    let (_dir, artifact) = writer(Kind::Activations);
    let mut writer = ActivationsWriter::new(artifact, &hooks(), DType::F32).unwrap();
    writer.index(&[0, 0], &[0, 1], &[5, 5]).unwrap();
    writer.hooks_mut()[0].write_f32(&numbers(0, 2, 6)).unwrap();
    writer.hooks_mut()[1].write_f32(&numbers(0, 1, 6)).unwrap();
    let error = writer.finish(&activations_meta(DType::F32, 2)).unwrap_err();
    assert_eq!(error.to_string(), "1 rows of `blocks.0.attn.hook_z`, 2 in the index");
}

#[test]
fn dictionary() {
    let (dir, artifact) = writer(Kind::Dictionary);
    let mut writer = DictionaryWriter::new(artifact).unwrap();
    let weights: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    writer.tensor("W_dec", DType::F32, &[1, 2], &weights).unwrap();
    let curve: Vec<_> = (0..100)
        .map(|step| CurveRow { step, tokens: step * 4_096, name: "mse".to_owned(), value: 1.0 / step as f64 })
        .collect();
    curve.chunks(9).for_each(|rows| writer.curve(rows).unwrap());
    let meta = DictionaryMeta {
        architecture: "topk".to_owned(),
        d_in: 2,
        d_sae: 1,
        hook: "blocks.0.hook_resid_post".to_owned(),
        hook_out: None,
        config: json!({ "k": 16 }),
        model: Some(Digest::of(b"model")),
    };
    writer.finish(&meta).unwrap();
    let dictionary = DictionaryReader::open(&open(&dir)).unwrap();
    assert_eq!((&dictionary.meta, dictionary.curve().unwrap()), (&meta, curve));
    assert_eq!(dictionary.tensors.get("W_dec").unwrap().to_f32().unwrap(), [1.5, -2.0]);
}

#[test]
fn metrics() {
    let full = MetricRow {
        name: "ev_mc".to_owned(),
        value: 0.75,
        unit: "1".to_owned(),
        n: 1_000,
        low: Some(0.7),
        high: Some(0.8),
        numerator: Some(3.0),
        denominator: Some(4.0),
        seed: Some(u64::MAX),
        split: Some("test".to_owned()),
        tags: BTreeMap::from([("hook".to_owned(), "blocks.2.hook_resid_post".to_owned())]),
    };
    let bare = MetricRow { name: "ce".to_owned(), value: 3.0, unit: "nats".to_owned(), ..MetricRow::default() };
    let rows = [full, bare];
    let (dir, artifact) = writer(Kind::Metrics);
    write_metrics(artifact, &rows).unwrap();
    assert_eq!(read_metrics(&open(&dir)).unwrap(), rows);
    let (dir, artifact) = writer(Kind::Metrics);
    write_metrics(artifact, &[]).unwrap();
    assert!(read_metrics(&open(&dir)).unwrap().is_empty());
}

#[test]
fn table() {
    let (dir, artifact) = writer(Kind::Table);
    let meta = TableMeta { title: "rows".to_owned(), description: "of a test".to_owned() };
    write_table(artifact, schema(), (0..3).map(|i| Ok(rows(i * 10, i * 10 + 10))), &meta).unwrap();
    let artifact = open(&dir);
    assert_eq!(artifact.meta::<TableMeta>().unwrap(), meta);
    assert_eq!(artifact.read("rows").unwrap(), rows(0, 30));
}

#[test]
fn kinds_are_not_confused() {
    let (dir, artifact) = writer(Kind::Table);
    assert!(matches!(ModelWriter::new(artifact), Err(Error::WrongKind { .. })));
    let (_, artifact) = (dir, writer(Kind::Metrics));
    write_metrics(artifact.1, &[]).unwrap();
    let artifact = Artifact::open(artifact.0.path()).unwrap();
    let error = Tokens::read(&artifact).unwrap_err();
    assert_eq!(error.to_string(), "expected tokens, found metrics");
    assert!(artifact.meta::<TableMeta>().is_err());
}

#[test]
fn plain_files() {
    let (dir, artifact) = writer(Kind::Files);
    let meta = FilesMeta { format: "saelens".to_owned() };
    let fill = |folder: &std::path::Path| -> Result<(), Error> {
        std::fs::write(folder.join("cfg.json"), "{}").unwrap();
        std::fs::write(folder.join("b.bin"), [0; 70_000]).unwrap();
        Ok(())
    };
    let manifest = write_files(artifact, &meta, fill).unwrap();
    let files: Vec<_> = manifest.files.iter().map(|file| (file.file.as_str(), file.bytes)).collect();
    assert_eq!(files, [("b.bin", 70_000), ("cfg.json", 2)]);
    let stored: Vec<&str> = manifest.stored().map(|(name, ..)| name).collect();
    assert_eq!(stored, ["files-00000.parquet", "b.bin", "cfg.json"]);
    let read = open(&dir);
    assert_eq!((read.meta::<FilesMeta>().unwrap(), read.rows("files").unwrap()), (meta.clone(), 2));
    read.verify().unwrap();
    std::fs::write(dir.path().join("cfg.json"), "[]").unwrap();
    assert!(read.verify().unwrap_err().to_string().contains("cfg.json"));

    // Names that would be an artifact's own, or hidden, or a folder.
    for name in ["manifest.json", "x.parquet", ".hidden", "a b", "folder/"] {
        let (_dir, artifact) = writer(Kind::Files);
        let fill = |folder: &std::path::Path| -> Result<(), Error> {
            match name.strip_suffix('/') {
                Some(name) => std::fs::create_dir(folder.join(name)).unwrap(),
                None => std::fs::write(folder.join(name), "").unwrap(),
            }
            Ok(())
        };
        assert!(write_files(artifact, &meta, fill).is_err(), "{name}");
    }
    // A manifest that names a file elsewhere.
    let json = String::from_utf8(manifest.to_json().unwrap()).unwrap().replace("cfg.json", "../cfg.json");
    assert!(Manifest::from_json(json.as_bytes()).is_err());
}
