//! The `activations` kind: table `index`, and one table of vectors a hook point, named by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, required};
use crate::facts::HookFact;
use crate::kinds::norms::Processing;
use crate::{
    Artifact, ArtifactWriter, DType, Digest, Error, Kind, Manifest, Result, TableWriter, VectorSpec, VectorWriter,
    Vectors,
};

pub(crate) const INDEX: &str = "index";

/// What is known of activations besides their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationsMeta {
    /// Logical digest of the model.
    pub model: Digest,
    /// Logical digest of the tokens.
    pub tokens: Digest,
    /// The hook points, in the order they were asked for.
    pub hooks: Vec<HookFact>,
    /// Format of the stored numbers.
    pub dtype: DType,
    /// Which positions are kept, as in the stage's options.
    pub positions: String,
    /// Whether each sequence starts with the BOS token.
    pub prepend_bos: bool,
    /// No sequence is longer than this, in tokens.
    pub context: usize,
    /// Number of (example, position) rows.
    pub rows: u64,
    /// What was done to the model's weights after loading.
    pub processing: Processing,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("example", DataType::UInt32),
        required("position", DataType::UInt32),
        required("token", DataType::Int32),
    ]))
}

/// Writes activations. Rows come in (example, position) order, the same rows to the index and to every hook.
pub struct ActivationsWriter {
    artifact: ArtifactWriter,
    index: TableWriter,
    names: Vec<HookFact>,
    dtype: DType,
    hooks: Vec<VectorWriter>,
    last: Option<(u32, u32)>,
}

impl ActivationsWriter {
    /// Starts activations in an empty folder, or goes on in a resumed one.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Activations`], a hook occurs twice or has no numbers, or a file cannot be
    /// created.
    pub fn new(artifact: ArtifactWriter, hooks: &[HookFact], dtype: DType) -> Result<Self> {
        artifact.expect(Kind::Activations)?;
        let index = artifact.table(INDEX, schema())?;
        let open = |hook: &HookFact| {
            let metadata = BTreeMap::from([("hook".to_owned(), hook.name.clone())]);
            artifact.vectors(&hook.name, VectorSpec { dtype, shape: hook.shape.clone(), metadata })
        };
        let writers = hooks.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { artifact, index, names: hooks.to_vec(), dtype, hooks: writers, last: None })
    }

    /// Number of rows in the index, those of a resumed checkpoint included.
    pub fn rows(&self) -> u64 {
        self.index.rows()
    }

    /// Appends rows to the index: example, position in it, token id there.
    ///
    /// # Errors
    /// If the slices differ in length, rows are not in order, or writing fails.
    pub fn index(&mut self, example: &[u32], position: &[u32], token: &[i32]) -> Result<()> {
        if [position.len(), token.len()] != [example.len(); 2] {
            return Err(Error::Invalid("example, position and token differ in length".to_owned()));
        }
        for place in example.iter().copied().zip(position.iter().copied()) {
            if self.last.is_some_and(|last| place <= last) {
                return Err(Error::Invalid(format!("rows go by example and position; {place:?} comes too late")));
            }
            self.last = Some(place);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(example.to_vec())),
            Arc::new(UInt32Array::from(position.to_vec())),
            Arc::new(Int32Array::from(token.to_vec())),
        ];
        self.index.write(&RecordBatch::try_new(schema(), columns)?)
    }

    /// The writers of the hooks, in the order given; they may be used from several threads.
    pub fn hooks_mut(&mut self) -> &mut [VectorWriter] {
        &mut self.hooks
    }

    /// As [`ArtifactWriter::checkpoint`]. Call it when the index and all hooks have the same rows.
    ///
    /// # Errors
    /// If they have not, or files cannot be linked or written.
    pub fn checkpoint(&self, checkpoint: &std::path::Path) -> Result<()> {
        self.check_rows()?;
        self.artifact.checkpoint(checkpoint)
    }

    fn check_rows(&self) -> Result<()> {
        let rows = self.rows();
        match self.names.iter().zip(&self.hooks).find(|(_, writer)| writer.rows() != rows) {
            None => Ok(()),
            Some((hook, writer)) => {
                let why = format!("{} rows of `{}`, {rows} in the index", writer.rows(), hook.name);
                Err(Error::Invalid(why))
            }
        }
    }

    /// Writes what is left and the manifest.
    ///
    /// # Errors
    /// If index and hooks differ in rows, `meta` contradicts what was written, or writing fails.
    pub fn finish(self, meta: &ActivationsMeta) -> Result<Manifest> {
        self.check_rows()?;
        if (meta.rows, &meta.hooks, meta.dtype) != (self.rows(), &self.names, self.dtype) {
            return Err(Error::Invalid("rows, hooks or format are not those announced".to_owned()));
        }
        self.index.close()?;
        self.hooks.into_iter().try_for_each(VectorWriter::close)?;
        self.artifact.finish(meta)
    }
}

/// Reads activations.
pub struct ActivationsReader {
    /// The description.
    pub meta: ActivationsMeta,
    artifact: Artifact,
}

/// Which example and position each row belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivationsIndex {
    /// The sequence, counted from 0.
    pub example: Vec<u32>,
    /// The position in it, counted from 0.
    pub position: Vec<u32>,
    /// The token id there.
    pub token: Vec<i32>,
}

impl ActivationsReader {
    /// Opens activations.
    ///
    /// # Errors
    /// If the artifact is of another kind, or its tables are not those that its meta describes.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Activations)?;
        let meta: ActivationsMeta = artifact.meta()?;
        for hook in &meta.hooks {
            let table = artifact.table(&hook.name)?;
            let vectors = table.vectors.as_ref();
            if table.rows != meta.rows || vectors.is_none_or(|v| v.shape != hook.shape || v.dtype != meta.dtype) {
                let why = format!("the vectors of `{}` are not those that its meta describes", hook.name);
                return Err(Error::damaged(artifact.dir(), why));
            }
        }
        if artifact.rows(INDEX)? != meta.rows {
            return Err(Error::damaged(artifact.dir(), "its index has not the rows that its meta describes"));
        }
        Ok(Self { meta, artifact: artifact.clone() })
    }

    /// The vectors of a hook point, in the order of the index.
    ///
    /// # Errors
    /// If it was not cached or is damaged.
    pub fn hook(&self, name: &str) -> Result<Vectors> {
        self.artifact.vectors(name)
    }

    /// Example, position and token of every row: 12 bytes a row.
    ///
    /// # Errors
    /// If the table is damaged.
    pub fn index(&self) -> Result<ActivationsIndex> {
        let mut index = ActivationsIndex::default();
        for batch in self.artifact.batches(INDEX)? {
            let batch = batch?;
            index.example.extend_from_slice(column::<UInt32Array>(&batch, "example")?.values());
            index.position.extend_from_slice(column::<UInt32Array>(&batch, "position")?.values());
            index.token.extend_from_slice(column::<Int32Array>(&batch, "token")?.values());
        }
        Ok(index)
    }
}
