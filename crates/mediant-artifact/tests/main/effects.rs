//! Effects and scores: what is written comes back, and what is neither does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray, UInt32Array};
use mediant_artifact::{
    Artifact, ArtifactWriter, Contrast, Digest, Effect, Effects, EffectsMeta, EffectsWriter, Error, Example, Kind,
    Mediator, Result, ScoreRow, ScoresMeta, read_scores, write_scores,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{files, forge, forge_meta, with_column, writer};

fn examples(count: u32) -> Vec<Example> {
    let text = |name: &str, i: u32| format!("{name}{i}");
    let example = |i| Example { task: "ioi".to_owned(), template: text("t", i % 4), group: text("g", i % 7) };
    (0..count).map(example).collect()
}

/// Heads at positions, and an edge.
fn mediators(count: u32) -> Vec<Mediator> {
    let head = |i: u32| Mediator {
        name: format!("blocks.{}.attn.hook_z[{}]@{i}", i / 12, i % 12),
        kind: "head".to_owned(),
        hook: Some(format!("blocks.{}.attn.hook_z", i / 12)),
        layer: Some(i / 12),
        unit: Some(i % 12),
        position: Some(i),
        span: (i.is_multiple_of(2)).then(|| "subject".to_owned()),
        ..Mediator::default()
    };
    let edge = Mediator {
        name: "a → b".to_owned(),
        kind: "edge".to_owned(),
        source: Some("a".to_owned()),
        target: Some("b".to_owned()),
        ..Mediator::default()
    };
    (1..count).map(head).chain([edge]).collect()
}

fn effects(examples: u32, mediators: u32) -> impl Iterator<Item = Effect> {
    let effect = move |i: u32| Effect {
        example: i / mediators,
        mediator: i % mediators,
        clean: f64::from(i).sqrt(),
        counterfactual: Some(if i == 7 { f64::NEG_INFINITY } else { -f64::from(i) }),
        patched: f64::from(i) / 3.0,
    };
    (0..examples * mediators).map(effect)
}

fn meta() -> EffectsMeta {
    EffectsMeta {
        method: "activation_patching".to_owned(),
        metric: "logit_difference".to_owned(),
        unit: "nats".to_owned(),
        contrast: Contrast::Restored,
        counterfactual: Some("s2_io_flip".to_owned()),
        model: Digest::of(b"model"),
        prompts: Digest::of(b"prompts"),
        passes: 12.5,
        settings: BTreeMap::from([("reference".to_owned(), "clean".to_owned())]),
        examples: 0,
        mediators: 0,
        effects: 0,
    }
}

fn write(writer: ArtifactWriter, rows: u32, columns: u32) {
    let mut writer = EffectsWriter::new(writer, &examples(rows), &mediators(columns)).unwrap();
    writer.extend(effects(rows, columns)).unwrap();
    assert_eq!(writer.effects(), u64::from(rows * columns));
    writer.finish(meta()).unwrap();
}

pub(crate) fn written(rows: u32, columns: u32) -> (TempDir, Artifact) {
    let (dir, artifact) = writer(Kind::Effects);
    write(artifact, rows, columns);
    let artifact = Artifact::open(dir.path()).unwrap();
    (dir, artifact)
}

pub(crate) fn read(artifact: &Artifact) -> Result<Vec<Effect>> {
    Effects::open(artifact)?.rows()?.collect()
}

#[test]
fn effects_come_back() {
    let dir = tempfile::tempdir().unwrap();
    write(ArtifactWriter::create_in_parts(dir.path(), Kind::Effects, 3_000).unwrap(), 41, 1_500);
    let artifact = Artifact::open(dir.path()).unwrap();
    artifact.verify().unwrap();
    let read = Effects::open(&artifact).unwrap();
    assert_eq!(read.meta, EffectsMeta { examples: 41, mediators: 1_500, effects: 61_500, ..meta() });
    assert!(read.examples == examples(41) && read.mediators == mediators(1_500));
    assert!(read.rows().unwrap().map(Result::unwrap).eq(effects(41, 1_500)));
    let batches: Vec<_> = read.batches().unwrap().map(Result::unwrap).collect();
    assert!(batches.len() > 50 && batches.iter().all(|batch| batch.len() <= 1_024));
    assert_eq!(written(41, 1_500).1.manifest().logical, artifact.manifest().logical, "parts count");
    assert!(self::read(&written(0, 1).1).unwrap().is_empty());
}

#[test]
fn numbers_are_kept_to_the_bit() {
    let values = [f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE / 2.0, 0.1 + 0.2];
    let (dir, artifact) = writer(Kind::Effects);
    let mut writer = EffectsWriter::new(artifact, &examples(5), &mediators(1)).unwrap();
    for (example, value) in (0..).zip(values) {
        writer.push(Effect { example, mediator: 0, clean: value, counterfactual: None, patched: -value }).unwrap();
    }
    writer.finish(EffectsMeta { contrast: Contrast::Share, counterfactual: None, ..meta() }).unwrap();
    let rows = read(&Artifact::open(dir.path()).unwrap()).unwrap();
    for (row, value) in rows.iter().zip(values) {
        assert_eq!((row.clean.to_bits(), row.patched.to_bits()), (value.to_bits(), (-value).to_bits()));
        assert_eq!(row.counterfactual, None);
    }
}

#[test]
fn bytes_depend_on_the_effects_alone() {
    let ((one, _), (other, artifact)) = (written(30, 100), written(30, 100));
    assert!(files(one.path()) == files(other.path()));
    // Keys rest on this digest.
    assert_eq!(
        artifact.manifest().logical.to_string(),
        "ae00a952efd57baab6fab6e6f53d5da4cd51630ec4a8322bd012be5408a82d3e"
    );
}

#[test]
fn what_is_no_effect_is_not_written() {
    let start = |mediators: &[Mediator]| {
        let (_dir, artifact) = writer(Kind::Effects);
        EffectsWriter::new(artifact, &examples(2), mediators).err().map(|error| error.to_string())
    };
    let twice = vec![mediators(1).remove(0); 2];
    assert_eq!(start(&twice).unwrap(), "there are two mediators `a → b`");
    assert!(start(&[Mediator { name: String::new(), ..twice[0].clone() }]).is_some());
    assert!(start(&[Mediator { kind: String::new(), ..twice[0].clone() }]).is_some());

    let (_dir, artifact) = writer(Kind::Effects);
    let mut writer = EffectsWriter::new(artifact, &examples(2), &mediators(3)).unwrap();
    let effect = Effect { example: 1, mediator: 2, clean: 1.0, counterfactual: None, patched: 1.0 };
    assert!(writer.push(Effect { example: 2, ..effect }).is_err());
    assert!(writer.extend([Effect { mediator: 3, ..effect }]).is_err());
    writer.push(effect).unwrap();
    assert_eq!(
        writer.finish(meta()).unwrap_err().to_string(),
        "1 effects have no counterfactual value for (patched − counterfactual) / (clean − counterfactual)"
    );
    for passes in [f64::NAN, f64::INFINITY, -1.0] {
        let (_dir, artifact) = self::writer(Kind::Effects);
        let writer = EffectsWriter::new(artifact, &examples(2), &mediators(3)).unwrap();
        assert!(writer.finish(EffectsMeta { passes, ..meta() }).is_err(), "{passes}");
    }
    let (_dir, artifact) = self::writer(Kind::Scores);
    assert!(matches!(EffectsWriter::new(artifact, &[], &[]), Err(Error::WrongKind { .. })));
}

#[test]
fn forged_effects_are_errors() {
    let (_dir, good) = written(3, 1_000);
    let refused = |table: &str, change: &dyn Fn(RecordBatch) -> RecordBatch| {
        let (_dir, forged) = forge(&good, table, change);
        assert!(matches!(read(&forged), Err(Error::Damaged { .. })), "{table}");
    };
    let indexes = |name: &'static str| {
        move |rows: RecordBatch| {
            with_column(&rows, name, Arc::new(UInt32Array::from_iter_values((0..rows.num_rows() as u32).rev())))
        }
    };
    refused("examples", &indexes("example"));
    refused("mediators", &indexes("mediator"));
    refused("effects", &indexes("example"));
    refused("effects", &indexes("mediator"));
    for table in ["examples", "mediators", "effects"] {
        refused(table, &|rows| rows.slice(0, rows.num_rows() - 1));
    }
    let same = |rows: RecordBatch| {
        with_column(&rows, "name", Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| "same"))))
    };
    refused("mediators", &same);
    let without = |rows: RecordBatch| {
        let numbers = (0..rows.num_rows()).map(|i| (i != 2_000).then_some(1.0));
        with_column(&rows, "counterfactual", Arc::new(numbers.collect::<Float64Array>()))
    };
    refused("effects", &without);
    let (_dir, forged) = forge(&good, "effects", without);
    let effects = Effects::open(&forged).unwrap();
    let mut batches = effects.batches().unwrap();
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().unwrap().is_err(), "2,000 is in the second batch");
    assert!(batches.next().is_none());

    for (field, value) in [
        ("effects", json!(2_999)),
        ("examples", json!(4)),
        ("mediators", json!(0)),
        ("passes", json!(-1.0)),
        ("passes", json!(null)),
        ("contrast", json!("lostofclean")),
    ] {
        let (_dir, forged) = forge_meta(&good, field, value.clone());
        assert!(read(&forged).is_err(), "{field}: {value}");
    }
}

