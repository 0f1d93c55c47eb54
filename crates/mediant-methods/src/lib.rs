//! Methods that combine language models and dictionaries.
//!
//! - [`sae_eval`]: how well an autoencoder reconstructs, and what splicing it into its model costs.
//! - [`compare`]: metrics of many instances side by side.
//! - [`bootstrap`]: intervals of any metric that is computed from sums.
//! - [`Pairs`], [`Metric`], [`Recorder`]: prompts beside their counterfactuals, what is measured of the answers, and effects on
//!   their way to scores. The methods that make effects are built of these.

pub mod bootstrap;
pub mod compare;
mod error;
mod knockout;
mod metric;
mod pairs;
mod patch;
mod path;
mod record;
pub mod sae_eval;
mod sweep;
mod targets;
mod trace;

pub use error::{Error, Result};
pub use knockout::{Cuts, knock_out};
pub use metric::{Answers, Metric};
pub use pairs::{Pair, Pairs};
pub use patch::{Ablation, Direction, ablate, patch};
pub use path::{Receiver, Sender, path_patch, paths, reaches};
pub use record::{About, Recorder};
pub use targets::{By, Target, kind, layer, misfit, targets, usual_division};
pub use trace::{Restored, TOKEN_GROUPS, Tracing, subject_std, trace, traced};
