//! Subspaces of activations, and where in a model they are.

mod basis;
mod gather;
mod means;
mod overlap;
mod pca;
mod probe;
mod site;

pub(crate) use basis::spanning;
pub use basis::{Basis, orthonormal, random_basis};
pub use gather::{Gathered, Which, gather};
pub use means::direction_of_means;
pub use overlap::{Overlap, overlap};
pub use pca::{Principal, principal};
pub use probe::{Labelled, LinearProbe};
pub use site::Site;
