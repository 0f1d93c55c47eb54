//! The training loop, step by step, the same for every device.

use std::path::Path;

use mediant_artifact::CurveRow;
use mediant_tensor::checkpoint::{self, Checkpoint, State};
use rayon::prelude::*;
use serde::Serialize;

use super::curve::Curve;
use super::feed::Batch;
use super::learner::{Learner, Now, Outcome, Samples};
use super::source::Activations;
use super::start::{self, Estimates};
use super::steering::Steering;
use super::variance::variance;
use crate::config::Training;
use crate::{Activation, Error, Extra, InputNorm, Result, Sae, Scales, Weights};

/// The file of a checkpoint.
const STATE: &str = "state.safetensors";

/// The places of a training's hook points among those of the source: of an autoencoder twice the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// What is read.
    pub read: usize,
    /// What is reconstructed.
    pub written: usize,
}

impl From<usize> for Places {
    fn from(hook: usize) -> Self {
        Self { read: hook, written: hook }
    }
}

/// A training under way.
pub struct Trainer<L> {
    training: Training,
    places: Places,
    learner: L,
    scales: Scales,
    step: u64,
    /// Of the sparsity coefficient, where there is a wanted L0.
    steering: Option<Steering>,
    /// Steps since each latent was last active.
    since_fired: Vec<u64>,
    curve: Curve,
    /// Vectors of an epoch.
    rows: u64,
    /// What of the batch is normalised: what is read, and of a transcoder what is reconstructed.
    normalised: [Vec<f32>; 2],
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
    /// The factor that all activations were multiplied by.
    pub activation_scale: f32,
    /// That of the target of a transcoder, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_scale: Option<f32>,
    /// Latents that had not fired within the window at the end.
    pub dead_latents: usize,
}

impl<L: Learner> Trainer<L> {
    /// Prepares the first step of a training on hook points, by their places in the source. `learner` makes the learner of a
    /// device from the initial weights.
    ///
    /// # Errors
    /// When the activations are too narrow or cannot be read.
    pub fn start(
        training: Training,
        places: impl Into<Places>,
        estimates: &mut Estimates<'_>,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        Self::begin(training, places.into(), estimates, None, learner)
    }

    /// As [`Self::start`], with the parameters of a dictionary as the initial ones.
    ///
    /// # Errors
    /// As there, and when the dictionary is of another architecture or shape.
    pub fn start_from(
        sae: &Sae,
        training: Training,
        places: impl Into<Places>,
        estimates: &mut Estimates<'_>,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        Self::begin(training, places.into(), estimates, Some(sae), learner)
    }

    fn begin(
        training: Training,
        places: Places,
        estimates: &mut Estimates<'_>,
        sae: Option<&Sae>,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        let source = estimates.source();
        check_source(source, places)?;
        let scales = estimates.scales(&training, places)?;
        let weights = match sae {
            None => estimates.weights(&training, places, scales)?,
            Some(sae) => start::warm(&training, widths(source, places), sae, scales)?,
        };
        let learner = learner(&training, weights);
        Ok(Self::at(training, places, source, learner, scales, 0))
    }

    /// Goes on from a checkpoint of the same training.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or is of another training.
    pub fn resume(
        training: Training,
        places: impl Into<Places>,
        source: &dyn Activations,
        folder: &Path,
        learner: impl FnOnce(&Training, Weights) -> L,
    ) -> Result<Self> {
        let places = places.into();
        check_source(source, places)?;
        let mut checkpoint = Checkpoint::load(&folder.join(STATE))?;
        let [step] = checkpoint.words("step")?;
        let [input, target] = checkpoint.words("scales")?.map(|bits: u64| f32::from_bits(bits as u32));
        let scales = Scales { input, target };
        // The weights are replaced below; drawing them again is the simplest way to have some of the right shape.
        let [d_in, d_out] = widths(source, places);
        let mut weights = match training.transcoder {
            None => Weights::init(d_in, training.d_sae, None, 0),
            Some(of) => Weights::init_transcoder([d_in, d_out], training.d_sae, None, of.skip, 0),
        };
        training.objective.extend(&mut weights);
        let learner = learner(&training, weights);
        let mut trainer = Self::at(training, places, source, learner, scales, step);
        trainer.learner.restore(&mut checkpoint)?;
        trainer.curve.restore(&mut checkpoint)?;
        if let Some(steering) = &mut trainer.steering {
            steering.restore(&mut checkpoint)?;
        }
        trainer.since_fired = checkpoint.word_list("since_fired")?;
        checkpoint.finish()?;
        if step > trainer.training.steps || trainer.since_fired.len() != trainer.training.d_sae {
            return Err(Error::Data("the checkpoint is not one of this training".to_owned()));
        }
        Ok(trainer)
    }

