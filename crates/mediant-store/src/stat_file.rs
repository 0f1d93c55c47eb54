//! The stat index on disk: a header, entries of a fixed size, a digest of it all. Only a cache: what cannot be read is
//! forgotten.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::lock::LockFile;
use crate::stat::{Entries, Entry, Nanoseconds, Stamp, StatKey, now};
use crate::store::{Folder, lock};
use crate::{Error, Id, Result, StatIndex, Store, files};

const HEADER: &[u8] = b"mediant stat index 1\n";
const ENTRY: usize = 16 + 6 * 8 + 32;
const DIGEST: usize = 32;
/// Ten million files; a larger index is not one.
const LIMIT: u64 = 1 << 30;
/// Outside files that nobody asked about are forgotten by gc: reading them again is cheap.
const KEPT: Nanoseconds = 30 * 24 * 3600 * 1_000_000_000;

impl StatIndex {
    /// The store's index; an empty one, with a warning, if the file is damaged.
    pub fn load(store: &Store) -> Self {
        let by_key = read(&path(store)).unwrap_or_else(|why| {
            tracing::warn!(why, "the stat index cannot be read: files will be read again");
            HashMap::new()
        });
        Self { store: store.clone(), entries: Mutex::new(Entries { by_key, ..Entries::default() }) }
    }

    /// Writes what was learnt, together with what other processes wrote since this index was loaded.
    /// Does nothing if nothing was learnt or the store is read-only.
    pub fn save(&self) -> Result<()> {
        self.settle();
        let mut entries = lock(&self.entries);
        if !entries.changed || self.store.is_read_only() {
            return Ok(());
        }
        let _writing = self.lock_file()?;
        for (key, theirs) in read(&path(&self.store)).unwrap_or_default() {
            let ours = entries.by_key.entry(key).or_insert(theirs);
            if theirs.recorded > ours.recorded {
                *ours = theirs;
            }
        }
        self.write(&entries.by_key)?;
        entries.changed = false;
        Ok(())
    }

    /// Forgets files of objects that are gone and outside files that were last read long ago.
    pub(crate) fn prune(store: &Store, objects: &HashSet<StatKey>) -> Result<()> {
        let index = Self::load(store);
        let _writing = index.lock_file()?;
        let mut entries = lock(&index.entries);
        let before = entries.by_key.len();
        let oldest = now().saturating_sub(KEPT);
        entries.by_key.retain(|key, entry| objects.contains(key) || (!key.is_object() && entry.recorded > oldest));
        if entries.by_key.len() == before { Ok(()) } else { index.write(&entries.by_key) }
    }

    fn lock_file(&self) -> Result<LockFile> {
        LockFile::acquire(&self.store.folder(Folder::Locks).join("index.lock"), || ())
    }

    fn write(&self, entries: &HashMap<StatKey, Entry>) -> Result<()> {
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        let mut bytes = Vec::with_capacity(HEADER.len() + ENTRY * sorted.len() + DIGEST);
        bytes.extend_from_slice(HEADER);
        for (key, entry) in sorted {
            let Stamp { device, inode, size, modified, changed } = entry.stamp;
            bytes.extend_from_slice(&key.0);
            for number in [device, inode, size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for time in [modified, changed, entry.recorded] {
                bytes.extend_from_slice(&time.to_le_bytes());
            }
            bytes.extend_from_slice(entry.digest.as_bytes());
        }
        let digest = Id::of(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        self.store.write_quick(&path(&self.store), &bytes, true).map(|_| ())
    }
}

fn path(store: &Store) -> PathBuf {
    store.folder(Folder::Index).join("stat")
}

fn read(path: &Path) -> Result<HashMap<StatKey, Entry>, String> {
    let (file, metadata) = match files::open_plain(path) {
        Ok(opened) => opened,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(HashMap::new());
        }
        Err(error) => return Err(error.to_string()),
    };
    if metadata.len() > LIMIT {
        return Err(format!("it has {} bytes", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(LIMIT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let (text, digest) = bytes.split_last_chunk::<DIGEST>().ok_or("it is cut short")?;
    if Id::of(text) != Id::from_bytes(*digest) {
        return Err("its digest does not fit its bytes".to_owned());
    }
    let entries = text.strip_prefix(HEADER).ok_or("it has another format")?;
    Ok(entries.chunks_exact(ENTRY).filter_map(parse).collect())
}

fn parse(bytes: &[u8]) -> Option<(StatKey, Entry)> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (numbers, digest) = rest.split_last_chunk()?;
    let mut numbers = numbers.chunks_exact(8).filter_map(|number| number.try_into().ok());
    let mut number = || numbers.next();
    let stamp = Stamp {
        device: u64::from_le_bytes(number()?),
        inode: u64::from_le_bytes(number()?),
        size: u64::from_le_bytes(number()?),
        modified: i64::from_le_bytes(number()?),
        changed: i64::from_le_bytes(number()?),
    };
    let recorded = i64::from_le_bytes(number()?);
    Some((StatKey(*key), Entry { stamp, recorded, digest: Id::from_bytes(*digest) }))
}
