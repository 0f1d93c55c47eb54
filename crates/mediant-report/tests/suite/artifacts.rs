//! Small artifacts of every kind, as stages would write them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use mediant_artifact::{
    ActivationsMeta, ActivationsWriter, Artifact, ArtifactWriter, Contrast, CurveRow, DType, DictionaryMeta,
    DictionaryWriter, Digest, DirectionRow, DirectionsMeta, Effect, EffectsMeta, EffectsWriter, Example, FilesMeta,
    HookFact, Kind, LabelRow, LabelsWriter, Mediator, MetricRow, ModelMeta, ModelWriter, Norms, Processing, Prompt,
    ScoreRow, ScoresMeta, Sequence, TableMeta, TokensMeta, TokensWriter, Version, write_directions, write_files,
    write_metrics, write_prompts, write_scores, write_table, write_tokenizer,
};
use serde_json::json;
use tempfile::TempDir;

/// An artifact and the folder that it lives in.
pub(super) struct Made {
    pub(super) artifact: Artifact,
    _folder: TempDir,
}

fn make(kind: Kind, write: impl FnOnce(ArtifactWriter)) -> Made {
    let folder = TempDir::new().unwrap();
    write(ArtifactWriter::create(folder.path(), kind).unwrap());
    Made { artifact: Artifact::open(folder.path()).unwrap(), _folder: folder }
}

/// The Parquet files of a table.
pub(super) fn files(artifact: &Artifact, table: &str) -> Vec<std::path::PathBuf> {
    let dir: &Path = artifact.dir();
    artifact.table(table).unwrap().parts.iter().map(|part| dir.join(&part.file)).collect()
}

pub(super) fn metric(name: &str, value: f64) -> MetricRow {
    MetricRow {
        name: name.to_string(),
        value,
        unit: "1".to_string(),
        n: 4096,
        low: Some(value - 0.01),
        high: Some(value + 0.01),
        numerator: None,
        denominator: None,
        seed: None,
        split: Some("test".to_string()),
        tags: BTreeMap::new(),
    }
}

pub(super) fn metrics(rows: &[MetricRow]) -> Made {
    make(Kind::Metrics, |writer| {
        write_metrics(writer, rows).unwrap();
    })
}

pub(super) fn plain_files() -> Made {
    make(Kind::Files, |writer| {
        let meta = FilesMeta { format: "saelens".to_string() };
        let fill = |folder: &Path| -> mediant_artifact::Result<()> {
            std::fs::write(folder.join("cfg.json"), "{}").unwrap();
            Ok(())
        };
        write_files(writer, &meta, fill).unwrap();
    })
}

pub(super) fn table() -> Made {
    let schema = Schema::new(vec![
        Field::new("method", DataType::Utf8, false),
        Field::new("ev_mc", DataType::Float64, true),
        Field::new("passes", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["topk", "relu", "line\nbreak | \u{1b}[31m"])),
        Arc::new(Float64Array::from(vec![Some(0.931_249), Some(1.0), None])),
        Arc::new(Int64Array::from(vec![12, 123_456, 0])),
    ];
    make(Kind::Table, |writer| {
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
        let meta = TableMeta { title: "Methods".to_string(), description: "How well each does.".to_string() };
        write_table(writer, batch.schema(), [Ok(batch)], &meta).unwrap();
    })
}

pub(super) fn labels() -> Made {
    make(Kind::Labels, |writer| {
        let mut labels = LabelsWriter::new(writer).unwrap();
        labels.label(LabelRow { document: 0, span: None, variable: "template", value: "ioi-1" }).unwrap();
        labels.label(LabelRow { document: 0, span: Some((4, 9)), variable: "name", value: "Alice" }).unwrap();
        labels.label(LabelRow { document: 1, span: Some((0, 3)), variable: "name", value: "Bob" }).unwrap();
        labels.finish().unwrap();
    })
}

/// Vectors of 4 numbers at a residual stream and of 2 heads of 3 at an attention output.
pub(super) fn activations() -> Made {
    let hooks = [
        HookFact { name: "blocks.0.hook_resid_post".to_string(), shape: vec![4] },
        HookFact { name: "blocks.0.attn.hook_z".to_string(), shape: vec![2, 3] },
    ];
    let rows = 6u32;
    make(Kind::Activations, |writer| {
        let mut activations = ActivationsWriter::new(writer, &hooks, DType::F32).unwrap();
        for row in 0..rows {
            activations.index(&[row / 3], &[row % 3], &[100 + row as i32]).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "below six")]
            let x = row as f32;
            let [resid, z] = activations.hooks_mut() else { unreachable!() };
            resid.write_f32(&[x, -x, 0.5, if row == 5 { f32::NAN } else { 3.0 }]).unwrap();
            z.write_f32(&[x, x, x, 1.0, 1.0, 1.0]).unwrap();
        }
        let meta = ActivationsMeta {
            model: Digest::of(b"model"),
            tokens: Digest::of(b"tokens"),
            hooks: hooks.to_vec(),
            dtype: DType::F32,
            positions: "all".to_string(),
            prepend_bos: true,
            context: 3,
            rows: rows.into(),
            processing: Processing::default(),
        };
        activations.finish(&meta).unwrap();
    })
}

