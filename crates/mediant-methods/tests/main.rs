//! The tests of the crate, one file a subject under `suite/`.

#![allow(clippy::unwrap_used)]

#[path = "suite/support.rs"]
mod support;

#[path = "suite/align.rs"]
mod align;
#[path = "suite/attribution.rs"]
mod attribution;
#[path = "suite/experiments.rs"]
mod experiments;
#[path = "suite/features.rs"]
mod features;
#[path = "suite/interchange.rs"]
mod interchange;
#[path = "suite/lens.rs"]
mod lens;
#[path = "suite/mediators.rs"]
mod mediators;
#[path = "suite/null_space.rs"]
mod null_space;
#[path = "suite/off_target.rs"]
mod off_target;
#[path = "suite/patching.rs"]
mod patching;
#[path = "suite/paths.rs"]
mod paths;
#[path = "suite/predictions.rs"]
mod predictions;
#[path = "suite/prompts.rs"]
mod prompts;
#[path = "suite/sae_eval.rs"]
mod sae_eval;
