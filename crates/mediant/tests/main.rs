//! Tests of the command, as a user meets it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod suite;