#[test]
fn contrasts_have_a_name_and_a_formula() {
    for (contrast, name, needs) in [
        (Contrast::Restored, "restored", true),
        (Contrast::Lost, "lost", true),
        (Contrast::LostOfClean, "lost_of_clean", false),
        (Contrast::Share, "share", false),
        (Contrast::Mean, "mean", false),
        (Contrast::Mask, "mask", false),
        (Contrast::Truth, "truth", false),
    ] {
        assert_eq!(serde_json::to_value(contrast).unwrap(), name);
        assert_eq!((contrast.needs_counterfactual(), contrast.formula().contains("counterfactual")), (needs, needs));
    }
}

fn scores_meta() -> ScoresMeta {
    let EffectsMeta { method, metric, unit, contrast, counterfactual, passes, settings, .. } = meta();
    ScoresMeta { method, metric, unit, contrast, counterfactual, passes, settings, seed: u64::MAX, scores: 0 }
}

fn scores(count: u32) -> Vec<ScoreRow> {
    let score = |(i, mediator): (u32, Mediator)| ScoreRow {
        mediator,
        value: f64::from(i) / 7.0,
        numerator: f64::from(i),
        denominator: 7.0,
        n: 1_000 + u64::from(i),
        low: (i % 2 == 0).then_some(-0.5),
        high: (i % 2 == 0).then_some(f64::from(i)),
    };
    (0..).zip(mediators(count)).map(score).collect()
}

