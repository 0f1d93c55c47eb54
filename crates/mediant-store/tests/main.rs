//! The store as the engine and the user meet it: results survive crashes, damage, company and gc.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod suite;
