//! The few file operations that everything here is made of.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::{Error, Id, Result};

/// Makes files and folders durable. At once rather than one by one: the file system then writes its journal once.
pub(crate) fn sync(paths: &[PathBuf]) -> Result<()> {
    const THREADS: usize = 8;
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            File::open(path).and_then(|file| file.sync_all()).map_err(Error::write("write", path))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..paths.len().min(THREADS))
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut result = work();
        for helper in helpers {
            result = result.and(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

/// Renames `from` to `to` unless `to` exists; says whether it did.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Not every file system knows the flag (NFS); a hard link is as exclusive.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a plain file for reading; a link, a folder, a pipe or a device is an error and is never waited for.
pub(crate) fn open_plain(path: &Path) -> Result<(File, Metadata)> {
    open_with(path, OFlags::NOFOLLOW)
}

/// As [`open_plain`], but a symbolic link is followed.
pub(crate) fn open_followed(path: &Path) -> Result<(File, Metadata)> {
    open_with(path, OFlags::empty())
}

fn open_with(path: &Path, extra: OFlags) -> Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | extra;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::LOOP | Errno::NXIO) => {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        Err(errno) => return Err(Error::io("read", path)(errno.into())),
    };
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(Error::NotAFile { path: path.to_owned() }) }
}

/// The digest of the rest of a file, and its length.
pub(crate) fn hash(file: &mut File, path: &Path) -> Result<(Id, u64)> {
    // Small pieces stay on this thread; a large piece is worth all of them.
    const SMALL: usize = 128 << 10;
    const LARGE: usize = 8 << 20;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; SMALL];
    let mut total = 0;
    loop {
        let length = fill(file, &mut buffer).map_err(Error::io("read", path))?;
        total += length as u64;
        if length == buffer.len() && length == LARGE {
            hasher.update_rayon(&buffer);
        } else {
            hasher.update(&buffer[..length]);
        }
        if length < buffer.len() {
            return Ok((Id::from_bytes(*hasher.finalize().as_bytes()), total));
        }
        buffer.resize(LARGE, 0);
    }
}

/// Whether the rests of two files are the same bytes.
pub(crate) fn equal(a: &mut File, b: &mut File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let length = fill(a, &mut left)?;
        if fill(b, &mut right)? != length || left[..length] != right[..length] {
            return Ok(false);
        }
        if length < left.len() {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The names of a folder that holds plain files and nothing else, sorted.
pub(crate) fn flat_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let kind = entry.file_type().map_err(Error::io("read", &entry.path()))?;
        if !kind.is_file() {
            return Err(Error::NotAFile { path: entry.path() });
        }
        match entry.file_name().into_string() {
            Ok(name) => names.push(name),
            Err(name) => {
                return Err(Error::BadName {
                    name: name.to_string_lossy().into_owned(),
                    folder: dir.to_owned(),
                    why: "it is not UTF-8",
                });
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a name that came from a file may be joined to a folder: one plain component.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Lets the owner change a folder again; a link is left alone.
pub(crate) fn make_writable(dir: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor).set_permissions(Permissions::from_mode(0o755)),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a file, a link or a whole folder, read-only folders inside it too. What is gone already is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).or_else(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            unlock_folders(path)?;
            fs::remove_dir_all(path)
        }),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn unlock_folders(dir: &Path) -> io::Result<()> {
    make_writable(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock_folders(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file or folder was made, changed or moved less than `age` ago. A clock that went back makes it young.
pub(crate) fn is_young(path: &Path, age: Duration) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    let (seconds, nanoseconds) = changed.max((metadata.mtime(), metadata.mtime_nsec()));
    let last = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(last).is_none_or(|since| since < age)
}
