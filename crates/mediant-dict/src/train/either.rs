//! The learner of a device, or the CPU's for what the other has not.

use mediant_tensor::Compute;
use mediant_tensor::checkpoint::{Checkpoint, State};

use super::cpu::CpuLearner;
use super::device::{DeviceLearner, not_on_devices};
use super::learner::{Learner, Now, Outcome, Samples};
use crate::config::Training;
use crate::{Result, Weights};

/// Trains on a backend of burn if its learner has the training, and on the CPU otherwise.
pub enum EitherLearner<C: Compute> {
    /// On the CPU.
    Cpu(Box<CpuLearner>),
    /// On the backend.
    Device(Box<DeviceLearner<C>>),
}

impl<C: Compute> EitherLearner<C> {
    /// Starts from these weights.
    pub fn new(training: &Training, weights: Weights, device: &C::Device) -> Self {
        match not_on_devices(training) {
            Some(_) => Self::Cpu(Box::new(CpuLearner::new(training, weights))),
            None => Self::Device(Box::new(DeviceLearner::new(training, weights, device))),
        }
    }
}

impl<C: Compute> Learner for EitherLearner<C> {
    fn step(&mut self, batch: Samples<'_>, now: &Now<'_>) -> Outcome {
        match self {
            Self::Cpu(learner) => learner.step(batch, now),
            Self::Device(learner) => learner.step(batch, now),
        }
    }

    fn weights(&self) -> Weights {
        match self {
            Self::Cpu(learner) => learner.weights(),
            Self::Device(learner) => learner.weights(),
        }
    }

    fn threshold(&self) -> Option<f64> {
        match self {
            Self::Cpu(learner) => learner.threshold(),
            Self::Device(learner) => learner.threshold(),
        }
    }

    fn save<'a>(&'a self, state: &mut State<'a>) {
        match self {
            Self::Cpu(learner) => learner.save(state),
            Self::Device(learner) => learner.save(state),
        }
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        match self {
            Self::Cpu(learner) => learner.restore(checkpoint),
            Self::Device(learner) => learner.restore(checkpoint),
        }
    }
}
