//! A table as HTML.

use super::{Cell, TextTable};
use crate::xml::visible;

impl TextTable {
    /// A `<table>` with a caption, column headers, the first cell of every row as its header, and the notes below it.
    pub(crate) fn to_html(&self, caption: &str) -> String {
        // Numbers stand to the right, and neither they nor intervals are broken.
        let right = |c: usize| self.is_numeric(c) || self.rows.iter().any(|row| matches!(row[c], Cell::Interval(..)));
        let class: Vec<&str> = (0..self.columns.len()).map(|c| if right(c) { " class=\"n\"" } else { "" }).collect();
        let mut out = format!("<table>\n<caption>{}</caption>\n<thead><tr>", visible(caption));
        for (name, class) in self.columns.iter().zip(&class) {
            out.push_str(&format!("<th scope=\"col\"{class}>{}</th>", visible(name)));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (c, (cell, class)) in row.iter().zip(&class).enumerate() {
                let text = visible(&cell.shown());
                out.push_str(&match c {
                    0 => format!("<th scope=\"row\"{class}>{text}</th>"),
                    _ => format!("<td{class}>{text}</td>"),
                });
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n");
        for note in &self.notes {
            out.push_str(&format!("<p class=\"note\">{}</p>\n", visible(note)));
        }
        out
    }
}
