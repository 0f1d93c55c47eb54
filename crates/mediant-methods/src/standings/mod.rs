//! Searches for mediators side by side: from the effects of sets to areas, intervals and differences. No forward pass is run.

mod curve;
mod differences;
mod entry;
mod exchanged;
mod origin;
mod search;
mod standing;

pub use curve::{Curve, bits};
pub use differences::{Contender, Difference, differences, holm};
pub use entry::{Entry, OffTarget, Sums};
pub use exchanged::{Exchange, Exchanges};
pub use origin::Origin;
pub use search::{Compared, Mismatch, Search};
pub use standing::{Areas, Point, Random, SUFFICIENT, Standing};
