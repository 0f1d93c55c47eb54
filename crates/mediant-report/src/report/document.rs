//! A report as a tree, before it becomes HTML or Markdown.

use std::path::PathBuf;

use mediant_artifact::Artifact;

use super::plot::Picture;
use crate::dag::Graph;
use crate::table::{Cell, TextTable};

/// Rows of data that go into the report; all of them are in the Parquet files.
pub(crate) const MOST_DATA: usize = 1000;

/// Rows that can be read in the page below a picture.
const MOST_READ: usize = 50;

/// A heading and what stands below it.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) heading: String,
    pub(crate) blocks: Vec<Block>,
    pub(crate) sections: Vec<Section>,
}

impl Section {
    pub(crate) fn new(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), blocks: Vec::new(), sections: Vec::new() }
    }
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    Text(String),
    Facts(Vec<(String, Cell)>),
    Sheet(Sheet),
    /// Pictures side by side.
    Figures(Vec<Figure>),
    /// What is read on request.
    Folded(String, Vec<Block>),
    /// The pipeline.
    Graph(Graph),
}

/// A table with its data.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) title: String,
    /// As people read it.
    pub(crate) shown: TextTable,
    pub(crate) data: Data,
}

/// A picture with its data.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) picture: Picture,
    pub(crate) data: Data,
}

/// Numbers as they are: in the report, and where they come from.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) rows: TextTable,
    /// Parquet files, absolute.
    pub(crate) files: Vec<PathBuf>,
}

impl Data {
    /// The rows, of which at most [`MOST_DATA`] are kept, and the files of one table of each artifact.
    pub(crate) fn new<'a>(rows: TextTable, artifacts: impl IntoIterator<Item = &'a Artifact>, table: &str) -> Self {
        let files = artifacts.into_iter().flat_map(|artifact| {
            let parts = artifact.table(table).map(|entry| entry.parts.as_slice()).unwrap_or_default();
            parts.iter().map(|part| artifact.dir().join(&part.file))
        });
        Self { rows: rows.limited(MOST_DATA), files: files.collect() }
    }

    /// The first rows, to be read in the page.
    pub(crate) fn head(&self) -> TextTable {
        let rows = self.rows.clone().without_notes().limited(MOST_READ);
        if rows.is_empty() { rows } else { rows.without_empty_columns(&[]) }
    }

    /// Data that are in no file.
    pub(crate) fn own(rows: TextTable) -> Self {
        Self { rows: rows.limited(MOST_DATA), files: Vec::new() }
    }
}
