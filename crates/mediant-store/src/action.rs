//! Action records: what a stage made from what. A result exists when its record does, and the record is written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::object::FileEntry;
use crate::record::{RawJson, encode};
use crate::store::Folder;
use crate::{Id, Result, Store};

/// Outputs by name.
pub type Outputs = BTreeMap<String, OutputRecord>;

/// What one run of a stage made, stored under its recipe key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    /// The stage's name.
    pub stage: String,
    /// What the recipe key was computed from.
    pub preimage: RawJson,
    /// Logical digests of the inputs, in port order.
    pub inputs: Vec<Id>,
    /// What it made.
    pub outputs: Outputs,
    /// The content key.
    pub content: Id,
    /// Versions, host, device, times.
    pub provenance: RawJson,
    /// False if an input changed while the stage ran: the result is good for that run only.
    pub cacheable: bool,
}

/// One output of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRecord {
    /// The artifact kind's name.
    pub kind: String,
    /// Where its bytes are.
    pub object: Id,
    /// The digest of its values.
    pub logical: Id,
    /// Its files, without the manifest.
    pub files: Vec<FileEntry>,
}

/// What a content key leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentRecord {
    /// The recipe key under which it was made.
    pub action: Id,
    /// What it made.
    pub outputs: Outputs,
}

/// What became of a record that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is the key's first result.
    First,
    /// An earlier result has the same values; it stands.
    Agrees,
    /// It took the place of a result that nobody could use: not cacheable, or its objects are gone.
    Replaced,
    /// An earlier result has other values. It stands; the new one is kept here.
    Divergent(PathBuf),
    /// It is not cacheable and an earlier, cacheable result stands.
    Ignored,
}

/// How many divergent results of one key are kept; one more takes the last one's place.
const DIVERGENT_KEPT: usize = 8;

impl Store {
    /// The record of a recipe key. A damaged record is set aside, with a warning, and reads as `None`.
    pub fn read_action(&self, key: Id) -> Result<Option<ActionRecord>> {
        self.read_record(&self.sharded(Folder::Actions, key, ".json"), key)
    }

    /// Records a result, durably, with its objects. The first result of a key stays unless nobody can use it.
    ///
    /// The objects must have been published.
    pub fn write_action(&self, key: Id, record: &ActionRecord) -> Result<Written> {
        let path = self.sharded(Folder::Actions, key, ".json");
        let bytes = encode(key, record)?;
        loop {
            if self.write_after_objects(&path, &bytes, &record.outputs, false)? {
                return Ok(Written::First);
            }
            // Set aside as damaged, or removed by gc: try again.
            let Some(earlier) = self.read_action(key)? else {
                continue;
            };
            if !self.are_present(&earlier.outputs) || !earlier.cacheable {
                self.write_after_objects(&path, &bytes, &record.outputs, true)?;
                return Ok(Written::Replaced);
            }
            if !record.cacheable {
                return Ok(Written::Ignored);
            }
            if same_values(&earlier.outputs, &record.outputs) {
                return Ok(Written::Agrees);
            }
            return self.write_divergent(key, record, &bytes).map(Written::Divergent);
        }
    }

    /// Records a result in place of any earlier one.
    pub fn replace_action(&self, key: Id, record: &ActionRecord) -> Result<()> {
        let path = self.sharded(Folder::Actions, key, ".json");
        self.write_after_objects(&path, &encode(key, record)?, &record.outputs, true)?;
        Ok(())
    }

    /// Recomputed results of a key whose values differ from the recorded ones.
    pub fn divergent_actions(&self, key: Id) -> Result<Vec<ActionRecord>> {
        let mut records = Vec::new();
        for path in self.divergent_paths(key) {
            let Some(record) = self.read_record(&path, key)? else {
                break;
            };
            records.push(record);
        }
        Ok(records)
    }

    /// What a content key leads to.
    pub fn read_content(&self, key: Id) -> Result<Option<ContentRecord>> {
        self.read_record(&self.sharded(Folder::Contents, key, ".json"), key)
    }

    /// Records what a content key leads to. The first stays unless its objects are gone.
    ///
    /// Not synced: losing it costs an early cutoff, never a result.
    pub fn write_content(&self, key: Id, record: &ContentRecord) -> Result<()> {
        let path = self.sharded(Folder::Contents, key, ".json");
        let bytes = encode(key, record)?;
        if self.write_quick(&path, &bytes, false)? {
            return Ok(());
        }
        if self.read_content(key)?.is_none_or(|earlier| !self.are_present(&earlier.outputs)) {
            self.write_quick(&path, &bytes, true)?;
        }
        Ok(())
    }

    pub(crate) fn divergent_paths(&self, key: Id) -> [PathBuf; DIVERGENT_KEPT] {
        std::array::from_fn(|n| self.sharded(Folder::Actions, key, &format!(".divergent-{}.json", n + 1)))
    }

    /// Whether every output's object stands at its place. That its bytes are right is another question.
    pub(crate) fn are_present(&self, outputs: &Outputs) -> bool {
        outputs
            .values()
            .all(|output| fs::symlink_metadata(self.object_path(output.object)).is_ok_and(|metadata| metadata.is_dir()))
    }

    fn write_divergent(&self, key: Id, record: &ActionRecord, bytes: &[u8]) -> Result<PathBuf> {
        let paths = self.divergent_paths(key);
        for path in &paths {
            let earlier: Option<ActionRecord> = self.read_record(path, key)?;
            if earlier.is_some_and(|earlier| same_values(&earlier.outputs, &record.outputs))
                || self.write_after_objects(path, bytes, &record.outputs, false)?
            {
                return Ok(path.clone());
            }
        }
        let [.., last] = paths;
        self.write_after_objects(&last, bytes, &record.outputs, true)?;
        Ok(last)
    }

    /// Everything that the record names is durable before the record appears.
    fn write_after_objects(&self, path: &Path, bytes: &[u8], outputs: &Outputs, replace: bool) -> Result<bool> {
        let mut folders = Vec::new();
        for output in outputs.values() {
            folders.extend(self.unsynced().get(&output.object).into_iter().flatten().cloned());
        }
        let written = self.write_durable(path, bytes, folders, replace)?;
        for output in outputs.values() {
            self.unsynced().remove(&output.object);
        }
        Ok(written)
    }
}

fn same_values(a: &Outputs, b: &Outputs) -> bool {
    let values = |(name, output): (&String, &OutputRecord)| (name.clone(), output.logical);
    a.iter().map(values).eq(b.iter().map(values))
}
