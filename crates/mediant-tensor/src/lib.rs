//! The one place that meets burn's backends.
//!
//! - [`Compute`]: a burn backend together with our own kernels and their gradients. Numeric code elsewhere is generic over
//!   it; a stage chooses a backend once, at its entry, with [`on_device!`].
//! - [`ops`]: what callers use: functions over burn tensors (`gelu_new`, `layer_norm`, `attention`, ...).
//! - [`random`]: ChaCha8 streams drawn on the host, the same bits on every machine.
//! - [`optim`], [`schedule`]: Adam and AdamW as PyTorch computes them, clipping by the global norm, learning-rate schedules.
//! - [`checkpoint`]: named tensors and counters to a file and back, bit for bit.
//!
//! No function here gives bits that depend on the number of threads.

mod autodiff;
pub mod checkpoint;
mod compute;
mod device;
mod error;
mod flex;
pub mod kernels;
pub mod ops;
pub mod optim;
pub mod plain;
pub mod random;
pub mod schedule;

pub use burn;
pub use burn::backend::{Autodiff, Flex};
pub use burn::tensor::{Int, Tensor, TensorData};
pub use compute::{Compute, NormScale, UnembedGradients};
pub use device::Device;
pub use error::{Error, Result};
