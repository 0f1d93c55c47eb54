//! The tests of the crate, one file a subject under `suite/`.

#![allow(clippy::unwrap_used)]

#[path = "suite/interventions.rs"]
mod interventions;
#[path = "suite/lens.rs"]
mod lens;
#[path = "suite/workshop.rs"]
mod workshop;
