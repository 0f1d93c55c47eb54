//! A store in a temporary folder, and the smallest results that can be put into it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mediant_store::{
    ActionRecord, ContentRecord, FileEntry, GcOptions, Id, ObjectState, OutputRecord, RawJson, Result, StatIndex, Store,
};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const PART: &str = "rows-00000.parquet";

/// A temporary folder that goes away although there are read-only folders in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where the system has such a place: there a sync costs nothing.
    pub(crate) fn in_memory() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path().join("store")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fn unlock(dir: &Path) {
            let _ = fs::set_permissions(dir, Permissions::from_mode(0o755));
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    unlock(&entry.path());
                }
            }
        }
        unlock(self.path());
    }
}

/// Writes the files of an object whose content is `value`.
pub(crate) fn write_files(dir: &Path, value: &str) -> FileEntry {
    fs::create_dir(dir).unwrap();
    let part = format!("the rows of {value}");
    let entry = FileEntry { name: PART.to_owned(), bytes: part.len() as u64, blake3: Id::of(part.as_bytes()) };
    fs::write(dir.join(PART), part).unwrap();
    fs::write(dir.join(MANIFEST), serde_json::to_string(&json!({ "files": [entry] })).unwrap()).unwrap();
    entry
}

/// Publishes an object whose content is `value`.
pub(crate) fn publish(store: &Store, value: &str) -> OutputRecord {
    try_publish(store, value).unwrap()
}

pub(crate) fn try_publish(store: &Store, value: &str) -> Result<OutputRecord> {
    let staging = store.stage_dir("stage[seed=0]")?;
    let dir = staging.path().join("out");
    let entry = write_files(&dir, value);
    let object = store.publish(&dir, MANIFEST)?;
    Ok(OutputRecord { kind: "table".to_owned(), object, logical: Id::of(value.as_bytes()), files: vec![entry] })
}

pub(crate) fn record(output: OutputRecord, maker: &str) -> ActionRecord {
    let logical = output.logical;
    ActionRecord {
        stage: "demo".to_owned(),
        preimage: RawJson::new(&json!({ "with": { "k": 1.0, "name": "ä" } })).unwrap(),
        inputs: vec![Id::of(b"an input")],
        outputs: BTreeMap::from([("out".to_owned(), output)]),
        content: content_key(logical),
        provenance: RawJson::new(&json!({ "maker": maker })).unwrap(),
        cacheable: true,
    }
}

pub(crate) fn content_key(logical: Id) -> Id {
    Id::of(&[b"content", logical.as_bytes().as_slice()].concat())
}

pub(crate) fn maker(record: &ActionRecord) -> String {
    record.provenance.parse::<BTreeMap<String, String>>().unwrap().remove("maker").unwrap()
}

pub(crate) fn key(n: usize) -> Id {
    Id::of(format!("recipe {n}").as_bytes())
}

/// Publishes `value` and records it under `key`, as a worker does.
pub(crate) fn finish(store: &Store, key: Id, value: &str) -> ActionRecord {
    let record = record(publish(store, value), value);
    store.write_action(key, &record).unwrap();
    let content = ContentRecord { action: key, outputs: record.outputs.clone() };
    store.write_content(record.content, &content).unwrap();
    record
}

pub(crate) fn output(record: &ActionRecord) -> &OutputRecord {
    &record.outputs["out"]
}

pub(crate) fn check(store: &Store, output: &OutputRecord, stats: &StatIndex) -> ObjectState {
    store.check(output.object, MANIFEST, &output.files, stats).unwrap()
}

/// Checks by reading everything: unless the test saves an index, there is none.
pub(crate) fn check_by_reading(store: &Store, output: &OutputRecord) -> ObjectState {
    check(store, output, &StatIndex::load(store))
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "VERSION");
    names.sort();
    names
}

/// Everything below a folder, with the contents of its files.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in names(dir) {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            found.insert(path, Some(bytes));
        }
    }
    found
}

pub(crate) fn no_grace() -> GcOptions {
    GcOptions { grace: Duration::ZERO, checkpoint_age: Duration::ZERO, ..GcOptions::default() }
}

pub(crate) fn part_path(store: &Store, output: &OutputRecord) -> PathBuf {
    store.object_path(output.object).join(PART)
}
