//! Dictionaries in the file formats of other tools.

pub mod saelens;
pub(crate) mod tensors;
