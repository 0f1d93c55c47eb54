//! Prompts: what is written comes back, and what is no prompt does neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt32Array};
use arrow::compute::concat_batches;
use mediant_artifact::{
    Artifact, ArtifactWriter, Digest, Error, Kind, Manifest, Prompt, Result, Version, read_prompts, write_prompts,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{files, forge, forge_meta, with_column, writer};

const VOCABULARY: usize = 50;

fn version(seed: usize, length: usize) -> Version {
    let id = |i: usize| ((seed * 7 + i) % VOCABULARY) as i32;
    let last = length as u32;
    Version {
        text: format!("When {seed} and “{length}” went"),
        ids: (0..length).map(id).collect(),
        right: (0..1 + seed % 3).map(id).collect(),
        wrong: (3..4 + seed % 2).map(id).collect(),
        spans: BTreeMap::from([("subject".to_owned(), (1, 3)), ("end".to_owned(), (last - 1, last))]),
        variables: BTreeMap::from([("order".to_owned(), if seed.is_multiple_of(2) { "abba" } else { "" }.to_owned())]),
    }
}

fn prompts(count: usize) -> Vec<Prompt> {
    let prompt = |i: usize| {
        let mut prompt = Prompt {
            task: "ioi".to_owned(),
            template: format!("t{}", i % 4),
            group: format!("t{}/{}", i % 4, i % 10),
            clean: version(i, 4 + i % 5),
            counterfactuals: vec![version(i + 1, 4 + i % 5), version(i + 2, 5)],
        };
        prompt.counterfactuals[1].spans.remove("subject");
        prompt.counterfactuals[0].variables.clear();
        prompt.clean.spans.insert("io".to_owned(), (0, 1));
        prompt
    };
    (0..count).map(prompt).collect()
}

fn names() -> [String; 2] {
    ["s2_io_flip".to_owned(), "abc".to_owned()]
}

fn write(writer: ArtifactWriter, prompts: &[Prompt]) -> Result<Manifest> {
    write_prompts(writer, &names(), Digest::of(b"tokenizer"), VOCABULARY, true, prompts)
}

pub(crate) fn written(count: usize) -> (TempDir, Artifact) {
    let (dir, writer) = writer(Kind::Prompts);
    write(writer, &prompts(count)).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    (dir, artifact)
}

#[test]
fn prompts_come_back() {
    let dir = tempfile::tempdir().unwrap();
    write(ArtifactWriter::create_in_parts(dir.path(), Kind::Prompts, 300).unwrap(), &prompts(2_500)).unwrap();
    let artifact = Artifact::open(dir.path()).unwrap();
    artifact.verify().unwrap();
    let (meta, read) = read_prompts(&artifact).unwrap();
    assert!(read == prompts(2_500));
    assert_eq!((meta.prompts, meta.longest, &meta.counterfactuals[..]), (2_500, 8, &names()[..]));
    assert_eq!(meta.spans, ["end"], "the others are missing from some version");
    assert_eq!(artifact.rows("versions").unwrap(), 7_500);
    let (other, writer) = writer(Kind::Prompts);
    let manifest = write(writer, &prompts(2_500)).unwrap();
    assert_eq!(manifest.logical, artifact.manifest().logical, "parts count");
    drop(other);
}

#[test]
fn prompts_need_no_counterfactuals_and_may_be_none() {
    let (dir, artifact) = writer(Kind::Prompts);
    let mut plain = prompts(3);
    plain.iter_mut().for_each(|prompt| prompt.counterfactuals.clear());
    write_prompts(artifact, &[], Digest::of(b"tokenizer"), VOCABULARY, false, &plain).unwrap();
    let (meta, read) = read_prompts(&Artifact::open(dir.path()).unwrap()).unwrap();
    assert_eq!((read, meta.spans.len(), meta.prepend_bos), (plain, 3, false));

    let (_dir, artifact) = written(0);
    let (meta, read) = read_prompts(&artifact).unwrap();
    assert_eq!((meta.prompts, meta.longest, meta.spans.len(), read.len()), (0, 0, 0, 0));
}

#[test]
fn where_no_mistake_is_known_the_meta_says_so() {
    assert!(read_prompts(&written(3).1).unwrap().0.wrong);
    let mut some = prompts(3);
    some[1].counterfactuals[0].wrong.clear();
    let (dir, artifact) = writer(Kind::Prompts);
    write(artifact, &some).unwrap();
    let (meta, read) = read_prompts(&Artifact::open(dir.path()).unwrap()).unwrap();
    assert_eq!((meta.wrong, read), (false, some));
}

#[test]
fn bytes_depend_on_the_prompts_alone() {
    let ((one, a), (other, b)) = (written(200), written(200));
    assert!(files(one.path()) == files(other.path()));
    assert_eq!(a.manifest().logical, b.manifest().logical);
    // Keys rest on this digest.
    assert_eq!(
        written(3).1.manifest().logical.to_string(),
        "abd9342f1a9d712de2667fa0dba9cf2194eaca296327179cb20691d647d6d609"
    );
}

#[test]
fn what_is_no_prompt_is_not_written() {
    let refused = |change: fn(&mut Prompt)| {
        let mut all = prompts(3);
        change(&mut all[1]);
        let (_dir, writer) = writer(Kind::Prompts);
        write(writer, &all).unwrap_err().to_string()
    };
    let abc = "prompt 1, abc: ";
    assert_eq!(refused(|prompt| drop(prompt.counterfactuals.pop())), "prompt 1 has 1 counterfactuals, not 2");
    assert_eq!(refused(|prompt| prompt.clean.ids.clear()), "prompt 1, clean: it has 0 tokens");
    assert_eq!(refused(|prompt| prompt.counterfactuals[1].right.clear()), format!("{abc}it has 0 right answers"));
    assert_eq!(refused(|prompt| prompt.clean.wrong = vec![4, 4]), "prompt 1, clean: the answer 4 occurs twice");
    assert_eq!(
        refused(|prompt| prompt.counterfactuals[1].ids[2] = 50),
        format!("{abc}the token 50 is outside the vocabulary of 50")
    );
    assert_eq!(
        refused(|prompt| prompt.clean.right = vec![-1]),
        "prompt 1, clean: the right answer -1 is outside the vocabulary of 50"
    );
    for (start, end) in [(2, 2), (3, 1), (4, 6), (0, u32::MAX)] {
        let mut all = prompts(3);
        all[1].clean.spans.insert("s".to_owned(), (start, end));
        let (_dir, writer) = writer(Kind::Prompts);
        let why = format!("prompt 1, clean: span `s` goes from {start} to {end}, which is no part of 5 tokens");
        assert_eq!(write(writer, &all).unwrap_err().to_string(), why);
    }
    for names in [["clean", "abc"], ["abc", "abc"], ["abc", ""]] {
        let (_dir, writer) = writer(Kind::Prompts);
        let names = names.map(str::to_owned);
        assert!(write_prompts(writer, &names, Digest::of(b""), VOCABULARY, true, &prompts(1)).is_err(), "{names:?}");
    }
    let (_dir, artifact) = writer(Kind::Tokens);
    assert!(matches!(write(artifact, &[]), Err(Error::WrongKind { .. })));
}

#[test]
fn forged_tables_are_errors() {
    let (_dir, good) = written(4);
    let refused = |table: &str, change: &dyn Fn(RecordBatch) -> RecordBatch| {
        let (_dir, forged) = forge(&good, table, change);
        let error = read_prompts(&forged).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        error.to_string()
    };
    let ends_with = |error: String, end: &str| assert!(error.ends_with(end), "{error}");
    for table in ["prompts", "versions", "spans", "variables"] {
        refused(table, &|rows| concat_batches(&rows.schema(), [&rows, &rows]).unwrap());
    }
    let fewer = |rows: RecordBatch| rows.slice(0, rows.num_rows() - 1);
    ends_with(refused("versions", &fewer), "table `spans`: a row of example 3, `abc`, has no place");
    ends_with(refused("prompts", &fewer), "3 prompts have 12 versions");
    ends_with(refused("versions", &|rows| rows.slice(1, 11)), "a row of example 0, `s2_io_flip`, has no place");
    ends_with(refused("spans", &|rows| rows.slice(1, rows.num_rows() - 1)), "those that its meta describes");

    let stray = |rows: RecordBatch| {
        let example = UInt32Array::from_iter_values((0..rows.num_rows() as u32).map(|i| u32::MAX - i));
        with_column(&rows, "example", Arc::new(example))
    };
    let unnamed = |rows: RecordBatch| {
        let version = StringArray::from_iter_values((0..rows.num_rows()).map(|_| "\u{1b}[31m"));
        with_column(&rows, "version", Arc::new(version))
    };
    for table in ["versions", "spans", "variables"] {
        ends_with(refused(table, &stray), "of example 4294967295, `clean`, has no place");
        ends_with(refused(table, &unnamed), "`\\u{1b}[31m`, has no place");
    }
    let beyond =
        |rows: RecordBatch| with_column(&rows, "end", Arc::new(UInt32Array::from(vec![u32::MAX; rows.num_rows()])));
    ends_with(refused("spans", &beyond), "span `end` goes from 3 to 4294967295, which is no part of 4 tokens");
    let swapped = |rows: RecordBatch| with_column(&rows, "ids", rows.column_by_name("right").unwrap().clone());
    assert!(refused("versions", &swapped).contains("span"));

    let (_dir, forged) = forge(&good, "spans", |rows| rows.project(&[0, 1, 2, 3]).unwrap());
    assert_eq!(read_prompts(&forged).unwrap_err().to_string(), "no column `end` of the type it should have");
}

#[test]
fn a_manifest_that_lies_is_found() {
    let (_dir, good) = written(4);
    for (field, value) in [
        ("prompts", json!(5)),
        ("counterfactuals", json!(["s2_io_flip"])),
        ("counterfactuals", json!(["abc", "s2_io_flip"])),
        ("counterfactuals", json!(["clean", "abc"])),
        ("vocab_size", json!(10)),
        ("longest", json!(9)),
        ("spans", json!(["end", "subject"])),
        ("tokenizer", json!("none")),
    ] {
        let (_dir, forged) = forge_meta(&good, field, value.clone());
        assert!(read_prompts(&forged).is_err(), "{field}: {value}");
    }
    let (_dir, artifact) = writer(Kind::Table);
    artifact.finish(&()).unwrap();
    assert!(matches!(read_prompts(&Artifact::open(_dir.path()).unwrap()), Err(Error::WrongKind { .. })));
}
