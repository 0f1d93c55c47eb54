//! Documents in JSON: a line each, or an array.

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};

use super::documents::{Document, Lines as TextLines};
use crate::{Error, Result};

/// A string, or an object with `text` or `input_ids`.
struct Entry(Document);

/// Other fields of a data set are no business of ours.
#[derive(serde::Deserialize)]
struct Fields {
    text: Option<String>,
    input_ids: Option<Vec<u32>>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string, or an object with `text` or `input_ids`")
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry(Document::Text(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        match Fields::deserialize(MapAccessDeserializer::new(map))? {
            Fields { text: Some(text), input_ids: None } => Ok(Entry(Document::Text(text))),
            Fields { input_ids: Some(ids), text: _ } => Ok(Entry(Document::Ids(ids))),
            Fields { text: None, input_ids: None } => Err(A::Error::custom("neither `text` nor `input_ids`")),
        }
    }
}

/// The entries of a file with one JSON value a line. Blank lines are passed over.
pub(super) struct Lines(TextLines);

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        TextLines::open(path).map(Self)
    }
}

impl Iterator for Lines {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        loop {
            let line = match self.0.next()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            if !line.trim().is_empty() {
                let entry = serde_json::from_str::<Entry>(&line);
                return Some(entry.map(|entry| entry.0).map_err(|error| self.0.error(message(&error))));
            }
        }
    }
}

/// The entries of a file with one JSON array.
pub(super) fn array(path: &Path) -> Result<Vec<Document>> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    let entries: Vec<Entry> = serde_json::from_slice(&text)
        .map_err(|error| Error::source(path, Some(error.line() as u64), message(&error)))?;
    Ok(entries.into_iter().map(|entry| entry.0).collect())
}

/// What is wrong, without the place: within a line that is said better by the line's number.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => format!("{message} (column {})", error.column()),
        None => text,
    }
}
