//! Language models: architectures, Hugging Face checkpoints, hook points, forward passes.
//!
//! - [`LmConfig`] says what a model is made of, read from a `config.json`; [`Architecture`] describes a family.
//! - [`Model`] holds the parameters on a device; [`Batch`] the tokens of one pass.
//! - [`Model::read`] hands over activations at [`HookPoint`]s and stops after the last; [`Model::hidden`],
//!   [`Model::logits`] and [`Model::losses`] go to the end. [`Hooks`] says what to read and what to change.
//! - Checkpoints in Hugging Face layout: [`HfFolder`]; to and from `model` artifacts: [`import`], [`load`], [`export`].
//! - Norms may be frozen, and folded into the weights: [`NormStates`], [`fold_norms`].
//! - Weight processing as TransformerLens does it: [`LmConfig::processed`], done by [`import`].

mod arch;
mod artifact;
mod attention;
mod batch;
mod block;
mod capture;
mod checkpoint;
mod config;
mod edits;
mod error;
mod evaluate;
mod export;
mod fold;
mod folded;
mod forward;
mod generate;
mod gradient;
mod hooks;
mod json;
mod kv;
mod layout;
mod model;
mod norm;
mod norm_states;
mod norm_stats;
mod parts;
mod positions;
mod processing;
pub mod prompts;
mod select;
mod shard;
mod stock;
pub mod tasks;
pub mod text;
pub mod train;
mod walk;

pub use arch::{Architecture, BlockSlot, Piece, Slot};
pub use artifact::{import, load, save};
pub use batch::{Batch, Sequence};
pub use capture::Capture;
pub use checkpoint::{CARRIED_FILES, HfFolder, facts_from_dir, model_facts};
pub use config::LmConfig;
pub use edits::{
    Add, Edit, Frozen, KnockOut, Noise, PositionMeans, ProjectOut, Replace, Resample, Splice, Values, stored_mean,
};
pub use error::{Error, Result};
pub use evaluate::{batch_losses, batch_of, batches, losses, predicted};
pub use export::export;
pub use folded::fold_norms;
pub use forward::{Place, State};
pub use generate::{Sampling, Until, generate};
pub use gradient::{Differentiable, GradientReader, Metric};
pub use hooks::{HookPoint, Site, matching_hooks, name_glob};
pub use kv::KvCache;
pub use model::{Model, Parameter};
pub use norm_states::{BlockNorm, NormSite, NormStates, frozen_facts};
pub use norm_stats::{ScaleStatistics, scale_statistics};
pub use parts::{Activation, Biases, NormKind, PositionKind};
pub use positions::{Positions, Spans};
pub use select::Select;
pub use walk::{Hooks, Reader, Rows};
