//! The `files` kind: files in the format of another tool, as they are, beside a table `files` that lists them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Schema};
use serde::{Deserialize, Serialize};

use super::column::required;
use crate::manifest::{PlainFile, is_plain_file};
use crate::{ArtifactWriter, Digest, Error, Kind, Manifest};

/// What is known of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesMeta {
    /// The format that they are in: `saelens`, ...
    pub format: String,
}

/// Writes files: `fill` puts them into the folder that it is given, which holds nothing and no folders afterwards.
///
/// # Errors
/// If the writer is not of kind [`Kind::Files`], a name has other characters than letters, digits, `.`, `_`, `-` and `%` or
/// is one that artifacts use, `fill` fails, or a file cannot be read.
pub fn write_files<E: From<Error>>(
    artifact: ArtifactWriter,
    meta: &FilesMeta,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Manifest, E> {
    artifact.expect(Kind::Files)?;
    fill(artifact.dir())?;
    Ok(finish(artifact, meta)?)
}

fn finish(artifact: ArtifactWriter, meta: &FilesMeta) -> Result<Manifest, Error> {
    let files = list(artifact.dir())?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.file))),
        Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.bytes))),
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| file.blake3.to_string()))),
    ];
    let schema = Arc::new(Schema::new(vec![
        required("name", DataType::Utf8),
        required("bytes", DataType::UInt64),
        required("blake3", DataType::Utf8),
    ]));
    let mut table = artifact.table("files", Arc::clone(&schema))?;
    table.write(&RecordBatch::try_new(schema, columns)?)?;
    table.close()?;
    artifact.finish_with(meta, files)
}

/// The files of a folder, sorted by name.
fn list(dir: &Path) -> Result<Vec<PlainFile>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_plain_file(name));
        let (Some(name), true) = (name, path.is_file()) else {
            return Err(Error::Invalid(format!("{} is no file that an artifact can hold", path.display())));
        };
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let mut hasher = blake3::Hasher::new();
        let bytes = std::io::copy(&mut file, &mut hasher).map_err(Error::io(&path))?;
        files.push(PlainFile { blake3: Digest::from(hasher.finalize()), bytes, file: name.to_owned() });
    }
    files.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(files)
}
