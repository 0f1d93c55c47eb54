//! The stat index: digests of files, remembered as long as their stat does not change.
//!
//! An entry is distrusted if the file was changed within a tick of the file system's clock before the entry was made, or
//! later: a change in the same tick would not show (git's "racy" rule).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::lock;
use crate::{Error, Id, Result, Store, files};

/// Nanoseconds since 1970.
pub(crate) type Nanoseconds = i64;

/// A kernel that ticks 100 times a second stamps files up to 10 ms late.
const TICK: Nanoseconds = 20_000_000;
/// File systems that keep whole seconds, or even ones.
const COARSE_TICK: Nanoseconds = 2_000_000_000;
const SECOND: Nanoseconds = 1_000_000_000;

/// Digests of files by path and stat. Shared by threads; a process loads it once and saves it at its end.
#[derive(Debug)]
pub struct StatIndex {
    pub(crate) store: Store,
    pub(crate) entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) by_key: HashMap<StatKey, Entry>,
    pub(crate) changed: bool,
    /// Files that were noted so soon after they were written that the entry cannot be trusted.
    pub(crate) fresh: BTreeMap<PathBuf, StatKey>,
}

/// A path, hashed: an index of fixed-size entries loads in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StatKey(pub(crate) [u8; 16]);

/// What the system says about a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: Nanoseconds,
    pub(crate) changed: Nanoseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    /// When reading began.
    pub(crate) recorded: Nanoseconds,
    pub(crate) digest: Id,
}

/// The digest of an outside file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// Its length.
    pub bytes: u64,
    /// The digest of its bytes.
    pub blake3: Id,
}

impl StatIndex {
    /// The digest of a file, which is read only if its stat has changed. Symbolic links are followed.
    ///
    /// # Errors
    /// [`Error::NotAFile`]; [`Error::Changing`] if somebody keeps writing to it.
    pub fn digest_file(&self, path: &Path) -> Result<FileDigest> {
        let path = std::path::absolute(path).map_err(Error::io("find", path))?;
        let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path });
        }
        let key = StatKey::of_path(&path);
        if let Some(blake3) = self.trusted(key, &Stamp::of(&metadata)) {
            return Ok(FileDigest { bytes: metadata.len(), blake3 });
        }
        self.read(key, &path, files::open_followed)
    }

    /// The remembered digest, if the file has not changed since and the entry can be trusted.
    pub(crate) fn trusted(&self, key: StatKey, stamp: &Stamp) -> Option<Id> {
        let entries = lock(&self.entries);
        let entry = entries.by_key.get(&key)?;
        (entry.stamp == *stamp && !entry.is_racy()).then_some(entry.digest)
    }

    /// Reads and remembers a file of the store.
    pub(crate) fn read_plain(&self, key: StatKey, path: &Path) -> Result<Id> {
        self.read(key, path, files::open_plain).map(|digest| digest.blake3)
    }

    fn read(
        &self,
        key: StatKey,
        path: &Path,
        open: fn(&Path) -> Result<(fs::File, fs::Metadata)>,
    ) -> Result<FileDigest> {
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let recorded = now();
            let (mut file, before) = open(path)?;
            let (blake3, bytes) = files::hash(&mut file, path)?;
            let after = file.metadata().map_err(Error::io("read", path))?;
            if Stamp::of(&before) == Stamp::of(&after) && bytes == after.len() {
                let mut entries = lock(&self.entries);
                entries.by_key.insert(key, Entry { stamp: Stamp::of(&after), recorded, digest: blake3 });
                entries.changed = true;
                return Ok(FileDigest { bytes, blake3 });
            }
        }
        Err(Error::Changing { path: path.to_owned() })
    }

    /// Remembers a digest that the file's writer computed.
    pub(crate) fn remember(&self, key: StatKey, stamp: Stamp, recorded: Nanoseconds, digest: Id, path: &Path) {
        let entry = Entry { stamp, recorded, digest };
        let mut entries = lock(&self.entries);
        if entry.is_racy() {
            entries.fresh.insert(path.to_owned(), key);
        }
        entries.by_key.insert(key, entry);
        entries.changed = true;
    }

    /// Reads small files again that were noted too soon after they were written, so that the next process need not.
    pub(crate) fn settle(&self) {
        let fresh = std::mem::take(&mut lock(&self.entries).fresh);
        for (path, key) in fresh {
            if let Err(error) = self.read_plain(key, &path) {
                tracing::debug!(%error, "could not read a published file again");
            }
        }
    }
}

impl StatKey {
    pub(crate) fn of_path(path: &Path) -> Self {
        Self::of_parts(0, &[path.as_os_str().as_bytes()])
    }

    pub(crate) fn in_object(id: Id, name: &str) -> Self {
        Self::of_parts(1, &[id.as_bytes(), name.as_bytes()])
    }

    pub(crate) fn is_object(self) -> bool {
        self.0[0] == 1
    }

    /// Only the last part may have any length, so that no two lists of parts read the same.
    fn of_parts(kind: u8, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let mut key = [kind; 16];
        hasher.finalize_xof().fill(&mut key[1..]);
        Self(key)
    }
}

impl Stamp {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(crate) fn of_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Entry {
    pub(crate) fn is_racy(&self) -> bool {
        let last = self.stamp.modified.max(self.stamp.changed);
        let coarse = self.stamp.modified % SECOND == 0 && self.stamp.changed % SECOND == 0;
        self.recorded <= last.saturating_add(if coarse { COARSE_TICK } else { TICK })
    }
}

/// Times far outside the range of the clock compare equal to each other only if they are the same second.
fn nanoseconds(seconds: i64, rest: i64) -> Nanoseconds {
    seconds.saturating_mul(SECOND).saturating_add(rest)
}

pub(crate) fn now() -> Nanoseconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
