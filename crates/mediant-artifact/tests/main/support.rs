//! Writing small artifacts.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mediant_artifact::{Artifact, ArtifactWriter, DType, Kind, Manifest, VectorSpec};
use tempfile::TempDir;

/// A writer in a fresh folder, which lives as long as the first value.
pub(crate) fn writer(kind: Kind) -> (TempDir, ArtifactWriter) {
    let dir = tempfile::tempdir().unwrap();
    let writer = ArtifactWriter::create(dir.path(), kind).unwrap();
    (dir, writer)
}

/// A table with a string, a number that may be null, and a counter.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("row", DataType::UInt32, false),
    ]))
}

/// Rows `from..to` of that table.
pub(crate) fn rows(from: u32, to: u32) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((from..to).map(|i| format!("row {}", i % 97)))),
        Arc::new((from..to).map(|i| (i % 5 != 0).then_some(f64::from(i) / 3.0)).collect::<Float64Array>()),
        Arc::new(UInt32Array::from_iter_values(from..to)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Writes `count` of these rows in batches of `batch` rows.
pub(crate) fn write_rows(dir: &Path, count: u32, batch: u32, part_rows: u64) -> Manifest {
    let writer = ArtifactWriter::create_in_parts(dir, Kind::Table, part_rows).unwrap();
    let mut table = writer.table("rows", schema()).unwrap();
    for from in (0..count).step_by(batch as usize) {
        table.write(&rows(from, count.min(from + batch))).unwrap();
    }
    table.close().unwrap();
    writer.finish(&serde_json::json!({ "title": "t", "description": "" })).unwrap()
}

/// Numbers that tell every place of a table of vectors, and that every format holds exactly.
pub(crate) fn number(row: u64, column: usize) -> f32 {
    ((row % 16) * 16 + column as u64 % 16) as f32 - 100.0
}

/// Rows `from..to` of a table of vectors of this width.
pub(crate) fn numbers(from: u64, to: u64, width: usize) -> Vec<f32> {
    (from..to).flat_map(|row| (0..width).map(move |column| number(row, column))).collect()
}

/// Writes `count` vectors in calls of `batch` rows.
pub(crate) fn write_vectors(
    dir: &Path,
    count: u64,
    shape: &[usize],
    dtype: DType,
    batch: u64,
    part_rows: u64,
) -> Artifact {
    let writer = ArtifactWriter::create_in_parts(dir, Kind::Table, part_rows).unwrap();
    let mut vectors = writer.vectors("v", VectorSpec::new(dtype, shape)).unwrap();
    let width = shape.iter().product();
    for from in (0..count).step_by(batch as usize) {
        vectors.write_f32(&numbers(from, count.min(from + batch), width)).unwrap();
    }
    assert_eq!(vectors.rows(), count);
    vectors.close().unwrap();
    writer.finish(&()).unwrap();
    Artifact::open(dir).unwrap()
}

/// The bytes of every file in a folder, by name.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The same artifact with one table replaced by `table(rows)`, as a program that knows the layout but not its rules
/// might write it; the files are whole and their digests right.
pub(crate) fn forge(
    original: &Artifact,
    changed: &str,
    table: impl Fn(RecordBatch) -> RecordBatch,
) -> (TempDir, Artifact) {
    let (dir, writer) = writer(original.kind());
    for name in original.table_names() {
        let rows = original.read(name).unwrap();
        let rows = if name == changed { table(rows) } else { rows };
        let mut copy = writer.table(name, rows.schema()).unwrap();
        copy.write(&rows).unwrap();
        copy.close().unwrap();
    }
    writer.finish(&original.manifest().meta).unwrap();
    let forged = Artifact::open(dir.path()).unwrap();
    forged.verify().unwrap();
    (dir, forged)
}

/// The same artifact with one field of its meta replaced.
pub(crate) fn forge_meta(original: &Artifact, field: &str, value: serde_json::Value) -> (TempDir, Artifact) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(original.dir()) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let mut manifest = original.manifest().clone();
    assert!(manifest.meta.get(field).is_some_and(|before| *before != value), "{field}");
    manifest.meta[field] = value;
    std::fs::write(dir.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    let forged = Artifact::open(dir.path()).unwrap();
    (dir, forged)
}

/// A table with a column replaced.
pub(crate) fn with_column(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let index = rows.schema().index_of(name).unwrap();
    let mut columns = rows.columns().to_vec();
    columns[index] = column;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}
