//! A report as Markdown: tables as tables, pictures in words, the pipeline as Mermaid.

use super::Report;
use super::document::{Block, Section};
use crate::text::one_line;

impl Report {
    /// The report for a README or a paper's supplement.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n", plain(&self.title));
        for part in &self.sections {
            section(&mut out, part, 2);
        }
        out
    }
}

fn section(out: &mut String, part: &Section, level: usize) {
    out.push_str(&format!("\n{} {}\n", "#".repeat(level), plain(&part.heading)));
    for part in &part.blocks {
        block(out, part);
    }
    for inner in &part.sections {
        section(out, inner, level + 1);
    }
}

fn block(out: &mut String, part: &Block) {
    out.push('\n');
    match part {
        Block::Text(text) => out.push_str(&format!("{}\n", plain(text))),
        Block::Facts(facts) => {
            for (name, cell) in facts {
                out.push_str(&format!("- **{}**: {}\n", plain(name), plain(&cell.shown())));
            }
        }
        Block::Sheet(sheet) => out.push_str(&format!("**{}**\n\n{}", plain(&sheet.title), sheet.shown.to_markdown())),
        Block::Figures(figures) => {
            for figure in figures {
                out.push_str(&format!("- **{}**: {}\n", plain(&figure.picture.title), plain(&figure.picture.says)));
            }
        }
        Block::Folded(summary, blocks) => {
            out.push_str(&format!("<details>\n<summary>{}</summary>\n", crate::xml::visible(summary)));
            for part in blocks {
                block(out, part);
            }
            out.push_str("\n</details>\n");
        }
        Block::Graph(graph) => out.push_str(&format!("```mermaid\n{}```\n", graph.to_mermaid())),
    }
}

/// Text that is no markup.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' | '!' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
