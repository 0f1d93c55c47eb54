//! Artifacts as stages write and read them.

#![allow(clippy::unwrap_used)]

mod digests;
mod directions;
mod effects;
mod export;
mod facts;
mod hostile;
mod kinds;
mod manifests;
mod prompts;
mod support;
mod tables;
mod vectors;
