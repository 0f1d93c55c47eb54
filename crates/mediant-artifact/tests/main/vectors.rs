//! Vectors: bytes, gathering rows, going on from a checkpoint.

use arrow::array::AsArray;
use mediant_artifact::{Artifact, ArtifactWriter, DType, Kind, VectorSpec, table_digest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{files, number, numbers, write_vectors, writer};

#[test]
fn bytes_depend_on_the_rows_alone() {
    let write = |batch| {
        let dir = tempfile::tempdir().unwrap();
        write_vectors(dir.path(), 70_000, &[3, 5], DType::F16, batch, 1 << 16);
        files(dir.path())
    };
    let once = write(70_000);
    assert_eq!(once.len(), 3, "two parts and the manifest");
    for batch in [70_000, 1, 4_095, 65_537] {
        assert!(write(batch) == once, "writes of {batch} rows give other bytes");
    }
}

#[test]
fn the_logical_digest_is_that_of_the_column() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = write_vectors(dir.path(), 70_000, &[6], DType::F32, 1_234, 1 << 16);
    artifact.verify().unwrap();
    let logical = artifact.manifest().tables["v"].logical;
    let mut batches = artifact.batches("v").unwrap();
    let schema = batches.schema().unwrap();
    assert_eq!(table_digest(schema.fields(), batches).unwrap(), logical);
    for part_rows in [1, 1_000, 65_535] {
        let other = tempfile::tempdir().unwrap();
        let artifact = write_vectors(other.path(), 70_000.min(part_rows * 2_000), &[6], DType::F32, 999, part_rows);
        artifact.verify().unwrap();
        if artifact.rows("v").unwrap() == 70_000 {
            assert_eq!(artifact.manifest().tables["v"].logical, logical, "parts of {part_rows} rows");
        }
    }
}

#[test]
fn gathering_gives_what_arrow_decodes() {
    // Narrow rows of many pages, rows of one page each, several parts, the last of them short.
    for (count, shape, part_rows) in
        [(140_000, vec![8], 1 << 16), (40, vec![2, 70_000], 16), (1_000, vec![3], 7), (1, vec![1], 1 << 16)]
    {
        for dtype in DType::ALL {
            let dir = tempfile::tempdir().unwrap();
            let artifact = write_vectors(dir.path(), count, &shape, dtype, 1_000, part_rows);
            let vectors = artifact.vectors("v").unwrap();
            let width: usize = shape.iter().product();
            assert_eq!((vectors.rows(), vectors.shape(), vectors.width()), (count, &shape[..], width));

            let mut row = 0;
            for batch in artifact.batches("v").unwrap() {
                for bytes in batch.unwrap().column(0).as_fixed_size_binary() {
                    assert_eq!(vectors.row(row).unwrap(), bytes.unwrap());
                    row += 1;
                }
            }
            assert_eq!(row, count);

            let some: Vec<u64> = (0..200.min(4 * count)).map(|i| (i * 7_919) % count).collect();
            let mut out = vec![0.0; some.len() * width];
            vectors.gather_f32(&some, &mut out).unwrap();
            let expected: Vec<f32> =
                some.iter().flat_map(|&row| (0..width).map(move |column| number(row, column))).collect();
            assert!(out == expected, "{dtype} {shape:?}");

            let range = count / 3..count;
            let mut out = vec![0.0; (range.end - range.start) as usize * width];
            vectors.range_f32(range.clone(), &mut out).unwrap();
            assert!(out == numbers(range.start, range.end, width), "{dtype} {shape:?}");
        }
    }
}

#[test]
fn the_file_is_plain_parquet() {
    let dir = tempfile::tempdir().unwrap();
    write_vectors(dir.path(), 10_000, &[4, 16], DType::BF16, 10_000, 1 << 16);
    let file = std::fs::File::open(dir.path().join("v-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let field = reader.schema().field(0).clone();
    assert_eq!(
        field.to_string(),
        "Field { \"vector\": FixedSizeBinary(128), metadata: {\"dtype\": \"bfloat16\", \"shape\": \"[4,16]\"} }"
    );
    assert_eq!(reader.metadata().file_metadata().created_by(), Some("mediant"));
    assert_eq!(reader.metadata().num_row_groups(), 1);
    let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 10_000);
}

#[test]
fn there_are_no_rows_outside_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = write_vectors(dir.path(), 10, &[2], DType::F32, 10, 4).vectors("v").unwrap();
    let mut out = [0.0; 4];
    assert!(vectors.row(10).is_err());
    assert!(vectors.gather_f32(&[0, 10], &mut out).is_err());
    assert!(vectors.gather_f32(&[0], &mut out).is_err(), "another length");
    assert!(vectors.range_f32(9..11, &mut out).is_err());
    assert!(vectors.range_f32(0..u64::MAX, &mut out).is_err());
    assert!(vectors.range_f32(3..3, &mut []).is_ok());

    let dir = tempfile::tempdir().unwrap();
    let empty = write_vectors(dir.path(), 0, &[2], DType::F32, 10, 4);
    empty.verify().unwrap();
    assert!(empty.vectors("v").unwrap().row(0).is_err());
}