pub(super) fn tokens() -> Made {
    make(Kind::Tokens, |writer| {
        let mut tokens = TokensWriter::new(writer).unwrap();
        for length in [3usize, 5, 2] {
            let ids: Vec<i32> = (0..length as i32).collect();
            let mask: Vec<bool> = (0..length).map(|i| i > 0).collect();
            let zeros = vec![0u32; length];
            let ends: Vec<u32> = (0..length as u32).collect();
            tokens.sequence(Sequence { ids: &ids, mask: &mask, document: &zeros, start: &zeros, end: &ends }).unwrap();
        }
        let meta = TokensMeta {
            tokenizer: Some(Digest::of(b"tokenizer")),
            vocab_size: 2000,
            context: 5,
            packed: false,
            prepend_bos: true,
            bos: Some(0),
            separator: None,
            split: "test".to_string(),
            documents: 1,
            tokens: tokens.tokens(),
            sequences: tokens.sequences(),
        };
        tokens.finish(&meta).unwrap();
    })
}

pub(super) fn dictionary() -> Made {
    make(Kind::Dictionary, |writer| {
        let mut dictionary = DictionaryWriter::new(writer).unwrap();
        dictionary.tensor("W_enc", DType::F32, &[4, 8], &[0; 128]).unwrap();
        dictionary.tensor("b_enc", DType::F32, &[8], &[0; 32]).unwrap();
        for (step, loss) in [(0, 12.5), (100, 3.25), (200, 0.031_25)] {
            let row = |name: &str, value| CurveRow { step, tokens: step * 4096, name: name.to_string(), value };
            dictionary.curve(&[row("mse", loss), row("l0", 16.0)]).unwrap();
        }
        let meta = DictionaryMeta {
            architecture: "topk".to_string(),
            d_in: 4,
            d_sae: 8,
            hook: "blocks.0.hook_resid_post".to_string(),
            hook_out: None,
            d_out: None,
            config: json!({ "d_sae": 8, "sae": { "architecture": "topk", "k": 16 }, "lr": 3e-4 }),
            model: Some(Digest::of(b"model")),
        };
        dictionary.finish(&meta).unwrap();
    })
}

pub(super) fn model() -> Made {
    make(Kind::Model, |writer| {
        let mut model = ModelWriter::new(writer).unwrap();
        model.tensor("wte.weight", DType::F32, &[8, 4], &[0; 128]).unwrap();
        for layer in 0..3 {
            model.tensor(&format!("h.{layer}.ln_1.weight"), DType::F32, &[4], &[0; 16]).unwrap();
            model.tensor(&format!("h.{layer}.mlp.c_fc.weight"), DType::F16, &[4, 16], &[0; 128]).unwrap();
        }
        model.file("config.json", b"{}").unwrap();
        model.file("tokenizer.json", b"{\"version\": \"1.0\"}").unwrap();
        let meta = ModelMeta {
            architecture: "gpt2".to_string(),
            config: json!({ "model_type": "gpt2", "n_layer": 3, "n_embd": 4, "n_head": 2, "n_positions": 1024, "vocab_size": 8, "n_inner": null }),
            norms: Norms::Live,
            processing: Processing { fold_ln: true, center_writing_weights: true, ..Processing::default() },
            tokenizer: Some(Digest::of(b"{\"version\": \"1.0\"}")),
            parameters: 236,
        };
        model.finish(&meta).unwrap();
    })
}

pub(super) fn tokenizer() -> Made {
    make(Kind::Tokenizer, |writer| {
        write_tokenizer(writer, 2000, &[("tokenizer.json", b"{\"version\": \"1.0\"}")]).unwrap();
    })
}

/// Two prompts with a counterfactual each, the second of another task.
pub(super) fn prompts() -> Made {
    let version = |text: &str, ids: [i32; 4], right: &[i32], wrong: &[i32]| Version {
        text: text.to_string(),
        ids: ids.to_vec(),
        right: right.to_vec(),
        wrong: wrong.to_vec(),
        spans: BTreeMap::from([("subject".to_string(), (1, 2)), ("end".to_string(), (3, 4))]),
        variables: BTreeMap::from([("order".to_string(), "abba".to_string())]),
    };
    let ioi = Prompt {
        task: "ioi".to_string(),
        template: "store".to_string(),
        group: "store/Mary/John".to_string(),
        clean: version("Mary and John", [0, 11, 12, 13], &[11], &[13]),
        counterfactuals: vec![version("John and Mary", [0, 13, 12, 11], &[13], &[11])],
    };
    let years = Prompt {
        task: "greater_than".to_string(),
        template: "war".to_string(),
        group: "war/17".to_string(),
        clean: version("from 1741 to 17", [0, 5, 6, 7], &[42, 43, 44], &[39, 40]),
        counterfactuals: vec![version("from 1701 to 17", [0, 5, 8, 7], &[2, 3], &[0, 1])],
    };
    make(Kind::Prompts, |writer| {
        let names = ["flip".to_string()];
        write_prompts(writer, &names, Digest::of(b"tokenizer"), 2000, true, &[ioi.clone(), years, ioi]).unwrap();
    })
}

