//! Models that add two numbers modulo C: the Fourier subspace of their embedding, and prompts for them.

mod fourier;
mod sums;

pub use fourier::{Frequency, Spectrum};
pub use sums::{ANOTHER, Operand, Part, SPANS, VARIABLES, numbers, sums};
