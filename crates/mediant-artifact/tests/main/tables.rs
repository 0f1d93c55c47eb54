//! Tables: bytes, parts, order of writing.

use arrow::array::{Array, UInt32Array};
use arrow::compute::concat_batches;
use mediant_artifact::{Artifact, ArtifactWriter, Error, Kind, table_digest};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::support::{files, rows, schema, write_rows, writer};

#[test]
fn bytes_depend_on_the_rows_alone() {
    let write = |batch| {
        let dir = tempfile::tempdir().unwrap();
        write_rows(dir.path(), 5_000, batch, 1 << 16);
        files(dir.path())
    };
    let once = write(5_000);
    assert_eq!(once.len(), 2, "one part and the manifest");
    for batch in [5_000, 1, 7, 1023, 1024, 1025] {
        assert!(write(batch) == once, "batches of {batch} rows give other bytes");
    }
}

#[test]
fn a_table_of_many_parts_reads_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_rows(dir.path(), 150_000, 40_000, 1 << 16);
    let parts: Vec<_> = manifest.tables["rows"].parts.iter().map(|part| (part.file.as_str(), part.rows)).collect();
    assert_eq!(parts, [("rows-00000.parquet", 65_536), ("rows-00001.parquet", 65_536), ("rows-00002.parquet", 18_928)]);
    let artifact = Artifact::open(dir.path()).unwrap();
    artifact.verify().unwrap();
    assert_eq!(artifact.rows("rows").unwrap(), 150_000);
    assert_eq!(artifact.read("rows").unwrap(), rows(0, 150_000));
}

#[test]
fn some_columns_can_be_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path(), 3_000, 3_000, 1_000);
    let artifact = Artifact::open(dir.path()).unwrap();
    let batches: Vec<_> = artifact.columns("rows", &["row"]).unwrap().map(Result::unwrap).collect();
    let read = concat_batches(&batches[0].schema(), &batches).unwrap();
    let row = read.column(0).as_any().downcast_ref::<UInt32Array>().unwrap();
    assert_eq!((read.num_columns(), row.values().to_vec()), (1, (0..3_000).collect()));
    let mut missing = artifact.columns("rows", &["rwo"]).unwrap();
    assert!(matches!(missing.next(), Some(Err(Error::Damaged { .. }))));
    assert!(missing.next().is_none());
}

#[test]
fn the_logical_digest_survives_another_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_rows(dir.path(), 70_000, 70_000, 1 << 16);
    let logical = manifest.tables["rows"].logical;
    for part_rows in [1_000, 1_001, 69_999] {
        let other = tempfile::tempdir().unwrap();
        let manifest = write_rows(other.path(), 70_000, 333, part_rows);
        assert_eq!(manifest.tables["rows"].logical, logical, "parts of {part_rows} rows");
    }
    // Another writer altogether: no compression, no dictionary, row groups of 999 rows.
    let path = dir.path().join("other.parquet");
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(999))
        .build();
    let mut other = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema(), Some(properties)).unwrap();
    other.write(&rows(0, 70_000)).unwrap();
    other.close().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
    let batches = reader.with_batch_size(4_321).build().unwrap();
    assert_eq!(table_digest(schema().fields(), batches.map(|batch| Ok(batch?))).unwrap(), logical);
}

#[test]
fn a_table_without_rows_keeps_its_schema() {
    let (dir, writer) = writer(Kind::Table);
    writer.table("rows", schema()).unwrap().close().unwrap();
    writer.finish(&()).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    artifact.verify().unwrap();
    let read = artifact.read("rows").unwrap();
    assert_eq!((read.num_rows(), read.schema()), (0, schema()));
}

#[test]
fn names_of_tables_stay_inside_the_folder() {
    let (dir, writer) = writer(Kind::Table);
    for name in ["../up", ".hidden", "a/b", "blocks.0.hook_resid_pre", "sae[k=1]"] {
        writer.table(name, schema()).unwrap().close().unwrap();
    }
    writer.finish(&()).unwrap();
    let names: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "%2E.%2Fup-00000.parquet",
            "%2Ehidden-00000.parquet",
            "a%2Fb-00000.parquet",
            "blocks.0.hook_resid_pre-00000.parquet",
            "manifest.json",
            "sae%5Bk%3D1%5D-00000.parquet",
        ]
    );
    Artifact::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn mistakes_of_the_caller_are_errors() {
    let (_dir, writer) = writer(Kind::Table);
    let mut table = writer.table("rows", schema()).unwrap();
    let message = |error: Error| error.to_string();
    assert_eq!(message(writer.table("rows", schema()).err().unwrap()), "there is a table `rows` already");
    assert!(writer.table("", schema()).is_err());
    assert!(writer.table(&"x".repeat(81), schema()).is_err());
    let other = rows(0, 1).project(&[0, 2]).unwrap();
    assert_eq!(
        message(table.write(&other).unwrap_err()),
        "table `rows` has (name: utf8 not null, value: float64, row: uint32 not null), \
         not (name: utf8 not null, row: uint32 not null)"
    );
    assert_eq!(message(writer.finish(&()).unwrap_err()), "table `rows` was not closed");
    let (dir, _) = self::writer(Kind::Table);
    std::fs::write(dir.path().join("a"), "").unwrap();
    assert!(ArtifactWriter::create(dir.path(), Kind::Table).is_err());
}

#[test]
fn tables_are_written_from_several_threads() {
    let (dir, writer) = writer(Kind::Table);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let mut table = writer.table(name, schema()).unwrap();
            scope.spawn(move || {
                (0..50).for_each(|i| table.write(&rows(i * 100, (i + 1) * 100)).unwrap());
                table.close().unwrap();
            });
        }
    });
    let manifest = writer.finish(&()).unwrap();
    assert_eq!(manifest.tables["a"].logical, manifest.tables["c"].logical);
    assert_eq!(Artifact::open(dir.path()).unwrap().read("b").unwrap().column(2).len(), 5_000);
}

#[test]
fn the_manifest_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path(), 10, 10, 1 << 16);
    let artifact = Artifact::open(dir.path()).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["format", "kind", "logical", "meta", "tables"]);
    assert_eq!(json["tables"]["rows"]["schema"], "name: utf8 not null, value: float64, row: uint32 not null");
    assert_eq!(json["logical"], artifact.manifest().logical.to_string());
    assert!(matches!(artifact.rows("rwos"), Err(Error::NoTable { .. })));
    assert_eq!(artifact.batches("x").err().unwrap().to_string(), "no table `x` in this table artifact; it has rows");
}
