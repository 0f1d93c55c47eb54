//! Dictionary learning: sparse autoencoders, their training, evaluation and files.

mod afa;
pub mod artifact;
mod assignment;
mod config;
mod encode;
mod error;
pub mod evaluate;
pub mod format;
mod input_norm;
mod objective;
mod product;
mod pursuit;
mod sae;
mod stability;
pub mod synth;
pub mod train;
mod weights;

pub use assignment::assignment;
pub use config::{
    Architecture, BDecInit, ComputeDtype, ConfigProblem, EncoderInit, LearningRate, LrSchedule, Normalize, SaeConfig,
    SparsityMode, TrainConfig, Training, Transcoder,
};
pub use error::{Error, Result};
pub use input_norm::InputNorm;
pub use mediant_tensor::kernels::sparse::Codes;
pub use objective::{AuxLoss, BatchChoice, DecoderNorm, JumpRelu, Objective, Sparsity, TopAfa};
pub use pursuit::MatchingPursuit;
pub use sae::{Activation, Sae};
pub use stability::{Alike, Match, match_decoders};
pub use weights::{Extra, Scales, Weights};
