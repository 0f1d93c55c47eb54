//! Training a language model, from scratch or from another: next-token cross-entropy, AdamW, the forward pass of
//! [`Model`](crate::Model). Norms may be frozen on the way: [`Removal`].
//!
//! The conventions are those of GPT-2 and nanoGPT: weights from N(0, s²), the projections back into the residual stream
//! from N(0, (s/√(2·layers))²), s being 0.02 in GPT-2, biases 0, gains 1; weight decay on matrices (embeddings included) and not on vectors;
//! gradients clipped by their global norm; warm-up and a cosine to a floor.
//!
//! A step is a function of the state after the step before it and of the step's number alone: the order of the data and
//! the dropout masks are drawn from streams named by pass, step and place. A training that is interrupted and goes on has
//! the bits of one that is not.

mod curve;
mod data;
mod dropout;
mod init;
mod removal;
mod state;
mod trainer;

pub use curve::{CurvePoint, LossAround, curve_from_words, curve_to_words};
pub use init::{Gpt2Shape, Start, gpt2_config, initial};
pub use removal::{AuxiliaryWeight, Group, Removal, RemovalSchedule};
pub use trainer::{StepReport, Trainer, Training, held_out_loss};
