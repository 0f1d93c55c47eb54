//! A page about one thing: facts, tables and text under headings.

use serde_json::{Map, Value};

use crate::table::{Cell, TextTable};
use crate::text::{Paint, Terminal, one_line, pad_right, width, wrap};

/// Sections under a title; one structure for the terminal, Markdown and JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    title: String,
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq)]
struct Section {
    heading: String,
    body: Body,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Facts(Vec<(String, Cell)>),
    Table(TextTable),
    Text(String),
}

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// Adds a list of names and values. Facts without a value are left out.
    pub fn facts<S: Into<String>>(&mut self, heading: &str, facts: impl IntoIterator<Item = (S, Cell)>) {
        let facts = facts.into_iter().map(|(name, cell)| (name.into(), cell)).filter(|(_, cell)| *cell != Cell::Empty);
        self.add(heading, Body::Facts(facts.collect()));
    }

    /// Adds a table.
    pub fn table(&mut self, heading: &str, table: TextTable) {
        self.add(heading, Body::Table(table));
    }

    /// Adds text in Markdown.
    pub fn text(&mut self, heading: &str, text: impl Into<String>) {
        self.add(heading, Body::Text(text.into()));
    }

    fn add(&mut self, heading: &str, body: Body) {
        self.sections.push(Section { heading: heading.to_string(), body });
    }

    /// For a terminal.
    pub fn to_terminal(&self, terminal: Terminal) -> String {
        let mut out = format!("{}\n", terminal.paint(Paint::Bold, &one_line(&self.title)));
        for section in &self.sections {
            out.push('\n');
            if !section.heading.is_empty() {
                out.push_str(&format!("{}\n", terminal.paint(Paint::Bold, &section.heading)));
            }
            match &section.body {
                Body::Facts(facts) => {
                    let columns = facts.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
                    for (name, cell) in facts {
                        let value = cell.shown();
                        out.push_str(&format!("{}  {value}\n", terminal.paint(Paint::Dim, &pad_right(name, columns))));
                    }
                }
                Body::Table(table) => out.push_str(&table.to_terminal(terminal)),
                Body::Text(text) => out.push_str(&wrap(text, terminal.width, 0)),
            }
        }
        out
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n", one_line(&self.title));
        for section in &self.sections {
            if !section.heading.is_empty() {
                out.push_str(&format!("\n## {}\n", section.heading));
            }
            out.push('\n');
            match &section.body {
                Body::Facts(facts) => {
                    for (name, cell) in facts {
                        out.push_str(&format!("- **{name}**: {}\n", cell.shown()));
                    }
                }
                Body::Table(table) => out.push_str(&table.to_markdown()),
                Body::Text(text) => out.push_str(&format!("{}\n", text.trim_end())),
            }
        }
        out
    }

    /// An object with the title and, by heading in lower case with underscores, objects, arrays and texts. Facts without a
    /// heading stand at the top level.
    pub fn to_json(&self) -> Value {
        let key = |text: &str| text.to_lowercase().replace([' ', '-'], "_");
        let mut out = Map::new();
        out.insert("title".to_string(), Value::from(self.title.as_str()));
        for section in &self.sections {
            let value = match &section.body {
                Body::Facts(facts) => {
                    let facts = facts.iter().map(|(name, cell)| (key(name), cell.to_json()));
                    if section.heading.is_empty() {
                        out.extend(facts);
                        continue;
                    }
                    Value::Object(facts.collect())
                }
                Body::Table(table) => table.to_json(),
                Body::Text(text) => Value::from(text.as_str()),
            };
            out.insert(key(&section.heading), value);
        }
        Value::Object(out)
    }
}
