//! What a device must be able to do to train a dictionary.

use mediant_tensor::checkpoint::{Checkpoint, State};

use crate::{Result, Weights};

/// A dictionary in training on some device: its parameters, the optimiser's state, and the step.
///
/// Data order, schedules, dead-latent accounting and the curve are the trainer's, the same for every device.
pub trait Learner: Sized {
    /// One step on a batch: forward, losses, backward, clipping, Adam. Nothing is updated if a loss or the
    /// norm of the gradients is not finite.
    fn step(&mut self, batch: Samples<'_>, now: &Now<'_>) -> Outcome;

    /// The parameters as they are.
    fn weights(&self) -> Weights;

    /// The running threshold of the families that choose over a batch, in the units in which activations are compared.
    fn threshold(&self) -> Option<f64>;

    /// Adds parameters and optimiser to a checkpoint.
    fn save<'a>(&'a self, state: &mut State<'a>);

    /// Takes them back.
    ///
    /// # Errors
    /// When the checkpoint is not one of this training.
    fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()>;
}

/// The vectors of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// What is read, `[batch, d_in]`.
    pub input: &'a [f32],
    /// What is reconstructed, `[batch, d_out]`: of an autoencoder the same.
    pub target: &'a [f32],
}

impl<'a> From<&'a [f32]> for Samples<'a> {
    fn from(input: &'a [f32]) -> Self {
        Self { input, target: input }
    }
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The learning rate.
    pub lr: f64,
    /// The sparsity coefficient, of the families that have one.
    pub coefficient: f64,
    /// `[d_sae]`: the latents that count as dead before this step.
    pub dead: &'a [bool],
}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The losses; they sum to the training loss.
    pub losses: Losses,
    /// 2-norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Mean number of active latents.
    pub l0: f64,
    /// `[d_sae]`: whether a latent was active in any row.
    pub fired: Vec<bool>,
}

/// The losses of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// `mse_loss`: ‖x − x̂‖², summed over dimensions, mean over the batch.
    pub mse: f64,
    /// The family's own, with their coefficients, in the order of [`crate::Objective::other_losses`].
    pub others: Vec<f64>,
}

impl Losses {
    /// The training loss.
    pub fn total(&self) -> f64 {
        self.mse + self.others.iter().sum::<f64>()
    }
}
