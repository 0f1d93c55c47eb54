//! What an artifact is: its description, tables, first rows and statistics.

mod dictionary;
mod directions;
pub(crate) mod effects;
pub(crate) mod heat;
mod metrics;
mod model;
mod prompts;
pub(crate) mod rows;
pub(crate) mod scores;
mod tensors;
mod tokens;
pub(crate) mod tree;
mod vectors;

use mediant_artifact::{Artifact, FilesMeta, Kind, LabelsMeta, TableEntry, TableMeta, TokenizerMeta};

pub use metrics::metrics_table;
pub use rows::head;
pub use scores::scores_table;

use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};
use crate::vector;

/// What to show.
pub struct ShowOptions<'a> {
    /// How many first rows.
    pub head: usize,
    /// How many metrics or scores.
    pub metrics: usize,
    /// Turns token ids into text, where the tokenizer is at hand.
    pub decode: Option<Decode<'a>>,
}

/// Turns token ids into text.
pub type Decode<'a> = &'a dyn Fn(&[i32]) -> String;

/// The table of an artifact that is meant when none is named.
pub fn main_table(kind: Kind) -> &'static str {
    match kind {
        Kind::Model | Kind::Dictionary => "tensors",
        Kind::Tokenizer | Kind::Files => "files",
        Kind::Tokens => "sequences",
        Kind::Prompts => "prompts",
        Kind::Labels => "labels",
        Kind::Activations => "index",
        Kind::Directions => "directions",
        Kind::Effects => "effects",
        Kind::Scores => "scores",
        Kind::Metrics => "metrics",
        Kind::Table => "rows",
    }
}

/// A page about an artifact.
///
/// # Errors
/// If the artifact is damaged.
pub fn show(artifact: &Artifact, title: &str, options: &ShowOptions<'_>) -> Result<Page> {
    let manifest = artifact.manifest();
    let bytes = manifest.stored().map(|(_, bytes, _)| bytes).sum();
    let mut page = Page::new(title);
    page.facts(
        "",
        [
            ("kind", Cell::text(manifest.kind.name())),
            ("holds", Cell::text(manifest.kind.doc())),
            ("size", Cell::Bytes(bytes)),
            ("logical digest", Cell::Digest(manifest.logical.to_string())),
        ],
    );
    match manifest.kind {
        Kind::Model => model::show(artifact, &mut page)?,
        Kind::Tokenizer => {
            let meta: TokenizerMeta = artifact.meta()?;
            page.facts(
                "Tokenizer",
                [
                    ("vocabulary", Cell::Count(meta.vocab_size as u64)),
                    ("digest of tokenizer.json", Cell::Digest(meta.digest.to_string())),
                ],
            );
            page.table("Files", rows::head(artifact, "files", usize::MAX)?);
        }
        Kind::Tokens => tokens::show(artifact, options, &mut page)?,
        Kind::Prompts => prompts::show(artifact, options, &mut page)?,
        Kind::Labels => {
            let meta: LabelsMeta = artifact.meta()?;
            page.facts("Labels", [("labels", Cell::Count(meta.labels))]);
            page.table("First rows", rows::head(artifact, "labels", options.head)?);
        }
        Kind::Activations => vectors::show(artifact, options.head, &mut page)?,
        Kind::Dictionary => dictionary::show(artifact, &mut page)?,
        Kind::Directions => directions::show(artifact, &mut page)?,
        Kind::Effects => effects::show(artifact, options.head, &mut page)?,
        Kind::Scores => scores::show(artifact, options.metrics, &mut page)?,
        Kind::Metrics => {
            let metrics = mediant_artifact::read_metrics(artifact)?;
            page.table("Metrics", metrics_table(&metrics, options.metrics));
        }
        Kind::Files => {
            let meta: FilesMeta = artifact.meta()?;
            page.facts("Files", [("format", Cell::text(meta.format))]);
            page.table("Files", rows::head(artifact, "files", usize::MAX)?);
        }
        Kind::Table => {
            let meta: TableMeta = artifact.meta()?;
            page.facts("Table", [("title", Cell::text(meta.title)), ("description", Cell::text(meta.description))]);
            page.table("First rows", rows::head(artifact, "rows", options.head)?);
        }
    }
    page.table("Tables", tables(artifact));
    Ok(page)
}

fn tables(artifact: &Artifact) -> TextTable {
    let mut table = TextTable::new(["table", "rows", "bytes", "files", "columns"]);
    for (name, entry) in &artifact.manifest().tables {
        table.push([
            Cell::text(name),
            Cell::Count(entry.rows),
            Cell::Bytes(entry.parts.iter().map(|part| part.bytes).sum()),
            Cell::Count(entry.parts.len() as u64),
            Cell::text(columns(entry)),
        ]);
    }
    table
}

/// The columns with their types. That most of them hold no nulls is of no interest to people.
fn columns(entry: &TableEntry) -> String {
    match &entry.vectors {
        Some(vectors) => format!("vector: {}", vector::shape(vectors)),
        None => entry.schema.replace(" not null", ""),
    }
}
