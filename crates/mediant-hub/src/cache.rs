//! The cache of one repository, in `huggingface_hub`'s layout.
//!
//! ```text
//! models--owner--name/
//!   blobs/<etag>                 a file by the digest that the hub names it by; <etag>.incomplete while it is fetched
//!   refs/<revision>              the commit that a branch or tag meant last
//!   snapshots/<commit>/<path>    links to blobs
//!   mediant/<commit>.json        the paths of all files of a commit, so that it need not be asked for again
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::address::is_inside;
use crate::{Address, Error, Result};

pub(crate) struct Cache {
    root: PathBuf,
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn of(root: &Path, address: &Address) -> Self {
        let name = format!("models--{}", address.repository.replace('/', "--"));
        Self { root: root.to_owned(), dir: root.join(name) }
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }

    fn list_file(&self, commit: &str) -> PathBuf {
        self.dir.join("mediant").join(format!("{commit}.json"))
    }

    /// The paths of all files of a commit, if they were asked for before.
    pub(crate) fn list(&self, commit: &str) -> Option<Vec<String>> {
        let list: Vec<String> = serde_json::from_slice(&fs::read(self.list_file(commit)).ok()?).ok()?;
        list.iter().all(|path| is_inside(path)).then_some(list)
    }

    pub(crate) fn remember_list(&self, commit: &str, list: &[String]) -> Result<()> {
        let text = serde_json::to_vec(list).unwrap_or_default();
        write(&self.list_file(commit), &text)
    }

    pub(crate) fn remember_revision(&self, revision: &str, commit: &str) -> Result<()> {
        write(&self.dir.join("refs").join(revision), commit.as_bytes())
    }

    /// Commits of which files are there.
    pub(crate) fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("snapshots")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The files of a commit that are there, where its list is not known.
    pub(crate) fn present(&self, commit: &str) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, &format!("{prefix}{name}/"), found);
                } else if path.exists() {
                    found.push(format!("{prefix}{name}"));
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.snapshot(commit), "", &mut found);
        found.sort();
        found
    }

    /// Holds the lock of a blob, as `huggingface_hub` does, until the file is dropped.
    pub(crate) fn lock(&self, etag: &str) -> Result<fs::File> {
        let name = self.dir.file_name().unwrap_or_default();
        let path = self.root.join(".locks").join(name).join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
        // Where the file system has no locks, two processes fetch the same bytes.
        let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
        locked.unwrap_or_else(|error| tracing::debug!(%error, path = %path.display(), "not locked"));
        Ok(file)
    }

    /// Links a file of a commit to its blob.
    pub(crate) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<()> {
        let target = self.snapshot(commit).join(path);
        make_parent(&target)?;
        let up = "../".repeat(path.matches('/').count() + 2);
        let draft = target.with_file_name(format!(".{etag}.link"));
        let _ = fs::remove_file(&draft);
        // A rename replaces a broken link, and is there as a whole.
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &draft)
            .and_then(|()| fs::rename(&draft, &target))
            .map_err(Error::io(&target))
    }
}

pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent))
}

/// Writes a small file that is there as a whole.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(path)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(parent).map_err(Error::io(parent))?;
    draft.write_all(bytes).map_err(Error::io(path))?;
    draft.persist(path).map(drop).map_err(|error| Error::io(path)(error.error))
}
