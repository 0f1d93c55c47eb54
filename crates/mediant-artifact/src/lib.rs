//! What stages exchange: the kinds of artifact, their Parquet layouts, and digests of their values.
//!
//! An artifact is a folder of Parquet files and a `manifest.json`, readable without this crate.

mod digest;
mod dtype;
mod error;
mod export;
mod facts;
mod kind;
mod kinds;
mod logical;
mod manifest;
mod read;
mod schema;
mod write;

pub use digest::Digest;
pub use dtype::DType;
pub use error::{Error, Result};
pub use facts::{
    ActivationsFacts, DictionaryFacts, Facts, HookFact, ModelFacts, TableFacts, TokenizerFacts, TokensFacts,
};
pub use kind::Kind;
pub use kinds::activations::{ActivationsIndex, ActivationsMeta, ActivationsReader, ActivationsWriter};
pub use kinds::dictionary::{CurveRow, DictionaryMeta, DictionaryReader, DictionaryWriter};
pub use kinds::labels::{LabelRow, Labels, LabelsMeta, LabelsWriter};
pub use kinds::metrics::{MetricRow, MetricsMeta, read_metrics, write_metrics};
pub use kinds::model::{ModelMeta, ModelReader, ModelWriter};
pub use kinds::norms::{Norms, Processing};
pub use kinds::table::{TableMeta, write_table};
pub use kinds::tokenizer::{TokenizerMeta, TokenizerReader, write_tokenizer};
pub use kinds::tokens::{Sequence, TokenSpans, Tokens, TokensMeta, TokensWriter};
pub use kinds::{FileTableWriter, Files, Tensor, TensorInfo, TensorTableWriter, Tensors};
pub use logical::table_digest;
pub use manifest::{FORMAT, MANIFEST, Manifest, PartEntry, TableEntry, VectorEntry};
pub use read::{Artifact, Batches, Vectors};
pub use write::{ArtifactWriter, TableWriter, VectorSpec, VectorWriter};
