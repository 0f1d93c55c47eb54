//! Searches for mediators side by side: from the effects of sets to areas, intervals and differences. No forward pass is run.

mod curve;
mod differences;
mod entry;
mod standing;

pub use curve::{Curve, bits};
pub use differences::{Difference, differences, holm};
pub use entry::{Entry, Sums};
pub use standing::{Areas, Point, Random, SUFFICIENT, Standing};
