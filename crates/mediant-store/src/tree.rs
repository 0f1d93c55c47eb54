//! Digests of folders outside the store: names and contents of the files that a stage reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{Error, FileEntry, Id, Result, StatIndex};

/// What a stage reads of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeDigest {
    /// The digest of all names and contents.
    pub blake3: Id,
    /// The files, sorted by name; names are relative, with `/` between folders.
    pub files: Vec<FileEntry>,
}

impl StatIndex {
    /// Digests the files below `dir` that match one of `patterns` (relative; `*` stops at `/`, `**` does not).
    /// Symbolic links are followed, but not round in circles.
    pub fn digest_tree(&self, dir: &Path, patterns: &[&str]) -> Result<TreeDigest> {
        let depth = patterns.iter().map(|pattern| folders_in(pattern)).max().unwrap_or(0);
        let mut walk = Walk { patterns: compile(patterns)?, depth, around: Vec::new(), found: Vec::new() };
        walk.enter(dir, "")?;
        self.digest_names(dir, walk.found)
    }

    /// Digests exactly these files below `dir`.
    pub fn digest_files(&self, dir: &Path, names: &[&str]) -> Result<TreeDigest> {
        for name in names {
            let plain = Path::new(name).components().map(|component| match component {
                Component::Normal(part) => part.to_str(),
                _ => None,
            });
            // Equal files under two spellings of one name would have two digests.
            if plain.collect::<Option<Vec<_>>>().is_none_or(|parts| parts.is_empty() || parts.join("/") != **name) {
                return Err(bad_name(name, dir, "it is not a plain relative path"));
            }
        }
        self.digest_names(dir, names.iter().map(ToString::to_string).collect())
    }

    fn digest_names(&self, dir: &Path, mut names: Vec<String>) -> Result<TreeDigest> {
        names.sort_unstable();
        names.dedup();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"mediant tree 1\0").update(&(names.len() as u64).to_le_bytes());
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let file = self.digest_file(&dir.join(&name))?;
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(file.blake3.as_bytes());
            files.push(FileEntry { name, bytes: file.bytes, blake3: file.blake3 });
        }
        Ok(TreeDigest { blake3: Id::from_bytes(*hasher.finalize().as_bytes()), files })
    }
}

struct Walk {
    patterns: GlobSet,
    /// How many folders deep a match can be.
    depth: usize,
    /// Device and inode of the folders that we are in.
    around: Vec<(u64, u64)>,
    found: Vec<String>,
}

impl Walk {
    fn enter(&mut self, dir: &Path, prefix: &str) -> Result<()> {
        let metadata = fs::metadata(dir).map_err(Error::io("read", dir))?;
        let identity = (metadata.dev(), metadata.ino());
        if self.around.contains(&identity) {
            return Err(Error::Loop { path: dir.to_owned() });
        }
        self.around.push(identity);
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            let path = entry.path();
            let matches = self.patterns.is_match(Path::new(prefix).join(entry.file_name()));
            // Follows links; a link to nowhere matters only if it was asked for.
            let is_dir = match fs::metadata(&path) {
                Ok(metadata) => metadata.is_dir(),
                Err(error) if matches => return Err(Error::io("read", &path)(error)),
                Err(_) => continue,
            };
            let name = || {
                let name = entry.file_name();
                let text = name.to_str().map(|name| format!("{prefix}{name}"));
                text.ok_or_else(|| bad_name(&name.to_string_lossy(), dir, "it is not UTF-8"))
            };
            if !is_dir && matches {
                let name = name()?;
                self.found.push(name);
            } else if is_dir && self.around.len() <= self.depth {
                let name = name()?;
                self.enter(&path, &format!("{name}/"))?;
            }
        }
        self.around.pop();
        Ok(())
    }
}

/// How many folders below the top a match of the pattern can lie, at most.
fn folders_in(pattern: &str) -> usize {
    if pattern.contains("**") { usize::MAX } else { pattern.matches('/').count() }
}

fn compile(patterns: &[&str]) -> Result<GlobSet> {
    let bad = |pattern: &str, error: globset::Error| Error::BadPattern {
        pattern: pattern.to_owned(),
        why: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| bad(pattern, error))?);
    }
    set.build().map_err(|error| bad(&patterns.join(" "), error))
}

fn bad_name(name: &str, folder: &Path, why: &'static str) -> Error {
    Error::BadName { name: name.to_owned(), folder: folder.to_owned(), why }
}
