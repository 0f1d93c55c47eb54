use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use mediant_artifact::{Artifact, ArtifactWriter, Kind, TableMeta, write_table};
use mediant_lm::text::{Boundary, Document, documents, table_documents};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

fn read(path: &Path, boundary: Boundary) -> Result<Vec<Document>, String> {
    documents(path, boundary).and_then(Iterator::collect).map_err(|error| error.to_string())
}

fn texts(texts: &[&str]) -> Vec<Document> {
    texts.iter().map(|text| Document::Text((*text).to_owned())).collect()
}

/// A file with this content, and its path relative to the folder in error messages.
fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn a_text_file_is_divided_as_asked() {
    let (_folder, path) = file("a.txt", "\n\none\ntwo\r\n\n  \nthree \n\n");
    assert_eq!(read(&path, Boundary::Line).unwrap(), texts(&["one", "two", "three "]));
    assert_eq!(read(&path, Boundary::BlankLine).unwrap(), texts(&["one\ntwo", "three "]));
    assert_eq!(read(&path, Boundary::File).unwrap(), texts(&["one\ntwo\n\n  \nthree \n"]));
    let (_folder, path) = file("no extension", "");
    assert_eq!(read(&path, Boundary::File).unwrap(), []);
}

#[test]
fn a_folder_is_read_in_the_order_of_its_paths() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    for (name, content) in
        [("z.txt", "last"), ("b/c/1.txt", "second"), ("a.jsonl", "\"first\""), ("b/notes.md", "ignored")]
    {
        fs::write(folder.path().join(name), content).unwrap();
    }
    assert_eq!(read(folder.path(), Boundary::File).unwrap(), texts(&["first", "second", "last"]));
    let empty = TempDir::new().unwrap();
    assert!(read(empty.path(), Boundary::File).unwrap_err().contains("no txt, jsonl, json, parquet files"));
    assert!(read(&empty.path().join("nothing.txt"), Boundary::File).unwrap_err().contains("nothing.txt"));
}

#[test]
fn json_holds_texts_or_ids_beside_whatever_else() {
    let lines = "{\"text\": \"a\", \"source\": {\"x\": [1]}}\n\n\"b\"\n{\"input_ids\": [1, 2], \"text\": null}\n";
    let mut expected = texts(&["a", "b"]);
    expected.push(Document::Ids(vec![1, 2]));
    let (_folder, path) = file("a.jsonl", lines);
    assert_eq!(read(&path, Boundary::File).unwrap(), expected);
    let (_folder, path) = file("a.json", "[{\"text\": \"a\"}, \"b\", {\"input_ids\": [1, 2]}]");
    assert_eq!(read(&path, Boundary::Line).unwrap(), expected);
}

#[test]
fn errors_name_the_file_and_the_line() {
    let deep = format!("\"fine\"\n{{\"text\": {}", "[".repeat(10_000));
    for (name, content, place, why) in [
        ("a.jsonl", "\"fine\"\n{\"text\": 7}\n".as_bytes(), "a.jsonl:2: ", "expected a string"),
        ("a.jsonl", b"\"fine\"\n\n{\"txt\": \"x\"}\n", "a.jsonl:3: ", "neither `text` nor `input_ids`"),
        ("a.jsonl", b"{\"text\": \"cut off", "a.jsonl:1: ", "EOF"),
        ("a.jsonl", b"{\"input_ids\": [1, -2]}", "a.jsonl:1: ", "-2"),
        ("a.jsonl", b"{\"input_ids\": [1, 4294967296]}", "a.jsonl:1: ", "4294967296"),
        ("a.jsonl", b"[1, 2]", "a.jsonl:1: ", "a string, or an object"),
        ("a.jsonl", deep.as_bytes(), "a.jsonl:2: ", ""),
        ("a.jsonl", b"\"fine\"\n\xff\xfe\n", "a.jsonl:2: ", "UTF-8"),
        ("a.txt", b"fine\n\xff\xfe\n", "a.txt:2: ", "UTF-8"),
        ("a.json", b"[\"fine\",\n 3]", "a.json:2: ", "integer `3`"),
        ("a.json", b"{\"text\": \"not in a list\"}", "a.json:1: ", "expected a sequence"),
        ("a.parquet", b"PAR1 nothing PAR1", "a.parquet: ", ""),
        ("a.parquet", b"", "a.parquet: ", ""),
    ] {
        let (_folder, path) = file(name, content);
        let error = read(&path, Boundary::Line).unwrap_err();
        let (_, told) = error.split_at(error.find(name).unwrap());
        assert!(told.starts_with(place) && told.contains(why), "{error}");
    }
}

fn parquet(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn batch(columns: [(&str, ArrayRef); 2]) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn parquet_holds_texts_or_ids() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    parquet(&path, &batch([("n", numbers.clone()), ("text", Arc::new(StringArray::from(vec!["a", "b"])))]));
    assert_eq!(read(&path, Boundary::File).unwrap(), texts(&["a", "b"]));

    let ids = |lists: Vec<Option<Vec<Option<i64>>>>| {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)) as ArrayRef
    };
    parquet(
        &path,
        &batch([("n", numbers.clone()), ("input_ids", ids(vec![Some(vec![Some(1), Some(2)]), Some(vec![])]))]),
    );
    assert_eq!(read(&path, Boundary::File).unwrap(), [Document::Ids(vec![1, 2]), Document::Ids(vec![])]);

    for (lists, why) in [
        (vec![Some(vec![Some(1)]), None], "a.parquet:2: `input_ids` is null"),
        (vec![Some(vec![Some(1)]), Some(vec![None])], "a.parquet:2: `input_ids` holds a null"),
        (vec![Some(vec![Some(-1)]), Some(vec![])], "a.parquet:1: `input_ids` holds -1"),
    ] {
        parquet(&path, &batch([("n", numbers.clone()), ("input_ids", ids(lists))]));
        assert!(read(&path, Boundary::File).unwrap_err().ends_with(why));
    }
    parquet(&path, &batch([("n", numbers.clone()), ("body", numbers)]));
    assert!(read(&path, Boundary::File).unwrap_err().ends_with("a.parquet: no column `text` or `input_ids`"));
}

/// Bytes anywhere in a Parquet file may be damaged: an error or other text, never a panic.
#[test]
fn damaged_parquet_is_no_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    parquet(&path, &batch([("n", numbers), ("text", Arc::new(StringArray::from(vec!["a", "b"])))]));
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        fs::write(&path, &damaged).unwrap();
        let _ = read(&path, Boundary::File);
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(read(&path, Boundary::File).is_err());
    }
}

#[test]
fn a_table_artifact_is_a_corpus() {
    let folder = TempDir::new().unwrap();
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    let rows = batch([("n", numbers), ("text", Arc::new(StringArray::from(vec!["a", "b"])))]);
    let writer = ArtifactWriter::create(folder.path(), Kind::Table).unwrap();
    write_table(writer, rows.schema(), [Ok(rows)], &TableMeta::default()).unwrap();
    let artifact = Artifact::open(folder.path()).unwrap();
    let found: Result<Vec<_>, _> = table_documents(&artifact).unwrap().collect();
    assert_eq!(found.unwrap(), texts(&["a", "b"]));
}