    fn at(training: Training, places: Places, source: &dyn Activations, learner: L, scales: Scales, step: u64) -> Self {
        let shared = ["loss", "mse_loss", "ev_trainer", "l0", "dead_fraction", "grad_norm", "lr", "examples_in_batch"];
        let mut names: Vec<String> = shared.iter().map(|name| (*name).to_owned()).collect();
        names.extend(training.objective.other_losses());
        names.extend(training.objective.coefficient_name().map(str::to_owned));
        Self {
            places,
            scales,
            step,
            steering: training.l0_target.map(|target| Steering::to(target, &training.objective)),
            since_fired: vec![0; training.d_sae],
            curve: Curve::new(names),
            rows: source.offsets().last().copied().unwrap_or(0),
            normalised: Default::default(),
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
        let Places { read, written } = self.places;
        let mut normalised = std::mem::take(&mut self.normalised);
        let [of_input, of_target] = &mut normalised;
        let x = match self.training.normalize_activations.input_norm() {
            InputNorm::None => times(self.scales.input, batch.vectors(read), of_input),
            norm => norm.apply(batch.vectors(read), batch.vectors(read).len() / batch.rows(), of_input),
        };
        let target = if written == read { x } else { times(self.scales.target, batch.vectors(written), of_target) };
        let window = self.training.dead_feature_window;
        let dead: Vec<bool> = self.since_fired.iter().map(|&steps| steps > window).collect();
        let steered = self.steering.map_or(1.0, |steering| steering.factor());
        let coefficient = steered * self.training.objective.coefficient_at(self.step);
        let now = Now { lr: self.training.lr.at(self.step), coefficient, dead: &dead };
        let outcome = self.learner.step(Samples { input: x, target }, &now);
        for (what, value) in [("the loss", outcome.losses.total()), ("the norm of the gradients", outcome.grad_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { step: self.step, what, value });
            }
        }
        if let Some(steering) = self.steering.as_mut().filter(|_| self.training.objective.is_warm(self.step)) {
            steering.see(outcome.l0);
        }
        for (since, fired) in self.since_fired.iter_mut().zip(&outcome.fired) {
            *since = if *fired { 0 } else { *since + 1 };
        }
        self.step += 1;
        if self.step == 1 || self.step.is_multiple_of(self.training.log_every) || self.is_done() {
            let ev_trainer = 1.0 - outcome.losses.mse / variance(target, target.len() / batch.rows());
            self.log(&outcome, &now, ev_trainer, batch.examples());
        }
        self.normalised = normalised;
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
        if let Some(steering) = &self.steering {
            steering.save(&mut state);
        }
        // The place in the data follows from the number of steps.
        state.words("step", &[self.step]);
        let Scales { input, target } = self.scales;
        state.words("scales", &[input, target].map(|scale| u64::from(scale.to_bits())));
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
        let scaled = self.scales != Scales::NONE;
        if scaled {
            weights.fold_scales(self.scales);
            // It is compared with activations times decoder norms, which have become smaller.
            if objective.rescales() {
                threshold = threshold.map(|threshold| threshold / f64::from(self.scales.target));
            }
        }
        if objective.rescales() {
            weights.fold_decoder_norms();
        }
        if let Some(threshold) = threshold {
            weights.extra = Extra::Threshold(vec![threshold as f32; weights.d_sae]);
        }
        let mut activation = objective.activation();
        if let Activation::MatchingPursuit(rule) = &mut activation {
            // It is compared with what is left of an input that is not scaled any more.
            rule.residual_threshold /= f64::from(self.scales.input);
        }
        let target_scale = scaled && self.training.transcoder.is_some();
        let tokens = self.step * self.training.batch as u64;
        let rows = self.rows;
        Ok(Trained {
            sae: Sae::new(weights, activation, self.training.apply_b_dec_to_input)?
                .with_input_norm(self.training.normalize_activations.input_norm())?,
            curve: self.curve.rows(self.training.batch),
            facts: TrainingFacts {
                steps: self.step,
                tokens,
                rows,
                epochs: tokens as f64 / rows as f64,
                activation_scale: self.scales.input,
                target_scale: target_scale.then_some(self.scales.target),
                dead_latents: self.dead_latents(),
            },
        })
    }
}

/// Vectors times `scale`, in the buffer where that is not 1.
fn times<'a>(scale: f32, x: &'a [f32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
    if scale == 1.0 {
        return x;
    }
    buffer.clear();
    buffer.extend_from_slice(x);
    buffer.par_iter_mut().for_each(|x| *x *= scale);
    buffer
}

/// Those of what is read and of what is reconstructed.
fn widths(source: &dyn Activations, places: Places) -> [usize; 2] {
    [places.read, places.written].map(|place| source.widths()[place])
}

fn check_source(source: &dyn Activations, places: Places) -> Result<()> {
    if let Some(width) = widths(source, places).into_iter().find(|width| *width < 2) {
        return Err(Error::Data(format!("activations of width {width} are too narrow for a dictionary")));
    }
    match source.offsets().last() {
        Some(rows) if *rows > 0 => Ok(()),
        _ => Err(Error::Data("there are no activations to train on".to_owned())),
    }
}
