//! What can go wrong here.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An edge of a graph names a node that is not there.
    #[error("an edge goes from node {from} to node {to}, but there are {nodes} nodes")]
    GraphEdge {
        /// Its producer.
        from: usize,
        /// Its consumer.
        to: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A graph whose stages depend on themselves.
    #[error("the stages depend on each other in a circle")]
    GraphCycle,
    /// SQL that cannot be parsed.
    #[error("SQL: {0}")]
    Sql(String),
    /// SQL other than a single query.
    #[error("only one SELECT statement can be run, this is: {0}")]
    NotAQuery(String),
    /// SQL that names a table that is not there.
    #[error("no table `{name}`{}\n\ntables:\n{known}", suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownTable {
        /// As the query names it.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
        /// The names there are, one a line.
        known: String,
    },
    /// A query that polars refuses.
    #[error("{0}")]
    Query(String),
    /// A file that could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An artifact that could not be read.
    #[error(transparent)]
    Artifact(#[from] mediant_artifact::Error),
    /// Arrow data that cannot be shown.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

/// The result of functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
