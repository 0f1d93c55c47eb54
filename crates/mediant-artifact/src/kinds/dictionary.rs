//! The `dictionary` kind: tables `tensors` and `curve`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::column::{column, required};
use super::{TensorTableWriter, Tensors};
use crate::{Artifact, ArtifactWriter, DType, Digest, Kind, Manifest, Result, TableWriter};

const CURVE: &str = "curve";

/// What is known of a dictionary besides its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DictionaryMeta {
    /// Activation rule and family: `relu`, `topk`, ...
    pub architecture: String,
    /// Width of its input.
    pub d_in: usize,
    /// Number of latents.
    pub d_sae: usize,
    /// The hook point it reads.
    pub hook: String,
    /// The hook point it writes, where that is another: a transcoder.
    pub hook_out: Option<String>,
    /// All options it was trained with, those left to their defaults included.
    pub config: Value,
    /// Logical digest of the model whose activations it was trained on, where that is known.
    pub model: Option<Digest>,
}

/// A number of the training curve.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveRow {
    /// Optimiser steps done.
    pub step: u64,
    /// Vectors trained on.
    pub tokens: u64,
    /// What was measured.
    pub name: String,
    /// Its value.
    pub value: f64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("step", DataType::UInt64),
        required("tokens", DataType::UInt64),
        required("name", DataType::Utf8),
        required("value", DataType::Float64),
    ]))
}

/// Writes a dictionary.
pub struct DictionaryWriter {
    artifact: ArtifactWriter,
    tensors: TensorTableWriter,
    curve: TableWriter,
}

impl DictionaryWriter {
    /// Starts a dictionary in an empty folder.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Dictionary`] or a file cannot be created.
    pub fn new(artifact: ArtifactWriter) -> Result<Self> {
        artifact.expect(Kind::Dictionary)?;
        let tensors = TensorTableWriter::new(&artifact)?;
        let curve = artifact.table(CURVE, schema())?;
        Ok(Self { artifact, tensors, curve })
    }

    /// Adds a tensor: little-endian, row-major.
    ///
    /// # Errors
    /// If the bytes do not fit the shape, the name was used before, or writing fails.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<()> {
        self.tensors.tensor(name, dtype, shape, bytes)
    }

    /// Appends numbers to the training curve.
    ///
    /// # Errors
    /// If writing fails.
    pub fn curve(&mut self, rows: &[CurveRow]) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.step))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.tokens))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.name))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))),
        ];
        self.curve.write(&RecordBatch::try_new(schema(), columns)?)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(self, meta: &DictionaryMeta) -> Result<Manifest> {
        self.tensors.close()?;
        self.curve.close()?;
        self.artifact.finish(meta)
    }
}

/// Reads a dictionary.
pub struct DictionaryReader {
    /// The description.
    pub meta: DictionaryMeta,
    /// The tensors.
    pub tensors: Tensors,
    artifact: Artifact,
}

impl DictionaryReader {
    /// Opens a dictionary.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Dictionary)?;
        Ok(Self { meta: artifact.meta()?, tensors: Tensors::open(artifact)?, artifact: artifact.clone() })
    }

    /// The training curve, in the order of writing.
    ///
    /// # Errors
    /// If the table is damaged.
    pub fn curve(&self) -> Result<Vec<CurveRow>> {
        let mut rows = Vec::new();
        for batch in self.artifact.batches(CURVE)? {
            let batch = batch?;
            let step = column::<UInt64Array>(&batch, "step")?;
            let tokens = column::<UInt64Array>(&batch, "tokens")?;
            let name = column::<StringArray>(&batch, "name")?;
            let value = column::<Float64Array>(&batch, "value")?;
            rows.extend((0..batch.num_rows()).map(|i| CurveRow {
                step: step.value(i),
                tokens: tokens.value(i),
                name: name.value(i).to_owned(),
                value: value.value(i),
            }));
        }
        Ok(rows)
    }
}
