//! A file of unknown origin: read in pieces, none of which is larger than the file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file, or bytes in memory with a name for messages.
#[derive(Debug)]
pub struct Input {
    path: PathBuf,
    content: Content,
    len: u64,
}

#[derive(Debug)]
enum Content {
    File(File),
    Held(Vec<u8>),
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened or is no plain file.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "is not a file"));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), content: Content::File(file), len: metadata.len() })
    }

    /// Bytes in memory.
    pub fn held(name: &str, bytes: Vec<u8>) -> Self {
        Self { path: name.into(), len: bytes.len() as u64, content: Content::Held(bytes) }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// An error about this file.
    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        Error::format(&self.path, why)
    }

    /// Whether so many bytes lie there.
    pub(super) fn holds(&self, start: u64, bytes: u64) -> bool {
        start.checked_add(bytes).is_some_and(|end| end <= self.len)
    }

    /// Bytes from `start`; no memory is taken for what the file cannot hold.
    pub(super) fn bytes(&self, start: u64, bytes: u64) -> Result<Vec<u8>> {
        let len = usize::try_from(bytes).ok().filter(|_| self.holds(start, bytes));
        let Some(len) = len else {
            return Err(self.error(format!("ends before byte {}", start.saturating_add(bytes))));
        };
        match &self.content {
            Content::File(file) => {
                let mut out = vec![0; len];
                file.read_exact_at(&mut out, start).map_err(Error::io(&self.path))?;
                Ok(out)
            }
            // `holds` has checked the range.
            Content::Held(all) => Ok(all.get(start as usize..start as usize + len).unwrap_or_default().to_vec()),
        }
    }
}
