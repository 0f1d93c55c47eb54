//! Mediators compared under one measure: the faithfulness of sets of a family's items, everything else patched with its counterfactual
//! (Mueller et al. 2024, arXiv:2408.01416; MIB, Mueller et al. 2025, arXiv:2504.13151).
//!
//! F = (m(kept) − m(counterfactual)) / (m(clean) − m(counterfactual)), with the same denominator for every family. Token embeddings are
//! always those of the clean prompt.

mod bench;
mod circuit;
mod evaluate;
mod family;
mod greedy;
mod kind;
mod latent_attribution;
mod latent_means;
mod latents;
mod means;
mod off_target;
mod patched;
mod plan;
mod set;
mod sizes;

pub use evaluate::{Counted, evaluate_sets};
pub use family::{Family, Outside, Spliced};
pub use greedy::{Greedy, greedy};
pub use kind::MediatorKind;
pub use latent_attribution::{attribute_latents, latent_mediators};
pub use off_target::{OffTarget, off_target};
pub use plan::{Asked, Controls, chosen_set, plan};
pub use set::ItemSet;
pub use sizes::{SHARES, Selection, Sizes, benchmark_sizes, random_order};
