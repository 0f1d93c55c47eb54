//! `manifest.json`: what an artifact's folder holds. Its bytes depend on nothing but the content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kind::Kind;

/// Name of the manifest in an artifact's folder.
pub const MANIFEST: &str = "manifest.json";

/// Version of the layout that this crate writes and reads.
pub const FORMAT: u32 = 1;

/// Largest manifest that is read; ten million parts of vectors would need about this much.
const LARGEST: u64 = 1 << 30;

/// Everything about an artifact but its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout: [`FORMAT`].
    pub format: u32,
    /// What the artifact holds.
    pub kind: Kind,
    /// The logical digest: kind, meta, and schema and values of every table, whatever the encoding.
    pub logical: Digest,
    /// The kind's own description, see the meta struct of each kind.
    pub meta: Value,
    /// The tables by name.
    pub tables: BTreeMap<String, TableEntry>,
    /// Files that are no tables, sorted by name; of an artifact of kind `files` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlainFile>,
}

/// A file that is no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFile {
    /// BLAKE3 of the file.
    pub blake3: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// Name in the artifact's folder.
    pub file: String,
}

/// One table of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEntry {
    /// Digest of the schema and the values.
    pub logical: Digest,
    /// The files that hold the rows, in order.
    pub parts: Vec<PartEntry>,
    /// Number of rows.
    pub rows: u64,
    /// The columns, for people: `name: type` joined by commas.
    pub schema: String,
    /// Set on tables of vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<VectorEntry>,
}

/// One Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// BLAKE3 of the file.
    pub blake3: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// Name in the artifact's folder.
    pub file: String,
    /// Rows in this file.
    pub rows: u64,
}

/// What the rows of a table of vectors are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorEntry {
    /// Format of one number.
    pub dtype: DType,
    /// Shape of one row.
    pub shape: Vec<usize>,
}

impl Manifest {
    /// Reads and checks `manifest.json` in `dir`.
    ///
    /// # Errors
    /// If there is none, it is not of this [`FORMAT`], or names a file outside the folder.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::damaged(&path, "larger than any manifest"));
        }
        Self::from_json(&bytes).map_err(|error| match error {
            Error::Invalid(why) => Error::damaged(&path, why),
            Error::Json { source, .. } => Error::Json { what: path.display().to_string(), source },
            other => other,
        })
    }

    /// Parses and checks the bytes of a manifest.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(Error::json(MANIFEST))?;
        if format != FORMAT {
            return Err(Error::Invalid(format!("format {format}; this program reads format {FORMAT}")));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(Error::json(MANIFEST))?;
        manifest.tables.iter().try_for_each(|(name, table)| table.check(name))?;
        match manifest.files.iter().find(|file| !is_plain_file(&file.file)) {
            None => Ok(manifest),
            Some(wrong) => Err(Error::Invalid(format!("`{}` is not the name of a file", wrong.file.escape_debug()))),
        }
    }

    /// The bytes of the manifest: keys sorted at every level, two spaces of indentation, a final newline.
    ///
    /// # Errors
    /// None in practice: the content is JSON already.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut value = serde_json::to_value(self).map_err(Error::json(MANIFEST))?;
        value.sort_all_objects();
        let mut bytes = serde_json::to_vec_pretty(&value).map_err(Error::json(MANIFEST))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Every file but the manifest: name, size and digest.
    pub fn stored(&self) -> impl Iterator<Item = (&str, u64, Digest)> {
        let parts = self.parts().map(|part| (part.file.as_str(), part.bytes, part.blake3));
        parts.chain(self.files.iter().map(|file| (file.file.as_str(), file.bytes, file.blake3)))
    }

    /// The files of all tables.
    pub fn parts(&self) -> impl Iterator<Item = &PartEntry> {
        self.tables.values().flat_map(|table| &table.parts)
    }
}

/// How the names of tables' files end.
const PART: &str = ".parquet";

/// Whether a name is that of a file in the artifact's folder, and leads nowhere else.
fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-%".contains(&byte)) && !name.starts_with('.')
}

/// Whether a file that is no table may have this name.
pub(crate) fn is_plain_file(name: &str) -> bool {
    is_name(name) && !name.is_empty() && name != MANIFEST && !name.ends_with(PART)
}

impl TableEntry {
    fn check(&self, name: &str) -> Result<()> {
        let mut rows = 0u64;
        for part in &self.parts {
            if !is_name(&part.file) || !part.file.ends_with(PART) {
                return Err(Error::Invalid(format!(
                    "table `{name}`: `{}` is not the name of a part",
                    part.file.escape_debug()
                )));
            }
            rows = rows.saturating_add(part.rows);
        }
        if rows != self.rows {
            return Err(Error::Invalid(format!("table `{name}`: {} rows, its parts have {rows}", self.rows)));
        }
        Ok(())
    }
}
