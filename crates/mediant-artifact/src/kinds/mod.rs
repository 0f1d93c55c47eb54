//! The kinds of artifact, one file each: what its meta says, how it is written, how it is read.

pub(crate) mod activations;
pub(crate) mod dictionary;
pub(crate) mod directions;
pub(crate) mod effects;
pub(crate) mod labels;
pub(crate) mod mediator;
pub(crate) mod metrics;
pub(crate) mod model;
pub(crate) mod norms;
pub(crate) mod plain_files;
pub(crate) mod prompts;
pub(crate) mod scores;
pub(crate) mod table;
pub(crate) mod tokenizer;
pub(crate) mod tokens;

mod column;
mod files;
mod tensors;

pub use files::{FileTableWriter, Files};
pub use tensors::{Tensor, TensorInfo, TensorTableWriter, Tensors};