pub(super) fn head(layer: u32, unit: u32) -> Mediator {
    let hook = format!("blocks.{layer}.attn.hook_z");
    Mediator {
        name: format!("{hook}[{unit}]"),
        kind: "head".to_string(),
        hook: Some(hook),
        layer: Some(layer),
        unit: Some(unit),
        ..Mediator::default()
    }
}

/// Residuals at a position or span.
pub(super) fn residual(layer: u32, position: Option<u32>, span: Option<&str>) -> Mediator {
    let hook = format!("blocks.{layer}.hook_resid_pre");
    let at = span.map_or_else(|| position.unwrap_or_default().to_string(), str::to_string);
    Mediator {
        name: format!("{hook}@{at}"),
        kind: "residual".to_string(),
        hook: Some(hook),
        layer: Some(layer),
        position,
        span: span.map(str::to_string),
        ..Mediator::default()
    }
}

/// Heads of two layers patched on two examples.
pub(super) fn effects() -> Made {
    let mediators: Vec<Mediator> = (0..4).map(|i| head(i / 2, i % 2)).collect();
    let example = |task: &str| Example { task: task.to_string(), ..Example::default() };
    make(Kind::Effects, |writer| {
        let examples = [example("ioi"), example("greater_than")];
        let mut effects = EffectsWriter::new(writer, &examples, &mediators).unwrap();
        let effect = |i: u32| Effect {
            example: i / 4,
            mediator: i % 4,
            clean: 3.5,
            counterfactual: Some(-1.25),
            patched: if i == 1 { f64::NAN } else { f64::from(i) / 3.0 },
        };
        effects.extend((0..8).map(effect)).unwrap();
        let meta = EffectsMeta {
            method: "activation_patching".to_string(),
            metric: "logit_difference".to_string(),
            unit: "nats".to_string(),
            contrast: Contrast::Restored,
            counterfactual: Some("flip".to_string()),
            model: Digest::of(b"model"),
            prompts: Digest::of(b"prompts"),
            passes: 6.5,
            settings: BTreeMap::from([("positions".to_string(), "all".to_string())]),
            examples: 2,
            mediators: 4,
            effects: 8,
        };
        effects.finish(meta).unwrap();
    })
}

/// Scores of these values.
pub(super) fn scores(values: impl IntoIterator<Item = (Mediator, f64)>) -> Made {
    let score = |(mediator, value): (Mediator, f64)| ScoreRow {
        mediator,
        value,
        numerator: value * 4.75,
        denominator: 4.75,
        n: 100,
        low: Some(value - 0.0625),
        high: Some(value + 0.0625),
    };
    let rows: Vec<ScoreRow> = values.into_iter().map(score).collect();
    make(Kind::Scores, |writer| {
        let meta = ScoresMeta {
            method: "activation_patching".to_string(),
            metric: "logit_difference".to_string(),
            unit: "nats".to_string(),
            contrast: Contrast::Lost,
            counterfactual: None,
            passes: 48.0,
            settings: BTreeMap::new(),
            seed: 0,
            scores: 0,
        };
        write_scores(writer, meta, &rows).unwrap();
    })
}

/// A subspace of rank 2 and one of rank 1.
pub(super) fn directions() -> Made {
    let row = |positions: &str, rank, index, value, vector: [f32; 2]| DirectionRow {
        hook: "blocks.0.hook_resid_post".to_string(),
        positions: positions.to_string(),
        rank,
        index,
        value: Some(value),
        vector: vector.to_vec(),
    };
    let rows = [
        row("\"last\"", 2, 0, 0.75, [0.6, 0.8]),
        row("\"last\"", 2, 1, 0.25, [0.8, -0.6]),
        row("{\"span\":\"s2\"}", 1, 0, 0.5, [1.0, 0.0]),
    ];
    let meta = DirectionsMeta {
        method: "pca".to_string(),
        nested: true,
        value: Some("explained_variance".to_string()),
        model: Some(Digest::of(b"model")),
        settings: BTreeMap::from([("centred".to_string(), "true".to_string())]),
        passes: 1.5,
        ..DirectionsMeta::default()
    };
    make(Kind::Directions, |writer| {
        write_directions(writer, meta, &rows).unwrap();
    })
}

/// One artifact of every kind.
pub(super) fn all() -> Vec<Made> {
    vec![
        model(),
        tokenizer(),
        tokens(),
        prompts(),
        labels(),
        activations(),
        dictionary(),
        directions(),
        effects(),
        scores([(head(0, 0), 1.0)]),
        metrics(&[]),
        plain_files(),
        table(),
    ]
}
