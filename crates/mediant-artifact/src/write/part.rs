//! One Parquet file of a table, hashed as it is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::manifest::PartEntry;

/// What every Parquet file of an artifact says wrote it: no version, or an upgrade would change all bytes.
pub(super) const CREATED_BY: &str = "mediant";

/// A file that counts and hashes what is written to it.
pub(crate) struct HashedFile {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
    name: String,
    pub(crate) path: PathBuf,
}

impl HashedFile {
    /// Creates part number `index` of a table.
    pub(crate) fn create(dir: &Path, table: &str, index: usize) -> Result<Self> {
        let name = format!("{}-{index:05}.parquet", percent_encoded(table));
        let path = dir.join(&name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { file, hasher: blake3::Hasher::new(), bytes: 0, name, path })
    }

    /// The manifest's entry of the file as written so far.
    pub(crate) fn entry(self, rows: u64) -> PartEntry {
        PartEntry { blake3: self.hasher.finalize().into(), bytes: self.bytes, file: self.name, rows }
    }
}

impl Write for HashedFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A table's name as a file name: anything but letters, digits and `._-` as `%` and two hexadecimal digits, so that hook
/// names stay readable; a leading `.` too.
fn percent_encoded(name: &str) -> String {
    let mut text = String::new();
    for (i, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && i > 0) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