fn scored(rows: &[ScoreRow]) -> (TempDir, Artifact) {
    let (dir, artifact) = writer(Kind::Scores);
    write_scores(artifact, scores_meta(), rows).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    (dir, artifact)
}

#[test]
fn scores_come_back() {
    let (dir, artifact) = scored(&scores(2_500));
    artifact.verify().unwrap();
    let (meta, rows) = read_scores(&artifact).unwrap();
    assert_eq!(meta, ScoresMeta { scores: 2_500, ..scores_meta() });
    assert!(rows == scores(2_500));
    let columns: Vec<String> =
        artifact.read("scores").unwrap().schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(columns[9..14], ["kept", "of", "weighted_edges", "draw", "value"]);
    assert!(files(dir.path()) == files(scored(&scores(2_500)).0.path()));
    assert_eq!(
        scored(&scores(10)).1.manifest().logical.to_string(),
        "742664f3cabf2004cb9b84785221b66f44b22e97cdcab6397c4eb1c540d99621",
        "keys rest on this digest"
    );
    assert!(read_scores(&scored(&[]).1).unwrap().1.is_empty());
}

#[test]
fn what_is_no_score_is_neither_written_nor_read() {
    let refused = |change: fn(&mut ScoreRow)| {
        let mut rows = scores(5);
        change(&mut rows[2]);
        let (_dir, artifact) = writer(Kind::Scores);
        write_scores(artifact, scores_meta(), &rows).is_err()
    };
    assert!(!refused(|row| (row.value, row.low) = (f64::NAN, Some(f64::NAN))));
    assert!(refused(|row| row.low = None));
    assert!(refused(|row| row.high = Some(-0.6)));
    assert!(refused(|row| row.mediator.name = "a → b".to_owned()));
    let (_dir, artifact) = writer(Kind::Scores);
    assert!(write_scores(artifact, ScoresMeta { passes: f64::NAN, ..scores_meta() }, &[]).is_err());

    let (_dir, good) = scored(&scores(5));
    let half = |rows: RecordBatch| with_column(&rows, "low", Arc::new(Float64Array::from(vec![Some(0.0); 5])));
    for (table, change) in
        [("scores", &half as &dyn Fn(RecordBatch) -> RecordBatch), ("scores", &|rows| rows.slice(1, 4))]
    {
        let (_dir, forged) = forge(&good, table, change);
        assert!(matches!(read_scores(&forged), Err(Error::Damaged { .. })));
    }
    for (field, value) in [("scores", json!(6)), ("passes", json!("many")), ("seed", json!(-1))] {
        let (_dir, forged) = forge_meta(&good, field, value.clone());
        assert!(read_scores(&forged).is_err(), "{field}: {value}");
    }
}
