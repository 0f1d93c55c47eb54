//! Dictionary learning: sparse autoencoders, their training, evaluation and files.

pub mod artifact;
mod config;
mod encode;
mod error;
pub mod evaluate;
pub mod format;
mod product;
mod sae;
pub mod train;
mod weights;

pub use config::{
    Architecture, BDecInit, ConfigProblem, LearningRate, LrSchedule, Normalize, Objective, SaeConfig, TrainConfig,
    Training,
};
pub use error::{Error, Result};
pub use mediant_tensor::kernels::sparse::Codes;
pub use sae::{Activation, Sae};
pub use weights::Weights;
