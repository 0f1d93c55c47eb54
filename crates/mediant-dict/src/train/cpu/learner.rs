//! The learner of the CPU: a pass, clipping, Adam.

use mediant_tensor::checkpoint::{Checkpoint, State};
use mediant_tensor::optim::{Adam, Moments, clip_factor, global_norm};

use super::constraint::{normalise, remove_parallel};
use super::pass::{Buffers, pass};
use crate::config::Training;
use crate::train::learner::{Learner, Now, Outcome, Samples};
use crate::train::threshold::RunningThreshold;
use crate::{DecoderNorm, Extra, Objective, Result, Weights};

/// Trains on the CPU.
pub struct CpuLearner {
    objective: Objective,
    apply_b_dec_to_input: bool,
    decoder_norm: DecoderNorm,
    max_grad_norm: Option<f64>,
    adam: Adam,
    weights: Weights,
    moments: Vec<Moments>,
    gradients: Weights,
    buffers: Buffers,
    updates: u64,
    /// Of the families that choose over a batch.
    threshold: Option<RunningThreshold>,
}

impl CpuLearner {
    /// Starts from these weights.
    pub fn new(training: &Training, weights: Weights) -> Self {
        let gradients = weights.zeros_like();
        let moments = gradients.each().iter().map(|gradient| Moments::zeros(gradient.len())).collect();
        Self {
            objective: training.objective.clone(),
            apply_b_dec_to_input: training.apply_b_dec_to_input,
            decoder_norm: training.decoder_norm,
            max_grad_norm: training.max_grad_norm,
            adam: Adam { betas: training.adam_betas, ..Adam::default() },
            weights,
            moments,
            gradients,
            buffers: Buffers::default(),
            updates: 0,
            threshold: training.objective.batch_choice().map(RunningThreshold::of),
        }
    }
}

impl Learner for CpuLearner {
    fn step(&mut self, batch: Samples<'_>, now: &Now<'_>) -> Outcome {
        // Below zero, negative pre-activations would pass; SAELens' projection.
        if let Extra::Threshold(threshold) = &mut self.weights.extra
            && self.objective.keeps_thresholds_positive()
        {
            threshold.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let (gradients, buffers) = (&mut self.gradients, &mut self.buffers);
        let found = pass(&self.weights, &self.objective, self.apply_b_dec_to_input, batch, now, gradients, buffers);
        let rows = batch.input.len() / self.weights.d_in;
        let d_out = self.weights.d_out;
        if self.decoder_norm == DecoderNorm::OneAfterStep {
            remove_parallel(&self.weights.w_dec, &mut self.gradients.w_dec, d_out);
        }
        let grad_norm = global_norm(self.gradients.each());
        let outcome =
            Outcome { losses: found.losses, grad_norm, l0: found.active as f64 / rows as f64, fired: found.fired };
        if outcome.losses.total().is_finite() && grad_norm.is_finite() {
            if let Some(threshold) = &mut self.threshold {
                threshold.see(self.updates, found.least.map(f64::from));
            }
            self.updates += 1;
            let scale = self.max_grad_norm.map_or(1.0, |max| clip_factor(grad_norm, max));
            if self.decoder_norm == DecoderNorm::OneBeforeStep {
                remove_parallel(&self.weights.w_dec, &mut self.gradients.w_dec, d_out);
                normalise(&mut self.weights.w_dec, d_out);
            }
            let parameters = self.weights.each_mut().into_iter().zip(self.gradients.each()).zip(&mut self.moments);
            for ((parameter, gradient), moments) in parameters {
                self.adam.step(self.updates, now.lr, parameter, gradient, scale, moments);
            }
            if self.decoder_norm == DecoderNorm::OneAfterStep {
                normalise(&mut self.weights.w_dec, d_out);
            }
        }
        outcome
    }

    fn weights(&self) -> Weights {
        self.weights.clone()
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold.map(|threshold| threshold.value)
    }

    fn save<'a>(&'a self, state: &mut State<'a>) {
        let shapes = self.weights.shapes();
        for (((name, shape), value), moments) in shapes.iter().zip(self.weights.each()).zip(&self.moments) {
            state.tensor(*name, shape, value);
            state.tensor(format!("{name}.first_moment"), shape, &moments.first);
            state.tensor(format!("{name}.second_moment"), shape, &moments.second);
        }
        state.words("updates", &[self.updates]);
        if let Some(threshold) = &self.threshold {
            state.words("threshold", &[threshold.value.to_bits()]);
        }
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        let shapes = self.weights.shapes();
        for (((name, shape), value), moments) in shapes.iter().zip(self.weights.each_mut()).zip(&mut self.moments) {
            value.copy_from_slice(&checkpoint.tensor(name, shape)?);
            moments.first = checkpoint.tensor(&format!("{name}.first_moment"), shape)?;
            moments.second = checkpoint.tensor(&format!("{name}.second_moment"), shape)?;
        }
        [self.updates] = checkpoint.words("updates")?;
        if let Some(threshold) = &mut self.threshold {
            let [value] = checkpoint.words("threshold")?;
            threshold.value = f64::from_bits(value);
        }
        Ok(())
    }
}
