//! Objects: immutable folders of plain files, named by the digest of their manifest.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};

use crate::store::Folder;
use crate::{Error, Id, Result, Store, files};

/// A file of an object, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The digest of its bytes.
    pub blake3: Id,
}

impl Store {
    /// Where the object is, or would be.
    pub fn object_path(&self, id: Id) -> PathBuf {
        self.sharded(Folder::Objects, id, "")
    }

    /// Makes a folder under [`Staging`](crate::Staging) an object. It must hold plain files only, `manifest` among them.
    ///
    /// The folder is gone afterwards: moved to its place, or dropped if an equal object stands there. A different one,
    /// which must be damaged, is set aside. The files are durable once this returns, the object's place once a record
    /// that names it is written; until then the object is garbage that gc may take.
    pub fn publish(&self, dir: &Path, manifest: &str) -> Result<Id> {
        let names = files::flat_names(dir)?;
        let manifest = dir.join(manifest);
        let id = files::open_plain(&manifest).and_then(|(mut file, _)| files::hash(&mut file, &manifest))?.0;
        let target = self.object_path(id);
        let mut sealed = false;
        loop {
            let folders = Self::make_parent(&target)?;
            if fs::symlink_metadata(&target).is_ok() {
                match difference(dir, &target, &names)? {
                    None => {
                        files::remove_tree(dir).map_err(Error::write("remove", dir))?;
                        touch(&target);
                        self.unsynced().insert(id, folders);
                        return Ok(id);
                    }
                    Some(why) => self.set_aside(&target, &why)?,
                };
            }
            if !sealed {
                seal(dir, &names)?;
                sealed = true;
            }
            match fs::rename(dir, &target) {
                Ok(()) => {
                    // Only now: a read-only folder cannot be moved.
                    fs::set_permissions(&target, Permissions::from_mode(0o555))
                        .map_err(Error::write("write", &target))?;
                    self.unsynced().insert(id, folders);
                    return Ok(id);
                }
                // Another process was faster.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
                Err(error) => return Err(Error::write("write", &target)(error)),
            }
        }
    }

    /// Moves a damaged object out of the way and logs why; the result says where it is now, or `None` if it was gone.
    pub fn quarantine(&self, id: Id, why: &str) -> Result<Option<PathBuf>> {
        self.set_aside(&self.object_path(id), why)
    }
}

/// Makes the files read-only and durable.
fn seal(dir: &Path, names: &[String]) -> Result<()> {
    let mut paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
    for path in &paths {
        fs::set_permissions(path, Permissions::from_mode(0o444)).map_err(Error::write("write", path))?;
    }
    paths.push(dir.to_owned());
    files::sync(&paths)
}

/// How the object at `target` differs from the files in `dir`, byte for byte.
fn difference(dir: &Path, target: &Path, names: &[String]) -> Result<Option<String>> {
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => {}
        _ => return Ok(Some("it is not a folder".to_owned())),
    }
    match files::flat_names(target) {
        Ok(found) if found == names => {}
        Ok(_) => {
            return Ok(Some("it does not have the files that its manifest names".to_owned()));
        }
        Err(error) => return Ok(Some(error.to_string())),
    }
    for name in names {
        let (new, old) = (dir.join(name), target.join(name));
        let (mut fresh, metadata) = files::open_plain(&new)?;
        let equal = match files::open_plain(&old) {
            Ok((mut stored, stored_metadata)) => {
                metadata.len() == stored_metadata.len()
                    && files::equal(&mut fresh, &mut stored).map_err(Error::io("read", &old))?
            }
            Err(Error::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("read", &old)(source));
            }
            Err(_) => false,
        };
        if !equal {
            return Ok(Some(format!("{name} is not what was written")));
        }
    }
    Ok(None)
}

/// gc spares what was used lately.
fn touch(dir: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::utimensat(CWD, dir, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
}
