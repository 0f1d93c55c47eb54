//! A report as a tree, before it becomes HTML or Markdown.

use std::path::PathBuf;

use mediant_artifact::Artifact;

use super::plot::Picture;
use crate::dag::Graph;
use crate::table::{Cell, TextTable};

/// Rows of a table's or picture's data that go into the report; where Parquet files have all, so many rows of all tables and pictures together.
const MOST_DATA: usize = 1000;
const MOST_OF_ALL: usize = 100_000;

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

    /// All data in it.
    fn data<'s>(&'s mut self, all: &mut Vec<&'s mut Data>) {
        self.blocks.iter_mut().for_each(|block| block.data(all));
        self.sections.iter_mut().for_each(|section| section.data(all));
    }
}

/// Keeps so few rows of data that those which Parquet files have, too, are [`MOST_OF_ALL`] together, but of each those that the page shows: a
/// report of hundreds of results is still one that can be mailed.
pub(crate) fn limit_data(sections: &mut [Section]) {
    let mut all = Vec::new();
    sections.iter_mut().for_each(|section| section.data(&mut all));
    let elsewhere = |data: &&mut Data| !data.files.is_empty();
    let sizes = all.iter().filter(|data| elsewhere(data)).map(|data| data.rows.len().min(MOST_DATA));
    let share = even_share(sizes.collect(), MOST_OF_ALL).clamp(MOST_READ, MOST_DATA);
    for data in all {
        let most = if data.files.is_empty() { MOST_DATA } else { share };
        data.rows.limit(most);
    }
}

/// The most that each may have so that all together have at most `total`.
fn even_share(mut sizes: Vec<usize>, total: usize) -> usize {
    sizes.sort_unstable();
    let (mut left, mut others) = (total, sizes.len());
    for size in sizes {
        if size * others > left {
            return left / others;
        }
        left -= size;
        others -= 1;
    }
    usize::MAX
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

impl Block {
    fn data<'s>(&'s mut self, all: &mut Vec<&'s mut Data>) {
        match self {
            Self::Sheet(sheet) => all.push(&mut sheet.data),
            Self::Figures(figures) => all.extend(figures.iter_mut().map(|figure| &mut figure.data)),
            Self::Folded(_, blocks) => blocks.iter_mut().for_each(|block| block.data(all)),
            Self::Text(_) | Self::Facts(_) | Self::Graph(_) => {}
        }
    }
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
    /// The rows, and the files of one table of each artifact.
    pub(crate) fn new<'a>(rows: TextTable, artifacts: impl IntoIterator<Item = &'a Artifact>, table: &str) -> Self {
        let files = artifacts.into_iter().flat_map(|artifact| {
            let parts = artifact.table(table).map(|entry| entry.parts.as_slice()).unwrap_or_default();
            parts.iter().map(|part| artifact.dir().join(&part.file))
        });
        Self { rows, files: files.collect() }
    }

    /// The first rows, to be read in the page.
    pub(crate) fn head(&self) -> TextTable {
        let rows = self.rows.clone().without_notes().limited(MOST_READ);
        if rows.is_empty() { rows } else { rows.without_empty_columns(&[]) }
    }

    /// Data that are in no file.
    pub(crate) fn own(rows: TextTable) -> Self {
        Self { rows, files: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::even_share;

    #[test]
    fn small_tables_leave_more_to_large_ones() {
        assert_eq!(even_share(vec![10, 5, 10], 25), usize::MAX);
        assert_eq!(even_share(vec![100, 5, 100], 105), 50);
        assert_eq!(even_share(vec![100, 100], 7), 3);
        assert_eq!(even_share(Vec::new(), 7), usize::MAX);
    }
}
