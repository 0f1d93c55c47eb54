//! The documents of a corpus on disk, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{columns, json};
use crate::{Error, Result};

/// One document of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Text, to be tokenized.
    Text(String),
    /// Ready-made token ids.
    Ids(Vec<u32>),
}

/// Where a document of a text file ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Every line is a document.
    Line,
    /// Documents are separated by blank lines.
    #[default]
    BlankLine,
    /// The file is one document.
    File,
}

/// Reads the documents of a file, or of all files of a folder.
pub struct Documents {
    files: VecDeque<PathBuf>,
    boundary: Boundary,
    current: Option<OneFile>,
}

/// The documents of one file.
enum OneFile {
    Text(TextFile),
    Lines(json::Lines),
    Rows(columns::Rows),
    Array(std::vec::IntoIter<Document>),
}

/// What a folder is searched for.
const EXTENSIONS: [&str; 4] = ["txt", "jsonl", "json", "parquet"];

/// The documents at `source`.
///
/// - `*.jsonl`: one JSON value a line, a string or an object with `text` or `input_ids`; other fields are ignored.
/// - `*.json`: an array of such values; it is read whole, so a large corpus is better kept in lines.
/// - `*.parquet`: a column `text`, or a column `input_ids` of lists.
/// - any other file: UTF-8 text, divided by `boundary`. Blank documents are left out.
/// - a folder: all its `txt`, `jsonl`, `json` and `parquet` files at any depth, by path in byte order; links to folders are
///   not followed.
///
/// Files are opened as their turn comes. Every error names the file, and the line or row.
///
/// # Errors
/// If there is nothing at `source`, or nothing in the folder that holds documents.
pub fn documents(source: &Path, boundary: Boundary) -> Result<Documents> {
    let mut files = Vec::new();
    if source.is_dir() {
        walk(source, &mut files)?;
        files.sort_unstable();
        if files.is_empty() {
            return Err(Error::source(source, None, format!("no {} files in this folder", EXTENSIONS.join(", "))));
        }
    } else {
        files.push(source.to_owned());
    }
    Ok(Documents { files: files.into(), boundary, current: None })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        let known = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        // Links to folders are not followed: they may lead around in a circle.
        if entry.file_type().map_err(Error::io(&path))?.is_dir() {
            walk(&path, files)?;
        } else if known && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(document) = current.next()
            {
                return Some(document);
            }
            match OneFile::open(&self.files.pop_front()?, self.boundary) {
                Ok(file) => self.current = Some(file),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl OneFile {
    fn open(path: &Path, boundary: Boundary) -> Result<Self> {
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Self::Lines(json::Lines::open(path)?),
            Some("json") => Self::Array(json::array(path)?.into_iter()),
            Some("parquet") => Self::Rows(columns::Rows::open(path)?),
            _ => Self::Text(TextFile { lines: Lines::open(path)?, boundary }),
        })
    }
}

impl Iterator for OneFile {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        match self {
            Self::Text(file) => file.next(),
            Self::Lines(file) => file.next(),
            Self::Rows(file) => file.next(),
            Self::Array(entries) => entries.next().map(Ok),
        }
    }
}

struct TextFile {
    lines: Lines,
    boundary: Boundary,
}

impl Iterator for TextFile {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        let mut document = String::new();
        for line in self.lines.by_ref() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let blank = line.trim().is_empty();
            if document.is_empty() {
                // Blank lines at the start belong to no document.
                if blank {
                    continue;
                }
                document = line;
            } else if blank && self.boundary == Boundary::BlankLine {
                break;
            } else {
                document.push('\n');
                document.push_str(&line);
            }
            if self.boundary == Boundary::Line {
                break;
            }
        }
        (!document.is_empty()).then_some(Ok(Document::Text(document)))
    }
}

/// The lines of a UTF-8 file, without their ends, counted from 1.
pub(super) struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
    pub(super) number: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, file), path: path.to_owned(), number: 0 })
    }

    /// An error about the line read last.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::source(&self.path, Some(self.number), why.to_string())
    }
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => self.number += 1,
            Err(error) => return Some(Err(Error::io(&self.path)(error))),
        }
        let end = line.strip_suffix(b"\n").map_or(line.len(), |line| line.strip_suffix(b"\r").unwrap_or(line).len());
        line.truncate(end);
        Some(String::from_utf8(line).map_err(|_| self.error("not UTF-8 text")))
    }
}

/// The lines of a UTF-8 file with their numbers.
pub(crate) fn text_lines(path: &Path) -> Result<impl Iterator<Item = Result<(u64, String)>>> {
    let mut lines = Lines::open(path)?;
    Ok(std::iter::from_fn(move || Some(lines.next()?.map(|line| (lines.number, line)))))
}
