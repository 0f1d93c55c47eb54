//! Prompts from a file of the user's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::columns::{AnswerKind, Columns, Layout};
use super::draft::{Answer, Draft, DraftMark, DraftVersion};
use super::records::{Format, Record, read_records};
use crate::{Error, Result};

/// A prompt of a file.
pub struct SourceDraft {
    /// Where it stands: `FILE:LINE`; in a file that is one JSON list the number of the item in place of the line.
    pub place: String,
    /// The prompt.
    pub draft: Draft,
}

/// Whether prompts can be read from a file of this name.
pub fn is_source(path: &str) -> bool {
    Format::of(Path::new(path)).is_some()
}

/// Whether a file has the columns, as far as its first row tells. A file that is one JSON list is not read for this.
///
/// # Errors
/// [`Error::Source`] as [`read_drafts`].
pub fn check_source(path: &Path, columns: &Columns) -> Result<()> {
    match Format::of(path) {
        Some(Format::Csv | Format::JsonLines) => {
            read_records(path, 1)?.iter().try_for_each(|record| complete(path, record, columns))
        }
        _ => Ok(()),
    }
}

/// The prompts of a file, with those of its counterfactuals that are named.
///
/// # Errors
/// [`Error::Source`] with file and line for a row that lacks a column or holds something else there than it should, and for a file
/// without rows.
pub fn read_drafts(
    path: &Path,
    columns: &Columns,
    task: &str,
    counterfactuals: &[String],
    limit: Option<u64>,
) -> Result<Vec<SourceDraft>> {
    let limit = limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    let records = read_records(path, limit)?;
    if records.is_empty() {
        return Err(Error::source(path, None, "no prompts"));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = |record: &Record| {
        complete(path, record, columns)?;
        let draft = Row { record, columns }.draft(task, counterfactuals);
        let draft = draft.map_err(|why| Error::source(path, Some(record.line), why))?;
        Ok(SourceDraft { place: format!("{file}:{}", record.line), draft })
    };
    records.iter().map(draft).collect()
}

/// Every needed column is there.
fn complete(path: &Path, record: &Record, columns: &Columns) -> Result<()> {
    let has = |name: &str| record.fields.contains_key(name);
    let missing = columns.needed().find(|name| !has(name));
    missing.map_or(Ok(()), |missing| {
        let known: Vec<&str> = record.fields.keys().map(String::as_str).collect();
        let fitting = Layout::ALL.into_iter().filter(|layout| layout.columns().needed().all(has));
        let help = match fitting.map(|layout| format!("`layout: {}`", layout.name())).collect::<Vec<_>>() {
            fitting if fitting.is_empty() => "say by `columns` what stands where".to_owned(),
            fitting => format!("these are the columns of {}", fitting.join(" and ")),
        };
        Err(Error::source(path, Some(record.line), format!("no column `{missing}`, only {}; {help}", known.join(", "))))
    })
}

/// A row that has all columns.
struct Row<'a> {
    record: &'a Record,
    columns: &'a Columns,
}