#[test]
fn wrong_widths_are_errors() {
    let (_dir, writer) = writer(Kind::Table);
    for shape in [vec![0], vec![1 << 31], vec![usize::MAX, 2]] {
        assert!(writer.vectors("v", VectorSpec::new(DType::F32, shape)).is_err());
    }
    let mut vectors = writer.vectors("v", VectorSpec::new(DType::F32, [2])).unwrap();
    assert!(vectors.write(&[0; 12]).is_err());
    assert!(vectors.write_f32(&[0.0; 3]).is_err());
    assert_eq!(vectors.rows(), 0);
}

#[test]
fn a_checkpoint_goes_on_to_the_same_bytes() {
    const ROWS: u64 = 200_000;
    let whole = tempfile::tempdir().unwrap();
    write_vectors(whole.path(), ROWS, &[2], DType::F32, 5_000, 1 << 16);

    let spec = || VectorSpec::new(DType::F32, [2]);
    let checkpoint = tempfile::tempdir().unwrap();
    {
        let (_dir, writer) = writer(Kind::Table);
        let mut vectors = writer.vectors("v", spec()).unwrap();
        vectors.write_f32(&numbers(0, 150_000, 2)).unwrap();
        writer.checkpoint(checkpoint.path()).unwrap();
    }
    // Stopped again before anything new is finished, then gone on to the end.
    let again = tempfile::tempdir().unwrap();
    {
        let dir = tempfile::tempdir().unwrap();
        let writer = ArtifactWriter::resume(dir.path(), Kind::Table, checkpoint.path()).unwrap();
        writer.checkpoint(again.path()).unwrap();
    }
    drop(checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let writer = ArtifactWriter::resume(dir.path(), Kind::Table, again.path()).unwrap();
    let mut vectors = writer.vectors("v", spec()).unwrap();
    assert_eq!(vectors.rows(), 131_072);
    vectors.write_f32(&numbers(vectors.rows(), ROWS, 2)).unwrap();
    vectors.close().unwrap();
    writer.finish(&()).unwrap();
    assert!(files(dir.path()) == files(whole.path()));

    let part = again.path().join("v-00001.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[1_000] ^= 1;
    std::fs::remove_file(&part).unwrap();
    std::fs::write(&part, bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = ArtifactWriter::resume(dir.path(), Kind::Table, again.path()).err().unwrap();
    assert!(error.to_string().contains("v-00001.parquet"), "{error}");
}

#[test]
fn a_checkpoint_is_for_one_schema() {
    let checkpoint = tempfile::tempdir().unwrap();
    let (_dir, artifact) = writer(Kind::Table);
    let mut vectors = artifact.vectors("v", VectorSpec::new(DType::F32, [2])).unwrap();
    vectors.write_f32(&numbers(0, 70_000, 2)).unwrap();
    artifact.checkpoint(checkpoint.path()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let artifact = ArtifactWriter::resume(dir.path(), Kind::Table, checkpoint.path()).unwrap();
    assert!(artifact.vectors("v", VectorSpec::new(DType::F16, [4])).is_err());
    let dir = tempfile::tempdir().unwrap();
    assert!(ArtifactWriter::resume(dir.path(), Kind::Model, checkpoint.path()).is_err());
}

#[test]
fn vectors_and_rows_of_a_table_are_not_confused() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::write_rows(dir.path(), 10, 10, 1 << 16);
    let error = Artifact::open(dir.path()).unwrap().vectors("rows").err().unwrap();
    assert_eq!(error.to_string(), "table `rows` is not one of vectors");
}
