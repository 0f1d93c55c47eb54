//! Rows of a file of prompts: CSV, JSON lines, or one JSON value.

use std::path::Path;

use csv_core::{ReadRecordResult, Reader};
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
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let (text, ends) = (vec![0; bytes.len()], vec![0; COLUMNS]);
    let mut rows = CsvRows { path, reader: Reader::new(), rest: &bytes, text, ends };
    let Some((_, names)) = rows.next()? else { return Err(Error::source(path, None, "no header")) };
    if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Error::source(path, Some(1), format!("the column `{name}` occurs twice")));
    }
    let mut records = Vec::new();
    while records.len() < limit
        && let Some((line, cells)) = rows.next()?
    {
        if cells.len() != names.len() {
            let why = format!("{} cells, but the header has {} columns", cells.len(), names.len());
            return Err(Error::source(path, Some(line), why));
        }
        let fields = names.iter().cloned().zip(cells.into_iter().map(Value::from)).collect();
        records.push(Record { line, fields });
    }
    Ok(records)
}

/// Most columns of a CSV file.
const COLUMNS: usize = 4096;

/// The rows of a CSV file, by RFC 4180.
struct CsvRows<'f> {
    path: &'f Path,
    reader: Reader,
    rest: &'f [u8],
    /// The cells of a row, one after the other; as long as the file.
    text: Vec<u8>,
    /// Where each cell ends.
    ends: Vec<usize>,
}

impl CsvRows<'_> {
    /// The line that the next row begins at, and its cells.
    fn next(&mut self) -> Result<Option<(u64, Vec<String>)>> {
        // What is left of the last line's end, and blank lines, are read with the next row.
        let ends = self.rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let line = self.reader.line() + ends.filter(|byte| **byte == b'\n').count() as u64;
        let (mut length, mut cells) = (0, 0);
        loop {
            let (result, read, written, ended) =
                self.reader.read_record(self.rest, &mut self.text[length..], &mut self.ends[cells..]);
            self.rest = &self.rest[read..];
            (length, cells) = (length + written, cells + ended);
            match result {
                // Reading on with nothing left ends the last row.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(Error::source(self.path, Some(line), format!("more than {COLUMNS} columns")));
                }
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => break,
            }
        }
        let starts = [0].into_iter().chain(self.ends[..cells].iter().copied());
        let cell = |(start, &end): (usize, &usize)| String::from_utf8(self.text[start..end].to_vec());
        let cells: std::result::Result<_, _> = starts.zip(&self.ends[..cells]).map(cell).collect();
        let cells = cells.map_err(|_| Error::source(self.path, Some(line), "not UTF-8"))?;
        Ok(Some((line, cells)))
    }
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
                serde_json::from_str(&text).map_err(|error| Error::source(path, Some(line), in_line(&error)))?;
            records.push(Record { line, fields });
        }
    }
    Ok(records)
}

/// A JSON error without its own line, which is always 1.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
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
