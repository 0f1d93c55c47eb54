//! The training loop, step by step, the same for every device.

use std::path::Path;

use mediant_artifact::CurveRow;
use mediant_tensor::checkpoint::{self, Checkpoint, State};
use rayon::prelude::*;
use serde::Serialize;

use super::curve::Curve;
use super::feed::Batch;
use super::learner::{Learner, Now, Outcome};
use super::source::Activations;
use super::start::Estimates;
use crate::config::{Normalize, Training};
use crate::{Error, Extra, Result, Sae, Weights};

/// How fast the sparsity coefficient is steered: the natural logarithm of its change in a step where L0 is twice its target or more.
const STEERING: f64 = 0.01;
/// The file of a checkpoint.
const STATE: &str = "state.safetensors";

/// A training under way.
pub struct Trainer<L> {
    training: Training,
    /// The place of its hook point among those of the source.
    hook: usize,
    learner: L,
    scale: f32,
    step: u64,
    /// What the sparsity coefficient is multiplied by, to come to the wanted L0.
    steered: f64,
    /// Steps since each latent was last active.
    since_fired: Vec<u64>,
    curve: Curve,
    /// Vectors of an epoch.
    rows: u64,
    /// The batch times `scale`, where that is not 1.
    scaled: Vec<f32>,
}

/// The result of a training.
pub struct Trained {
    /// The autoencoder in its inference form, as SAELens saves it: the scale of the activations is taken over into the
    /// weights, and with `rescale_acts_by_decoder_norm` the decoder norms into the encoder; what chose over a batch has a threshold.
    pub sae: Sae,
    /// The curve.
    pub curve: Vec<CurveRow>,
    /// What the training came to know about itself.
    pub facts: TrainingFacts,
}

/// What a training came to know about itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainingFacts {
    /// Steps done.
    pub steps: u64,
    /// Vectors trained on, repetitions counted.
    pub tokens: u64,
    /// Vectors there are.
    pub rows: u64,
    /// `tokens / rows`.
    pub epochs: f64,
    /// The factor that activations were multiplied by.
    pub activation_scale: f32,
    /// Latents that had not fired within the window at the end.
    pub dead_latents: usize,
}

impl<L: Learner> Trainer<L> {
    /// Prepares the first step of a training on a hook point, by its place in the source. `learner` makes the learner of a
    /// device from the initial weights.
    ///
    /// # Errors
    /// When the activations are too narrow or cannot be read.
    pub fn start(
        training: Training,
        hook: usize,
        estimates: &mut Estimates<'_>,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        let source = estimates.source();
        check_source(source, hook)?;
        let scale = estimates.scale(&training, hook)?;
        let weights = estimates.weights(&training, hook, scale)?;
        let learner = learner(&training, weights);
        Ok(Self::at(training, hook, source, learner, scale, 0))
    }

    /// Goes on from a checkpoint of the same training.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or is of another training.
    pub fn resume(
        training: Training,
        hook: usize,
        source: &dyn Activations,
        folder: &Path,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        check_source(source, hook)?;
        let mut checkpoint = Checkpoint::load(&folder.join(STATE))?;
        let [step, scale] = checkpoint.words("step")?;
        let scale = f32::from_bits(scale as u32);
        // The weights are replaced below; drawing them again is the simplest way to have some of the right shape.
        let mut weights = Weights::init(source.widths()[hook], training.d_sae, None, 0);
        training.objective.extend(&mut weights);
        let learner = learner(&training, weights);
        let mut trainer = Self::at(training, hook, source, learner, scale, step);
        trainer.learner.restore(&mut checkpoint)?;
        trainer.curve.restore(&mut checkpoint)?;
        if trainer.training.l0_target.is_some() {
            let [steered] = checkpoint.words("steered")?;
            trainer.steered = f64::from_bits(steered);
        }
        trainer.since_fired = checkpoint.word_list("since_fired")?;
        checkpoint.finish()?;
        if step > trainer.training.steps || trainer.since_fired.len() != trainer.training.d_sae {
            return Err(Error::Data("the checkpoint is not one of this training".to_owned()));
        }
        Ok(trainer)
    }

    fn at(training: Training, hook: usize, source: &dyn Activations, learner: L, scale: f32, step: u64) -> Self {
        let shared = ["loss", "mse_loss", "ev_trainer", "l0", "dead_fraction", "grad_norm", "lr", "examples_in_batch"];
        let mut names: Vec<String> = shared.iter().map(|name| (*name).to_owned()).collect();
        names.extend(training.objective.other_losses());
        names.extend(training.objective.coefficient_name().map(str::to_owned));
        Self {
            hook,
            scale,
            step,
            steered: 1.0,
            since_fired: vec![0; training.d_sae],
            curve: Curve::new(names),
            rows: source.offsets().last().copied().unwrap_or(0),
            scaled: Vec::new(),
            learner,
            training,
        }
    }

