//! Rows of a file of prompts: CSV, JSON lines, or one JSON value.

use std::fs::File;
use std::path::Path;

use serde_json::{Map, Value};

use crate::text::text_lines;
use crate::{Error, Result};

/// A row with its named fields.
pub(super) struct Record {
    /// Line of the file, or of a JSON list the item; counted from 1.
    pub(super) line: u64,
    pub(super) fields: Map<String, Value>,
}

/// What prompts are read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    JsonLines,
    Json,
}

impl Format {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The first `limit` rows. Blank lines are passed over.
///
/// # Errors
/// [`Error::Source`] with file and line for what is no row.
pub(super) fn read_records(path: &Path, limit: usize) -> Result<Vec<Record>> {
    match Format::of(path) {
        Some(Format::Csv) => csv_records(path, limit),
        Some(Format::JsonLines) => json_lines(path, limit),
        Some(Format::Json) => json_list(path, limit),
        None => Err(Error::source(path, None, "not a `.csv`, `.jsonl` or `.json` file")),
    }
}

fn csv_records(path: &Path, limit: usize) -> Result<Vec<Record>> {
    let failed = |error: csv::Error| {
        let line = error.position().map(csv::Position::line);
        Error::source(path, line, error.to_string())
    };
    let mut reader = csv::Reader::from_reader(File::open(path).map_err(Error::io(path))?);
    let names = reader.headers().map_err(failed)?.clone();
    if let Some(name) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|known| known == *name)) {
        return Err(Error::source(path, Some(1), format!("the column `{}` occurs twice", name.1)));
    }
    let record = |row: csv::Result<csv::StringRecord>| {
        let row = row.map_err(failed)?;
        let line = row.position().map_or(0, csv::Position::line);
        let fields = names.iter().zip(&row).map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect();
        Ok(Record { line, fields })
    };
    reader.records().take(limit).map(record).collect()
}

fn json_lines(path: &Path, limit: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for line in text_lines(path)? {
        let (line, text) = line?;
        if records.len() == limit {
            break;
        }
        if !text.trim().is_empty() {
            let fields =
                serde_json::from_str(&text).map_err(|error| Error::source(path, Some(line), error.to_string()))?;
            records.push(Record { line, fields });
        }
    }
    Ok(records)
}

/// A list of objects, or an object with such a list under `prompts`.
fn json_list(path: &Path, limit: usize) -> Result<Vec<Record>> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    let value = serde_json::from_slice(&text)
        .map_err(|error| Error::source(path, Some(error.line() as u64), error.to_string()))?;
    let list = match value {
        Value::Array(list) => Some(list),
        Value::Object(mut object) => match object.remove("prompts") {
            Some(Value::Array(list)) => Some(list),
            _ => None,
        },
        _ => None,
    };
    let list =
        list.ok_or_else(|| Error::source(path, None, "neither a list nor an object with a list under `prompts`"))?;
    let record = |(line, item)| match item {
        Value::Object(fields) => Ok(Record { line, fields }),
        _ => Err(Error::source(path, Some(line), "not an object")),
    };
    (1..).zip(list).take(limit).map(record).collect()
}
