//! Small JSON files that vouch for themselves: format, key and digest of the text stand before the text.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::store::Folder;
use crate::{Error, Id, Result, Store, files};

/// More than any record needs; what is larger is not read.
const LIMIT: u64 = 256 << 20;

const OPEN: &str = "{\"format\":1,\"key\":\"";
const DIGEST: &str = "\",\"blake3\":\"";
const BODY: &str = "\",\"record\":";
const CLOSE: &str = "}\n";
const BODY_AT: usize = OPEN.len() + 64 + DIGEST.len() + 64 + BODY.len();

/// JSON that is kept as text until somebody asks: most readers of a record never look at its pre-image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON of a value.
    pub fn new(value: &impl Serialize) -> Result<Self> {
        Ok(Self(serde_json::value::to_raw_value(value)?))
    }

    /// The value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.text())?)
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

pub(crate) fn encode(key: Id, value: &impl Serialize) -> Result<Vec<u8>> {
    let body = serde_json::to_string(value)?;
    let digest = Id::of(body.as_bytes());
    Ok(format!("{OPEN}{key}{DIGEST}{digest}{BODY}{body}{CLOSE}").into_bytes())
}

/// The inverse of [`encode`]; the error says what is wrong.
pub(crate) fn decode<T: DeserializeOwned>(key: Id, bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let body = text.get(BODY_AT..text.len().saturating_sub(CLOSE.len())).ok_or("it is cut short")?;
    let expected = format!("{OPEN}{key}{DIGEST}{}{BODY}", Id::of(body.as_bytes()));
    if !text.starts_with(&expected) || !text.ends_with(CLOSE) {
        return Err("its digest does not fit its text".to_owned());
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

impl Store {
    /// Reads a record; a damaged one is set aside and reads as none.
    pub(crate) fn read_record<T: DeserializeOwned>(&self, path: &Path, key: Id) -> Result<Option<T>> {
        match read_checked(path, key) {
            Ok(value) => Ok(Some(value)),
            Err(Error::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(Error::Damaged { why, .. }) => self.set_aside(path, &why).map(|_| None),
            Err(Error::NotAFile { .. }) => self.set_aside(path, "it is not a plain file").map(|_| None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file that is whole or absent, whatever happens, and stays once this returns.
    /// An existing file is replaced if `replace`; else it is left, and the result is false.
    pub(crate) fn write_durable(&self, path: &Path, bytes: &[u8], also: Vec<PathBuf>, replace: bool) -> Result<bool> {
        let parents = Self::make_parent(path)?;
        let draft = self.draft(bytes)?;
        let mut before = also;
        before.extend_from_slice(&parents[1..]);
        before.push(draft.clone());
        if let Err(error) = files::sync(&before) {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        if !place(&draft, path, replace)? {
            return Ok(false);
        }
        files::sync(&parents[..1])?;
        Ok(true)
    }

    /// As [`Store::write_durable`], for what may be lost with the machine's power: no waiting for the disk.
    pub(crate) fn write_quick(&self, path: &Path, bytes: &[u8], replace: bool) -> Result<bool> {
        Self::make_parent(path)?;
        let draft = self.draft(bytes)?;
        place(&draft, path, replace)
    }

    fn draft(&self, bytes: &[u8]) -> Result<PathBuf> {
        let draft = self.scratch()?.fresh("draft");
        let written = File::create_new(&draft).and_then(|mut file| file.write_all(bytes));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.map_err(Error::write("write", &draft))?;
        Ok(draft)
    }

    /// Moves something damaged out of the way and says so; `None` if another process was faster.
    pub(crate) fn set_aside(&self, path: &Path, why: &str) -> Result<Option<PathBuf>> {
        let relative = path.strip_prefix(self.root()).unwrap_or(path).to_string_lossy().replace('/', "-");
        let aside = self.folder(Folder::Quarantine).join(format!("{relative}-{}", Ulid::new()));
        if self.is_read_only() {
            tracing::warn!(path = %path.display(), why, "damaged, and the store is read-only: left where it is");
            return Ok(None);
        }
        // Moving a folder changes its `..`, so it must be writable.
        let moved = files::make_writable(path).and_then(|()| fs::rename(path, &aside));
        match moved {
            Ok(()) => {
                tracing::warn!(path = %path.display(), why, kept = %aside.display(), "damaged: set aside");
                Ok(Some(aside))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::write("set aside", path)(error)),
        }
    }
}

/// Reads a record and checks it against its key.
pub(crate) fn read_checked<T: DeserializeOwned>(path: &Path, key: Id) -> Result<T> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let (mut file, metadata) = files::open_plain(path)?;
    if metadata.len() > LIMIT {
        return Err(damaged(format!("it has {} bytes", metadata.len())));
    }
    let mut bytes = vec![0; metadata.len() as usize];
    let length = files::fill(&mut file, &mut bytes).map_err(Error::io("read", path))?;
    decode(key, &bytes[..length]).map_err(damaged)
}

fn place(draft: &Path, path: &Path, replace: bool) -> Result<bool> {
    let placed = if replace { fs::rename(draft, path).map(|()| true) } else { files::rename_new(draft, path) };
    if !matches!(placed, Ok(true)) {
        let _ = fs::remove_file(draft);
    }
    placed.map_err(Error::write("write", path))
}
