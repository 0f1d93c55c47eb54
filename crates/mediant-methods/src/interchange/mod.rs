//! Interchange interventions (Geiger et al. 2021, arXiv:2106.02997; Geiger et al. 2023, arXiv:2303.02536): a prompt runs with some features
//! of an activation as they are in its counterfactual.
//!
//! The prompt is the base, its counterfactual the source. With h_b and h_s their activations at a site, position by position, the base gets
//!
//! - h_b + (h_s − h_b) RᵀR, R the chosen [`Basis`](crate::subspace::Basis) vectors as rows;
//! - h_b with the chosen dimensions of h_s;
//! - h_b + x̂(codes of h_b with the chosen latents of h_s) − x̂(codes of h_b): what the autoencoder does not reconstruct of the base stays;
//!   where it normalises its input, latents mean what they mean beside the base's scale;
//! - h_s, of the full vector.
//!
//! Which of them an autoencoder's own error is to blame for, [`sae_eval`](crate::sae_eval)'s `ce_loss_score` of the same autoencoder tells.

mod featuriser;
mod judge;
mod run;
mod tally;

pub use featuriser::{Features, Featuriser};
pub use judge::{Judge, Side};
pub use run::{Exchange, Exchanged, Outcome, interchange};
pub use tally::{Accuracy, Tally};
