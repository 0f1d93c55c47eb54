//! `mediant export`: one Parquet file.

use std::os::unix::fs::PermissionsExt;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::UInt32Type;
use mediant_artifact::{Artifact, DType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::kinds::{activations, hooks};
use crate::support::{number, rows, write_rows};

#[test]
fn activations_become_one_table() {
    let (dir, rows) = activations(DType::F16, 70_000);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("acts.parquet");
    std::fs::write(&path, "what was there before").unwrap();
    Artifact::open(dir.path()).unwrap().export_parquet(&path).unwrap();
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "nothing beside it is left");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o600, 0o600);

    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["example", "position", "token", &hooks()[0].name, &hooks()[1].name]);
    assert_eq!(schema.field(4).metadata()["dtype"], "float16");
    assert_eq!(schema.field(4).metadata()["shape"], "[2,3]");
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let table = concat_batches(&schema, &batches).unwrap();
    assert_eq!(table.num_rows() as u64, rows);
    assert_eq!(table.column(1).as_primitive::<UInt32Type>().value(69_999), 69_999 % 10);
    for row in [0, 65_535, 65_536, 69_999] {
        let bytes = table.column(4).as_fixed_size_binary().value(row as usize);
        let numbers: Vec<f32> =
            bytes.chunks(2).map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect();
        assert_eq!(numbers, (0..6).map(|column| number(row, column)).collect::<Vec<_>>());
    }
}

#[test]
fn other_kinds_keep_their_table() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path(), 70_000, 1_000, 1 << 14);
    let path = dir.path().join("out.parquet");
    Artifact::open(dir.path()).unwrap().export_parquet(&path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(concat_batches(&schema, &batches).unwrap(), rows(0, 70_000));
}

#[test]
fn a_file_appears_only_when_complete() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path(), 100, 100, 1 << 16);
    std::fs::write(dir.path().join("rows-00000.parquet"), "short").unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = Artifact::open(dir.path()).unwrap().export_parquet(&out.path().join("x.parquet")).unwrap_err();
    assert!(error.to_string().contains("rows-00000.parquet: 5 bytes, its manifest says"), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}
