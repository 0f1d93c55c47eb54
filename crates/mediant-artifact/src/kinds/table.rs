//! The `table` kind: table `rows`, with whatever schema.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::{ArtifactWriter, Kind, Manifest, Result};

pub(crate) const ROWS: &str = "rows";

/// What is known of a table besides its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableMeta {
    /// What it is called above its columns.
    pub title: String,
    /// What it says, in a sentence or two.
    pub description: String,
}

/// Writes a table; read it with [`Artifact::read`](crate::Artifact::read)`("rows")`.
///
/// # Errors
/// If the writer is not of kind [`Kind::Table`], a column has a type that artifacts do not hold, a batch has other
/// columns, or writing fails.
pub fn write_table(
    artifact: ArtifactWriter,
    schema: SchemaRef,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
    meta: &TableMeta,
) -> Result<Manifest> {
    artifact.expect(Kind::Table)?;
    let mut table = artifact.table(ROWS, schema)?;
    for batch in batches {
        table.write(&batch?)?;
    }
    table.close()?;
    artifact.finish(meta)
}
