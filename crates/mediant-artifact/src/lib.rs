//! What stages exchange: the kinds of artifact, their Parquet layouts, and digests of their values.
//!
//! An artifact is a folder of Parquet files and a `manifest.json`, which lists them. It is written once, through an
//! [`ArtifactWriter`], into a folder of its own; the bytes depend on nothing but the content. Each [`Kind`] has a writer
//! and a reader on top that know its tables and its meta: [`ModelWriter`] and [`ModelReader`], [`TokensWriter`] and
//! [`Tokens`], [`ActivationsWriter`] and [`ActivationsReader`], and so on.
//!
//! # Tables
//!
//! A table is one or more files `NAME-00000.parquet`, `NAME-00001.parquet`, ... of 2^16 rows each, the last with the
//! rest. Ordinary columns are compressed by zstd. Large byte strings (the data of tensors) have a row group a row, so that
//! one is read without the others.
//!
//! # Vectors
//!
//! Vectors are one required FixedSizeBinary column `vector`: little-endian numbers, PLAIN, uncompressed, without
//! dictionary or statistics, the same number of rows in every page of a file but the last. The page index says where the
//! pages are, so [`Vectors`] maps the files and gathers rows without decoding anything. The field's metadata has `dtype`
//! (`float32`, `float16`, `bfloat16`) and `shape` (a JSON list, the shape of one row).
//!
//! # Two digests
//!
//! The manifest has a BLAKE3 of every file, which guards its integrity, and a logical digest of kind, meta, schemas and
//! values, which is the same however the files are encoded or cut. Cache keys are made of the latter. Floats count by
//! their bits, nulls are not values, and strings and lists are framed by their lengths.
//!
//! # Reading from Python
//!
//! With pyarrow and NumPy, from a part of a table of vectors; with the hook point's name in place of `vector`, from a file
//! written by [`Artifact::export_parquet`]. The array is the buffer that the Parquet reader filled, not a copy:
//!
//! ```python
//! table = pyarrow.parquet.read_table("blocks.2.hook_resid_post-00000.parquet")
//! meta, chunk = table.schema.field("vector").metadata, table["vector"].chunk(0)
//! x = numpy.frombuffer(chunk.buffers()[1], meta[b"dtype"].decode()).reshape(-1, *json.loads(meta[b"shape"]))
//! ```
//!
//! With polars and NumPy, which copies once:
//!
//! ```python
//! column = polars.read_parquet("blocks.2.hook_resid_post-*.parquet")["vector"]
//! x = numpy.frombuffer(b"".join(column), "float32").reshape(-1, 768)
//! ```
//!
//! A file of several row groups gives several chunks: convert each, or call `combine_chunks()` first, which copies.
//! NumPy has no bfloat16: read it as `uint16` and take `(x.astype("uint32") << 16).view("float32")`, or use `ml_dtypes`.

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
    ActivationsFacts, DictionaryFacts, DirectionsFacts, Facts, HookFact, MeasuredFacts, ModelFacts, ModelTokenizer,
    PromptsFacts, SearchFacts, SubspaceFact, TableFacts, TokenizerFacts, TokensFacts,
};
pub use kind::Kind;
pub use kinds::activations::{ActivationsIndex, ActivationsMeta, ActivationsReader, ActivationsWriter};
pub use kinds::dictionary::{CurveRow, DictionaryMeta, DictionaryReader, DictionaryWriter};
pub use kinds::directions::{DirectionRow, DirectionsMeta, read_directions, subspaces, write_directions};
pub use kinds::effects::{Contrast, Effect, EffectBatches, Effects, EffectsMeta, EffectsWriter, Example};
pub use kinds::labels::{LabelRow, Labels, LabelsMeta, LabelsWriter};
pub use kinds::mediator::{Budget, Mediator};
pub use kinds::metrics::{MetricRow, MetricsMeta, read_metrics, write_metrics};
pub use kinds::model::{ModelMeta, ModelReader, ModelWriter};
pub use kinds::norms::{NormFacts, Norms, Processing};
pub use kinds::plain_files::{FilesMeta, write_files};
pub use kinds::prompts::{Prompt, PromptsMeta, Version, read_prompts, write_prompts};
pub use kinds::scores::{ScoreRow, ScoresMeta, read_scores, write_scores};
pub use kinds::table::{TableMeta, write_table};
pub use kinds::tokenizer::{TokenizerMeta, TokenizerReader, write_tokenizer};
pub use kinds::tokens::{Sequence, TokenSpans, Tokens, TokensMeta, TokensWriter};
pub use kinds::{FileTableWriter, Files, Tensor, TensorInfo, TensorTableWriter, Tensors};
pub use logical::table_digest;
pub use manifest::{FORMAT, MANIFEST, Manifest, PartEntry, PlainFile, TableEntry, VectorEntry};
pub use read::{Artifact, Batches, Vectors};
pub use write::{ArtifactWriter, TableWriter, VectorSpec, VectorWriter};
