//! One table, three renderings: the terminal, Markdown, JSON (and CSV for query results).

mod html;
mod terminal;

use serde_json::{Map, Value, json};

use crate::number;
use crate::text::one_line;

/// One value of a table. Rendering depends on the place: a terminal shows `65,536` and twelve digits of a digest, JSON the
/// number and the whole digest.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Empty,
    /// Text; control characters are escaped when shown.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// An integer shown digit by digit (steps, seeds, ids).
    Int(i128),
    /// A quantity shown with thousands separators.
    Count(u64),
    /// A size shown with a unit.
    Bytes(u64),
    /// A float shown with four significant digits.
    Float(f64),
    /// A difference, shown with its sign.
    Signed(f64),
    /// A fraction shown as a signed percentage.
    Percent(f64),
    /// An interval `[low, high]`.
    Interval(f64, f64),
    /// A digest in hex, of which a terminal shows the first twelve digits.
    Digest(String),
    /// A list or mapping, shown as JSON.
    Json(Value),
}

impl Cell {
    /// Text, from anything that reads as text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The cell of an optional value.
    pub fn or_empty<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Empty, cell)
    }

    /// The cell of a JSON value; arrays and objects as JSON text.
    pub fn of_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Empty,
            Value::Bool(b) => Self::Bool(*b),
            Value::String(s) => Self::text(s),
            Value::Number(n) => n
                .as_i128()
                .map(Self::Int)
                .or_else(|| n.as_f64().map(Self::Float))
                .unwrap_or_else(|| Self::text(n.to_string())),
            Value::Array(_) | Value::Object(_) => Self::Json(value.clone()),
        }
    }

    /// As shown to people, on one line.
    pub fn shown(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => one_line(text),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Count(n) => number::count(*n),
            Self::Bytes(n) => number::bytes(*n),
            Self::Float(x) => number::float(*x),
            Self::Signed(x) => number::signed(*x),
            Self::Percent(x) => number::percent(*x),
            Self::Interval(low, high) => {
                format!("[{}, {}]", number::float(*low), number::float(*high))
            }
            Self::Json(value) => one_line(&value.to_string()),
            Self::Digest(hex) => hex.chars().take(12).collect(),
        }
    }

    /// For machines. JSON has no NaN or infinity: they become the strings `"NaN"`, `"inf"`, `"-inf"`.
    pub fn to_json(&self) -> Value {
        let float = |x: f64| {
            if x.is_finite() { json!(x) } else { json!(number::float(x)) }
        };
        match self {
            Self::Empty => Value::Null,
            Self::Text(text) | Self::Digest(text) => json!(text),
            Self::Json(value) => value.clone(),
            Self::Bool(b) => json!(b),
            Self::Int(n) => serde_json::Number::from_i128(*n).map_or_else(|| json!(n.to_string()), Value::Number),
            Self::Count(n) | Self::Bytes(n) => json!(n),
            Self::Float(x) | Self::Signed(x) | Self::Percent(x) => float(*x),
            Self::Interval(low, high) => json!([float(*low), float(*high)]),
        }
    }

    /// As a number, where it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "drawn, not counted with")]
            Self::Int(n) => Some(*n as f64),
            #[expect(clippy::cast_precision_loss, reason = "drawn, not counted with")]
            Self::Count(n) | Self::Bytes(n) => Some(*n as f64),
            Self::Float(x) | Self::Signed(x) | Self::Percent(x) => Some(*x),
            _ => None,
        }
    }

    fn is_number(&self) -> bool {
        !matches!(
            self,
            Self::Empty | Self::Text(_) | Self::Bool(_) | Self::Interval(..) | Self::Digest(_) | Self::Json(_)
        )
    }
}

/// A table of cells with named columns and notes below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextTable {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

impl TextTable {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds a row: cells beyond the columns are left out, missing ones are empty.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), Cell::Empty);
        self.rows.push(row);
    }

    /// Adds a line below the table (`… 93 more rows`); in JSON there are none.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first rows, with a note that there were more.
    pub(crate) fn limited(mut self, rows: usize) -> Self {
        self.limit(rows);
        self
    }

    /// Keeps the first rows, with a note that there were more.
    pub(crate) fn limit(&mut self, rows: usize) {
        if self.rows.len() > rows {
            let [kept, all] = [rows, self.rows.len()].map(|rows| number::count(rows as u64));
            self.note(format!("the first {kept} of {all} rows"));
            self.rows.truncate(rows);
        }
    }

    /// The table without its notes.
    pub(crate) fn without_notes(self) -> Self {
        Self { notes: Vec::new(), ..self }
    }

    /// The notes.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Removes columns in which every cell is empty, except those named. A table without rows keeps its columns: there is nothing else to show.
    pub fn without_empty_columns(mut self, keep: &[&str]) -> Self {
        let kept: Vec<bool> = (0..self.columns.len())
            .map(|c| {
                self.is_empty()
                    || keep.contains(&self.columns[c].as_str())
                    || self.rows.iter().any(|row| row[c] != Cell::Empty)
            })
            .collect();
        let mut at = kept.iter();
        self.columns.retain(|_| at.next() == Some(&true));
        for row in &mut self.rows {
            let mut at = kept.iter();
            row.retain(|_| at.next() == Some(&true));
        }
        self
    }

    /// An array of objects, one a row, values unrounded.
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let pairs = self.columns.iter().cloned().zip(row.iter().map(Cell::to_json));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }

    /// A GitHub-flavoured Markdown table, numbers to the right, notes as lines below.
    pub fn to_markdown(&self) -> String {
        let escape =
            |text: String| text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(|name| escape(one_line(name))).collect());
        let rule = |c: usize| if self.is_numeric(c) { "---:" } else { "---" }.to_string();
        out.push_str(&line((0..self.columns.len()).map(rule).collect()));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(|cell| escape(cell.shown())).collect()));
        }
        for note in &self.notes {
            out.push_str(&format!("\n{note}\n"));
        }
        out
    }

    /// RFC 4180 with a header line, values unrounded, empty cells empty.
    pub fn to_csv(&self) -> String {
        let quote = |text: String| {
            if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
        };
        let field = |cell: &Cell| match cell.to_json() {
            Value::Null => String::new(),
            Value::String(text) => quote(text),
            value => quote(value.to_string()),
        };
        let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
        let mut out = line(self.columns.iter().cloned().map(quote).collect());
        for row in &self.rows {
            out.push_str(&line(row.iter().map(field).collect()));
        }
        out
    }

    /// Whether every value of a column is a number, and there is one.
    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().map(|row| &row[column]).filter(|cell| **cell != Cell::Empty).peekable();
        cells.peek().is_some() && cells.all(Cell::is_number)
    }
}
