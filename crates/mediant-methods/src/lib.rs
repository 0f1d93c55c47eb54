//! Methods that combine language models and dictionaries.
//!
//! - [`sae_eval`]: how well an autoencoder reconstructs, and what splicing it into its model costs.
//! - [`compare`]: metrics of many instances side by side.
//! - [`bootstrap`]: intervals of any metric that is computed from sums.

pub mod bootstrap;
pub mod compare;
mod error;
pub mod sae_eval;

pub use error::{Error, Result};
