//! Dictionary learning: sparse autoencoders, their training, evaluation and files.

pub mod artifact;
mod config;
mod encode;
mod error;
pub mod evaluate;
pub mod format;
mod objective;
mod product;
mod sae;
mod sae_config;
pub mod train;
mod weights;

pub use config::{BDecInit, ComputeDtype, ConfigProblem, LearningRate, LrSchedule, Normalize, TrainConfig, Training};
pub use error::{Error, Result};
pub use mediant_tensor::kernels::sparse::Codes;
pub use objective::{BatchChoice, JumpRelu, Objective, Sparsity};
pub use sae::{Activation, Sae};
pub use sae_config::{Architecture, SaeConfig, SparsityMode};
pub use weights::{Extra, Weights};
