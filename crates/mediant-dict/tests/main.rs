//! The tests of the crate, one file a subject under `suite/`.

#![allow(clippy::unwrap_used)]

#[path = "suite/oracle.rs"]
mod oracle;
#[path = "suite/support.rs"]
mod support;

#[path = "suite/artifact.rs"]
mod artifact;
#[path = "suite/config.rs"]
mod config;
#[path = "suite/device.rs"]
mod device;
#[path = "suite/dictionary_learning.rs"]
mod dictionary_learning;
#[path = "suite/formats.rs"]
mod formats;
#[path = "suite/gradients.rs"]
mod gradients;
#[path = "suite/saelens.rs"]
mod saelens;
#[path = "suite/synth.rs"]
mod synth;
#[path = "suite/training.rs"]
mod training;
#[path = "suite/transcoders.rs"]
mod transcoders;
