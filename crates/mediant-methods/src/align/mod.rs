//! Features that are trained to carry a causal variable: subspaces by distributed alignment search ([`Das`], Geiger et al. 2023,
//! arXiv:2303.02536) and choices of features by desiderata-based masking ([`Mask`], Davies et al. 2023, arXiv:2307.03637; De Cao et
//! al. 2020, arXiv:2004.14992).
//!
//! The model is frozen. A batch of prompts runs up to the hook point once, and so do their counterfactuals; every step after that
//! costs what lies behind the hook point, forward and backward.

mod das;
mod loss;
mod mask;
mod prepared;

pub use das::{Das, Trained, train_das};
pub use loss::Loss;
pub use mask::{Mask, Masked, train_mask};
pub use prepared::Training;
