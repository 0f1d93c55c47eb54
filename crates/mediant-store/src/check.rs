//! Whether an object is still what was published.

use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::stat::{Stamp, StatKey, now};
use crate::{Error, FileEntry, Id, Result, StatIndex, Store, files};

/// What a look at an object found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Every file is what the manifest says.
    Intact,
    /// There is no such object.
    Missing,
    /// A file is missing or is not what it was.
    Damaged {
        /// The file's name; empty for the folder itself.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Store {
    /// Looks at an object's files, its manifest among them: those whose stat is as `stats` remembers it are trusted,
    /// the others are read. `files` need not be trustworthy: names that lead elsewhere are damage.
    pub fn check(&self, id: Id, manifest: &str, files: &[FileEntry], stats: &StatIndex) -> Result<ObjectState> {
        let path = self.object_path(id);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(ObjectState::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(damaged("", "it is not a folder")),
            Err(errno) => return Err(Error::io("open", &path)(errno.into())),
        };
        let expected = files.iter().map(|file| (file.name.as_str(), Some(file.bytes), file.blake3));
        for (name, bytes, digest) in std::iter::once((manifest, None, id)).chain(expected) {
            if !files::is_plain_name(name) {
                return Ok(damaged(name, "its name leads out of the object"));
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return Ok(damaged(name, "it is missing")),
                Err(errno) => return Err(Error::io("read", &path.join(name))(errno.into())),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(damaged(name, "it is not a plain file"));
            }
            let stamp = Stamp::of_stat(&stat);
            if let Some(bytes) = bytes.filter(|&bytes| bytes != stamp.size()) {
                return Ok(damaged(name, &format!("it has {} bytes instead of {bytes}", stamp.size())));
            }
            let key = StatKey::in_object(id, name);
            let found = match stats.trusted(key, &stamp) {
                Some(found) => found,
                None => stats.read_plain(key, &path.join(name))?,
            };
            if found != digest {
                return Ok(damaged(name, "its bytes have changed"));
            }
        }
        Ok(ObjectState::Intact)
    }

    /// Remembers an object that was just published, from the digests that its writer computed, so that large files are
    /// not read again by the next run.
    pub fn note_published(&self, id: Id, manifest: &str, files: &[FileEntry], stats: &StatIndex) -> Result<()> {
        let path = self.object_path(id);
        let expected = files.iter().map(|file| (file.name.as_str(), file.blake3));
        for (name, digest) in std::iter::once((manifest, id)).chain(expected) {
            if !files::is_plain_name(name) {
                return Err(Error::BadName { name: name.to_owned(), folder: path, why: "it leads out of the folder" });
            }
            note(stats, StatKey::in_object(id, name), &path.join(name), digest)?;
        }
        Ok(())
    }
}

fn note(stats: &StatIndex, key: StatKey, path: &Path, digest: Id) -> Result<()> {
    let recorded = now();
    let stat = rustix::fs::lstat(path).map_err(|errno| Error::io("read", path)(errno.into()))?;
    stats.remember(key, Stamp::of_stat(&stat), recorded, digest, path);
    Ok(())
}

fn damaged(file: &str, why: &str) -> ObjectState {
    ObjectState::Damaged { file: file.to_owned(), why: why.to_owned() }
}