impl Row<'_> {
    fn draft(&self, task: &str, counterfactuals: &[String]) -> Result<Draft, String> {
        let columns = self.columns;
        let (right, wrong) = self.answers(&columns.right, columns.wrong.as_deref())?;
        let text = self.text(&columns.clean)?;
        let marks = columns.spans.iter().map(|(name, column)| {
            let part = self.text(column)?;
            let start = find_words(&text, &part).ok_or_else(|| {
                let inside = if text.contains(&part) && !part.is_empty() { "only part of a word" } else { "not" };
                format!("`{column}`, {part:?}, is {inside} in the prompt {text:?}")
            })?;
            Ok(DraftMark { name: name.clone(), start, end: start + part.len(), one_token: false })
        });
        let clean = DraftVersion {
            marks: marks.collect::<Result<_, String>>()?,
            variables: self.variables()?,
            text,
            right,
            wrong,
        };
        let named = counterfactuals.iter().filter_map(|name| columns.counterfactuals.get(name));
        let counterfactuals = named.map(|of| {
            let (right, wrong) = match &of.right {
                Some(right) => self.answers(right, of.wrong.as_deref())?,
                None => (clean.right.clone(), clean.wrong.clone()),
            };
            Ok(DraftVersion { text: self.text(&of.text)?, right, wrong, ..DraftVersion::default() })
        });
        let named = |column: &Option<String>, otherwise: String| match column {
            Some(column) => self.scalar(column),
            None => Ok(otherwise),
        };
        Ok(Draft {
            task: task.to_owned(),
            template: named(&columns.template, task.to_owned())?,
            group: named(&columns.group, self.record.line.to_string())?,
            counterfactuals: counterfactuals.collect::<Result<_, String>>()?,
            clean,
        })
    }

    fn variables(&self) -> Result<BTreeMap<String, String>, String> {
        self.columns.variables.iter().map(|column| Ok((column.clone(), self.scalar(column)?))).collect()
    }

    /// Right and wrong answers.
    fn answers(&self, right: &str, wrong: Option<&str>) -> Result<(Vec<Answer>, Vec<Answer>), String> {
        if self.columns.answers == AnswerKind::Above {
            let text = self.scalar(right)?;
            let year = text.parse().ok().filter(|year| (0..99).contains(year) && text.len() <= 2);
            let year: u32 = year.ok_or_else(|| format!("`{right}` is {text:?}, not a number from 00 to 98"))?;
            let numbers = |range: std::ops::Range<u32>| range.map(|n| Answer::Text(format!("{n:02}"))).collect();
            return Ok((numbers(year + 1..100), numbers(0..year + 1)));
        }
        let wrong = wrong.map_or(Ok(Vec::new()), |column| self.set(column))?;
        Ok((self.set(right)?, wrong))
    }

    /// A set of at least one answer.
    fn set(&self, column: &str) -> Result<Vec<Answer>, String> {
        // A CSV cell is text, which may be such a list.
        let list = match self.cell(column) {
            Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            _ => None,
        };
        let cells = match list.as_ref().unwrap_or_else(|| self.cell(column)) {
            Value::Array(cells) if cells.is_empty() => return Err(format!("`{column}` holds no answer")),
            Value::Array(cells) => cells.iter().collect(),
            cell => vec![cell],
        };
        cells.into_iter().map(|cell| self.answer(column, scalar(column, cell)?)).collect()
    }

    fn answer(&self, column: &str, text: String) -> Result<Answer, String> {
        match self.columns.answers {
            _ if text.is_empty() => Err(format!("`{column}` holds an empty answer")),
            AnswerKind::Ids => {
                text.parse().map(Answer::Id).map_err(|_| format!("`{column}` is {text:?}, not a token id"))
            }
            _ if self.columns.space && !text.starts_with(char::is_whitespace) => Ok(Answer::Text(format!(" {text}"))),
            _ => Ok(Answer::Text(text)),
        }
    }

    fn text(&self, column: &str) -> Result<String, String> {
        match self.cell(column) {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("`{column}` is {}, not text", sort(other))),
        }
    }

    fn scalar(&self, column: &str) -> Result<String, String> {
        scalar(column, self.cell(column))
    }

    /// Null where there is none, which every reader refuses.
    fn cell(&self, column: &str) -> &Value {
        self.record.fields.get(column).unwrap_or(&Value::Null)
    }
}

/// Where the words of `part` first stand in a text: not inside a longer word.
fn find_words(text: &str, part: &str) -> Option<usize> {
    let edge = |inner: Option<char>, outer: Option<char>| {
        !(inner.is_some_and(char::is_alphanumeric) && outer.is_some_and(char::is_alphanumeric))
    };
    let starts = text.match_indices(part).map(|(start, _)| start).filter(|_| !part.is_empty());
    starts.into_iter().find(|&start| {
        let (before, after) = (&text[..start], &text[start + part.len()..]);
        edge(part.chars().next(), before.chars().next_back()) && edge(part.chars().next_back(), after.chars().next())
    })
}

/// Text, or a number or truth value as text.
fn scalar(column: &str, cell: &Value) -> Result<String, String> {
    match cell {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(cell.to_string()),
        other => Err(format!("`{column}` holds {}, not text", sort(other))),
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
