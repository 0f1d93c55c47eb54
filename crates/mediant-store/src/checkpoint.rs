//! The state of long stages, so that an interrupted one goes on where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::record::{encode, read_checked};
use crate::store::Folder;
use crate::{Error, FileEntry, Id, Result, Store, files};

/// Lists the files of a checkpoint; written last.
const MANIFEST: &str = "checkpoint.json";
const KEPT: usize = 2;

/// The checkpoints of one action on one kind of device.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Store,
    dir: PathBuf,
    key: Id,
}

impl Store {
    /// The checkpoints of a content key. `device` names all that the bits of a half-done computation depend on: the kind
    /// of device, the features of the CPU.
    pub fn checkpoints(&self, content: Id, device: &str) -> Checkpoints {
        let dir = self.folder(Folder::Checkpoints).join(format!("{content}-{}", Id::of(device.as_bytes()).short()));
        Checkpoints { store: self.clone(), dir, key: content }
    }
}

impl Checkpoints {
    /// The newest whole checkpoint: a folder with the files that `save` wrote. Damaged ones are passed over.
    pub fn latest(&self) -> Result<Option<PathBuf>> {
        for (_, path) in self.numbered()? {
            match self.verify(&path) {
                Ok(()) => return Ok(Some(path)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "skipping a damaged checkpoint");
                }
            }
        }
        Ok(None)
    }

    /// Makes a checkpoint of the plain files that `write` puts into the folder it is given, durably, and drops all but
    /// the two newest. A failure leaves the earlier ones.
    pub fn save(&self, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<PathBuf> {
        let staging = self.store.stage_dir("checkpoint")?;
        let draft = staging.path().join("draft");
        fs::create_dir(&draft).map_err(Error::write("create", &draft))?;
        write(&draft).map_err(Error::write("write", &draft))?;
        self.seal(&draft)?;
        fs::create_dir_all(&self.dir).map_err(Error::write("create", &self.dir))?;
        let mut number = self.numbered()?.first().map_or(1, |(newest, _)| newest + 1);
        let path = loop {
            let path = self.dir.join(format!("{number:08}"));
            match fs::rename(&draft, &path) {
                Ok(()) => break path,
                // Another run of an equal action saved this number just now.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => number += 1,
                Err(error) => return Err(Error::write("write", &path)(error)),
            }
        };
        files::sync(std::slice::from_ref(&self.dir))?;
        for (_, old) in self.numbered()?.into_iter().skip(KEPT) {
            files::remove_tree(&old).map_err(Error::write("remove", &old))?;
        }
        Ok(path)
    }

    /// Removes all checkpoints: the action is finished.
    pub fn clear(&self) -> Result<()> {
        files::remove_tree(&self.dir).map_err(Error::write("remove", &self.dir))
    }

    fn seal(&self, draft: &Path) -> Result<()> {
        let mut entries = Vec::new();
        let mut paths = vec![draft.to_owned()];
        for name in files::flat_names(draft)? {
            let path = draft.join(&name);
            let (blake3, bytes) = files::open_plain(&path).and_then(|(mut file, _)| files::hash(&mut file, &path))?;
            entries.push(FileEntry { name, bytes, blake3 });
            paths.push(path);
        }
        let manifest = draft.join(MANIFEST);
        fs::write(&manifest, encode(self.key, &entries)?).map_err(Error::write("write", &manifest))?;
        paths.push(manifest);
        files::sync(&paths)
    }

    fn verify(&self, path: &Path) -> Result<()> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let entries: Vec<FileEntry> = read_checked(&path.join(MANIFEST), self.key)?;
        for entry in entries {
            if !files::is_plain_name(&entry.name) {
                return Err(damaged(format!("`{}` leads out of it", entry.name)));
            }
            let file = path.join(&entry.name);
            let found = files::open_plain(&file).and_then(|(mut opened, _)| files::hash(&mut opened, &file))?;
            if found != (entry.blake3, entry.bytes) {
                return Err(damaged(format!("{} is not what was written", entry.name)));
            }
        }
        Ok(())
    }

    /// The checkpoints by number, newest first.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.dir)(error)),
        };
        // Longer names are none of ours, and their numbers might have no successor.
        let number = |path: &Path| path.file_name()?.to_str().filter(|name| name.len() <= 12)?.parse().ok();
        let mut found: Vec<(u64, PathBuf)> =
            entries.flatten().filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }
}
