//! How well an autoencoder does, measured over any number of vectors in constant memory.

mod by_batch;
mod density;
mod description;
mod sums;
mod variant;
mod zf;

pub use by_batch::ByBatch;
pub use density::{Density, DensityBin};
pub use description::{Largest, Quantised, mdl_l0_bits};
pub use sums::Sums;
pub use variant::Variant;
pub use zf::{Zf, ZfPoint};
