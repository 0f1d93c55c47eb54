//! A table on a terminal: aligned columns, numbers on their decimal point, cut to the width there is.

use super::{Cell, TextTable};
use crate::text::{Paint, Terminal, cut, one_line, pad_left, pad_right, width};

const GAP: usize = 2;
/// A column of text is not cut below this; columns that still do not fit are left out and named.
const NARROWEST: usize = 12;

struct Column {
    name: String,
    numeric: bool,
    cells: Vec<String>,
    width: usize,
}

impl TextTable {
    /// For a terminal. Without a width nothing is cut. Text columns shrink first, widest first; then columns are left out from
    /// the right, with a note that names them. Numbers are never cut.
    pub fn to_terminal(&self, terminal: Terminal) -> String {
        let mut columns: Vec<Column> = (0..self.columns.len()).map(|c| self.column(c)).collect();
        let mut notes: Vec<String> = self.notes.clone();
        if let Some(room) = terminal.width {
            let dropped = fit(&mut columns, room);
            if !dropped.is_empty() {
                notes.push(format!("not shown, for lack of width: {}", dropped.join(", ")));
            }
        }
        let line = |cells: Vec<String>| cells.join(&" ".repeat(GAP)).trim_end().to_string();
        let side = |column: &Column, text: &str| {
            let text = cut(text, column.width);
            if column.numeric { pad_left(&text, column.width) } else { pad_right(&text, column.width) }
        };
        let mut out = String::new();
        out.push_str(&terminal.paint(Paint::Bold, &line(columns.iter().map(|c| side(c, &c.name)).collect())));
        out.push('\n');
        out.push_str(&terminal.paint(Paint::Dim, &line(columns.iter().map(|c| "─".repeat(c.width)).collect())));
        out.push('\n');
        for row in 0..self.rows.len() {
            out.push_str(&line(columns.iter().map(|c| side(c, &c.cells[row])).collect()));
            out.push('\n');
        }
        for note in notes {
            out.push_str(&terminal.paint(Paint::Dim, &note));
            out.push('\n');
        }
        out
    }

    fn column(&self, c: usize) -> Column {
        let numeric = self.is_numeric(c);
        let mut cells: Vec<String> = self.rows.iter().map(|row| row[c].shown()).collect();
        let with_units = self.rows.iter().any(|row| matches!(row[c], Cell::Bytes(_) | Cell::Percent(_)));
        if numeric && !with_units {
            align_points(&mut cells);
        }
        let name = one_line(&self.columns[c]);
        let width = cells.iter().map(|cell| width(cell)).chain([width(&name)]).max().unwrap_or(0);
        Column { name, numeric, cells, width }
    }
}

/// Pads what follows the decimal point, so that right-aligned cells have their points in one column.
fn align_points(cells: &mut [String]) {
    let tail = |cell: &str| cell.find('.').map_or(0, |at| width(&cell[at..]));
    let longest = cells.iter().map(|cell| tail(cell)).max().unwrap_or(0);
    for cell in cells.iter_mut().filter(|cell| !cell.is_empty()) {
        cell.push_str(&" ".repeat(longest - tail(cell)));
    }
}

/// Shrinks and drops columns until they fit; the names of those dropped.
fn fit(columns: &mut Vec<Column>, room: usize) -> Vec<String> {
    let total = |columns: &[Column]| columns.iter().map(|c| c.width + GAP).sum::<usize>().saturating_sub(GAP);
    let mut dropped = Vec::new();
    loop {
        for column in columns.iter_mut().filter(|c| !c.numeric) {
            column.width = column.width.min(room);
        }
        while total(columns) > room {
            let widest = columns.iter_mut().filter(|c| !c.numeric && c.width > NARROWEST).max_by_key(|c| c.width);
            let Some(column) = widest else { break };
            column.width -= 1;
        }
        if total(columns) <= room || columns.len() == 1 {
            dropped.reverse();
            return dropped;
        }
        dropped.extend(columns.pop().map(|column| column.name));
        // What was shrunk for the dropped column's sake may have its room back.
        for column in columns.iter_mut() {
            column.width = column.cells.iter().map(|cell| width(cell)).chain([width(&column.name)]).max().unwrap_or(0);
        }
    }
}