    /// The options.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.training.steps
    }

    /// One step on the batch that a [`Feed`](super::Feed) has for [`Self::steps_done`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a loss or the norm of the gradients is not finite.
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        let mut x = batch.vectors(self.hook);
        if self.scale != 1.0 {
            self.scaled.clear();
            self.scaled.extend_from_slice(x);
            self.scaled.par_iter_mut().for_each(|x| *x *= self.scale);
            x = &self.scaled;
        }
        let window = self.training.dead_feature_window;
        let dead: Vec<bool> = self.since_fired.iter().map(|&steps| steps > window).collect();
        let coefficient = self.steered * self.training.objective.coefficient_at(self.step);
        let now = Now { lr: self.training.lr.at(self.step), coefficient, dead: &dead };
        let outcome = self.learner.step(x, &now);
        for (what, value) in [("the loss", outcome.losses.total()), ("the norm of the gradients", outcome.grad_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { step: self.step, what, value });
            }
        }
        if let Some(target) = self.training.l0_target.filter(|_| self.training.objective.is_warm(self.step)) {
            self.steered *= (STEERING * ((outcome.l0 - target) / target).clamp(-1.0, 1.0)).exp();
        }
        for (since, fired) in self.since_fired.iter_mut().zip(&outcome.fired) {
            *since = if *fired { 0 } else { *since + 1 };
        }
        self.step += 1;
        if self.step == 1 || self.step.is_multiple_of(self.training.log_every) || self.is_done() {
            let ev_trainer = 1.0 - outcome.losses.mse / variance(x, batch.rows());
            self.log(&outcome, &now, ev_trainer, batch.examples());
        }
        Ok(())
    }

    fn log(&mut self, outcome: &Outcome, now: &Now<'_>, ev_trainer: f64, examples: usize) {
        let dead = self.dead_latents() as f64 / self.training.d_sae as f64;
        let examples = examples as f64;
        let (loss, mse) = (outcome.losses.total(), outcome.losses.mse);
        let mut point = vec![loss, mse, ev_trainer, outcome.l0, dead, outcome.grad_norm, now.lr, examples];
        point.extend(&outcome.losses.others);
        point.extend(self.training.objective.coefficient_name().map(|_| now.coefficient));
        self.curve.push(self.step, &point);
    }

    fn dead_latents(&self) -> usize {
        self.since_fired.iter().filter(|&&steps| steps > self.training.dead_feature_window).count()
    }

    /// The last number of this name on the curve, for a progress line.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.curve.last(name)
    }

    /// Writes everything that the rest of the training depends on into a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut state = State::default();
        self.learner.save(&mut state);
        self.curve.save(&mut state);
        state.words("since_fired", &self.since_fired);
        if self.training.l0_target.is_some() {
            state.words("steered", &[self.steered.to_bits()]);
        }
        // The place in the data follows from the number of steps.
        state.words("step", &[self.step, u64::from(self.scale.to_bits())]);
        Ok(checkpoint::save(&folder.join(STATE), &state)?)
    }

    /// Ends the training.
    ///
    /// # Errors
    /// When the weights do not make an autoencoder.
    pub fn finish(self) -> Result<Trained> {
        let mut weights = self.learner.weights();
        let objective = &self.training.objective;
        let mut threshold = self.learner.threshold();
        if self.training.normalize_activations != Normalize::None {
            weights.fold_scale(self.scale);
            // It is compared with activations times decoder norms, which have become smaller.
            if objective.rescales() {
                threshold /= f64::from(self.scale);
            }
        }
        if objective.rescales() {
            weights.fold_decoder_norms();
        }
        if objective.batch_choice().is_some() {
            weights.extra = Extra::Threshold(vec![threshold as f32; weights.d_sae]);
        }
        let activation = objective.activation();
        let tokens = self.step * self.training.batch as u64;
        let rows = self.rows;
        Ok(Trained {
            sae: Sae::new(weights, activation, self.training.apply_b_dec_to_input)?,
            curve: self.curve.rows(self.training.batch),
            facts: TrainingFacts {
                steps: self.step,
                tokens,
                rows,
                epochs: tokens as f64 / rows as f64,
                activation_scale: self.scale,
                dead_latents: self.dead_latents(),
            },
        })
    }
}

fn check_source(source: &dyn Activations, hook: usize) -> Result<()> {
    let width = source.widths()[hook];
    if width < 2 {
        return Err(Error::Data(format!("activations of width {width} are too narrow for a dictionary")));
    }
    match source.offsets().last() {
        Some(rows) if *rows > 0 => Ok(()),
        _ => Err(Error::Data("there are no activations to train on".to_owned())),
    }
}

/// Σ over dimensions of the variance over a batch of rows.
fn variance(batch: &[f32], rows: usize) -> f64 {
    let width = batch.len() / rows;
    let mut mean = vec![0.0f64; width];
    for row in batch.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x));
    }
    mean.iter_mut().for_each(|x| *x /= rows as f64);
    let squares =
        batch.par_chunks(width).map(|row| row.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum());
    let squares: Vec<f64> = squares.collect();
    squares.iter().sum::<f64>() / rows as f64
}
