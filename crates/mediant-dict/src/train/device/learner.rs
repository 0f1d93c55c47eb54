//! The learner of a burn backend: a pass, clipping, Adam, all where the parameters are.

use mediant_tensor::burn::tensor::{FloatDType, TensorData, Transaction};
use mediant_tensor::checkpoint::{Checkpoint, State};
use mediant_tensor::ops::matmul_rounded;
use mediant_tensor::optim::{Adam, TensorMoments, clip_factor};
use mediant_tensor::{Compute, Tensor};

use super::choose::Choice;
use super::constraint::{normalise, remove_parallel};
use super::fold::{column_sums, row_sums};
use super::frame::{Found, Frame, Loss, activity, squares};
use super::largest::Scope;
use super::{choose, gated, jump_relu, relu};
use crate::config::{ComputeDtype, Training};
use crate::train::learner::{Learner, Losses, Now, Outcome, Samples};
use crate::train::threshold::RunningThreshold;
use crate::{BatchChoice, DecoderNorm, Extra, Objective, Result, Weights};

/// The place of W_dec among the parameters.
const W_DEC: usize = 2;

/// Trains on a backend of burn.
pub struct DeviceLearner<C: Compute> {
    objective: Objective,
    /// Whether what is reconstructed is not what is read.
    transcodes: bool,
    apply_b_dec_to_input: bool,
    decoder_norm: DecoderNorm,
    max_grad_norm: Option<f64>,
    adam: Adam,
    rounding: FloatDType,
    device: C::Device,
    /// Shapes and names; the numbers are those of the start.
    layout: Weights,
    /// In the order of [`Weights::each`]; vectors are rows `[1, n]`.
    parameters: Vec<Tensor<C, 2>>,
    moments: Vec<TensorMoments<C, 2>>,
    updates: u64,
    /// Of the families that choose over a batch.
    threshold: Option<RunningThreshold>,
}

/// What of a training only the CPU's learner has.
pub fn not_on_devices(training: &Training) -> Option<&'static str> {
    match &training.objective {
        Objective::TopAfa(_) => Some("`architecture: top_afa`"),
        Objective::MatchingPursuit(_) => Some("`architecture: matching_pursuit`"),
        _ => None,
    }
}

/// A pass: what it found on the host, and the gradients of batch / 2 times the loss.
struct Passed<C: Compute> {
    outcome: Outcome,
    least: Option<f64>,
    gradients: Vec<Tensor<C, 2>>,
}

impl<C: Compute> DeviceLearner<C> {
    /// Starts from these weights. The training is one that [`not_on_devices`] has nothing to say of.
    pub fn new(training: &Training, weights: Weights, device: &C::Device) -> Self {
        let values = weights.each().into_iter().zip(weights.shapes());
        let parameters: Vec<Tensor<C, 2>> =
            values.map(|(values, (_, shape))| upload(values.to_vec(), &shape, device)).collect();
        let zeros = |like: &Tensor<C, 2>| TensorMoments { first: like.zeros_like(), second: like.zeros_like() };
        Self {
            objective: training.objective.clone(),
            transcodes: training.transcoder.is_some(),
            apply_b_dec_to_input: training.apply_b_dec_to_input,
            decoder_norm: training.decoder_norm,
            max_grad_norm: training.max_grad_norm,
            adam: Adam { betas: training.adam_betas, ..Adam::default() },
            rounding: match training.compute_dtype {
                ComputeDtype::F32 => FloatDType::F32,
                ComputeDtype::Bf16 => FloatDType::BF16,
                ComputeDtype::F16 => FloatDType::F16,
            },
            device: device.clone(),
            moments: parameters.iter().map(zeros).collect(),
            layout: weights,
            parameters,
            updates: 0,
            threshold: training.objective.batch_choice().map(RunningThreshold::of),
        }
    }

    /// Losses and gradients of a batch, without a step.
    pub fn gradients(&self, batch: Samples<'_>, now: &Now<'_>) -> (Outcome, Weights) {
        let Passed { outcome, gradients, .. } = self.pass(batch, now);
        let gain = self.gain(batch) as f32;
        (outcome, self.fetch(gradients.into_iter().map(|gradient| gradient * gain)))
    }

    /// 2 / batch: what gradients are still to be multiplied by.
    fn gain(&self, batch: Samples<'_>) -> f64 {
        2.0 / (batch.input.len() / self.layout.d_in) as f64
    }

    fn pass(&self, batch: Samples<'_>, now: &Now<'_>) -> Passed<C> {
        let Weights { d_in, d_out, .. } = self.layout;
        let rows = batch.input.len() / d_in;
        let [w_enc, b_enc, w_dec, b_dec, extra @ ..] = &self.parameters[..] else {
            unreachable!("`Weights::each` gives at least four")
        };
        // It comes last.
        let (extra, skip) = extra.split_at(extra.len() - usize::from(self.layout.w_skip.is_some()));
        let x = upload(batch.input.to_vec(), &[rows, d_in], &self.device);
        // Of an autoencoder it is what is read.
        let target = match self.transcodes {
            true => upload(batch.target.to_vec(), &[rows, d_out], &self.device),
            false => x.clone(),
        };
        let mut base = b_dec.clone() - target;
        for w_skip in skip {
            base = base + matmul_rounded(x.clone(), w_skip.clone().transpose(), self.rounding);
        }
        let frame = Frame {
            w_enc,
            b_enc,
            w_dec,
            extra,
            norms: squares(w_dec).sqrt().transpose(),
            inputs: if self.apply_b_dec_to_input { x.clone() - b_dec.clone() } else { x.clone() },
            base,
            coefficient: now.coefficient,
            dead: now.dead,
            rounding: self.rounding,
        };
        let found = self.family(&frame);
        let mut of_b_dec = column_sums(found.output_pull.clone());
        if self.apply_b_dec_to_input {
            // − W_enc Σ ∂L/∂z.
            let pull = found.input_pull.unwrap_or_else(|| found.gradients[1].clone());
            of_b_dec = of_b_dec - column_sums(w_enc.clone() * pull.transpose());
        }
        let mut gradients = found.gradients.to_vec();
        gradients.push(of_b_dec);
        gradients.extend(found.extra);
        gradients.extend(skip.iter().map(|_| frame.product(found.output_pull.clone().transpose(), x.clone())));
        if self.decoder_norm == DecoderNorm::OneAfterStep {
            gradients[W_DEC] = remove_parallel(w_dec, gradients[W_DEC].clone());
        }

        let (per_row, per_latent) = activity(found.active);
        let mse = Loss { rows: found.mse, factor: 1.0 / rows as f64 };
        let losses: Vec<Loss<C>> = [mse].into_iter().chain(found.others).collect();
        let mut wanted = Transaction::<C>::default().register(per_row).register(per_latent);
        for Loss { rows, .. } in &losses {
            wanted = wanted.register(rows.clone());
        }
        for gradient in &gradients {
            let square = gradient.clone() * gradient.clone();
            // Vectors are added up in f64.
            wanted = wanted.register(if square.dims()[0] == 1 { square } else { row_sums(square) });
        }
        let chose = found.least.is_some();
        wanted = found.least.into_iter().fold(wanted, Transaction::register);

        let mut fetched = wanted.execute().into_iter();
        let mut next = || fetched.next().unwrap_or_else(|| TensorData::new(Vec::<f32>::new(), [0]));
        let active: i64 = next().iter::<i64>().sum();
        let fired = next().iter::<i64>().map(|rows| rows > 0).collect();
        let total = |data: &TensorData| data.iter::<f64>().sum::<f64>();
        let mut values = losses.iter().map(|loss| loss.factor * total(&next())).collect::<Vec<f64>>().into_iter();
        let losses = Losses { mse: values.next().unwrap_or_default(), others: values.collect() };
        let squares: f64 = gradients.iter().map(|_| total(&next())).sum();
        let least = chose.then(|| next().iter::<f64>().fold(f64::INFINITY, f64::min));
        let grad_norm = self.gain(batch) * squares.sqrt();
        let outcome = Outcome { losses, grad_norm, l0: active as f64 / rows as f64, fired };
        // Nothing may have been chosen.
        Passed { outcome, least: least.filter(|least| least.is_finite()), gradients }
    }

    fn family(&self, frame: &Frame<'_, C>) -> Found<C> {
        let of_batch = |choice: &BatchChoice| Choice {
            scope: Scope::Batch,
            entries: choice.entries(frame.rows()),
            rescale: choice.rescale_acts_by_decoder_norm,
            aux_loss_coefficient: choice.aux_loss_coefficient,
            aux_loss: choice.aux_loss,
            widths: &[],
            aux_by_width: false,
        };
        match &self.objective {
            Objective::Relu { .. } => relu::pass(frame),
            Objective::Gated { detach_decoder, .. } => gated::pass(frame, *detach_decoder),
            Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient, aux_loss } => {
                let choice = Choice {
                    scope: Scope::Row,
                    entries: *k,
                    rescale: *rescale_acts_by_decoder_norm,
                    aux_loss_coefficient: *aux_loss_coefficient,
                    aux_loss: *aux_loss,
                    widths: &[],
                    aux_by_width: false,
                };
                choose::pass(frame, &choice)
            }
            Objective::BatchTopK { choice } => choose::pass(frame, &of_batch(choice)),
            Objective::Matryoshka { choice, widths, aux_by_width } => {
                choose::pass(frame, &Choice { widths, aux_by_width: *aux_by_width, ..of_batch(choice) })
            }
            Objective::JumpRelu(options) => jump_relu::pass(frame, options),
            Objective::TopAfa(_) | Objective::MatchingPursuit(_) => unreachable!("`not_on_devices` names it"),
        }
    }

    fn normalise_decoder(&mut self) {
        self.parameters[W_DEC] = normalise(self.parameters[W_DEC].clone());
    }

    /// As weights on the host.
    fn fetch(&self, tensors: impl IntoIterator<Item = Tensor<C, 2>>) -> Weights {
        let mut weights = self.layout.clone();
        for (values, tensor) in weights.each_mut().into_iter().zip(tensors) {
            values.copy_from_slice(&numbers(tensor));
        }
        weights
    }
}

impl<C: Compute> Learner for DeviceLearner<C> {
    fn step(&mut self, batch: Samples<'_>, now: &Now<'_>) -> Outcome {
        // Below zero, negative pre-activations would pass; SAELens' projection.
        if let (Extra::Threshold(_), Some(threshold)) = (&self.layout.extra, self.parameters.get_mut(4))
            && self.objective.keeps_thresholds_positive()
        {
            *threshold = threshold.clone().clamp_min(0.0);
        }
        let Passed { outcome, least, mut gradients } = self.pass(batch, now);
        if outcome.losses.total().is_finite() && outcome.grad_norm.is_finite() {
            if let Some(threshold) = &mut self.threshold {
                threshold.see(self.updates, least);
            }
            self.updates += 1;
            let clip = self.max_grad_norm.map_or(1.0, |max| clip_factor(outcome.grad_norm, max));
            let scale = (f64::from(clip) * self.gain(batch)) as f32;
            if self.decoder_norm == DecoderNorm::OneBeforeStep {
                gradients[W_DEC] = remove_parallel(&self.parameters[W_DEC], gradients[W_DEC].clone());
                self.normalise_decoder();
            }
            for ((parameter, moments), gradient) in self.parameters.iter_mut().zip(&mut self.moments).zip(gradients) {
                let old = (parameter.clone(), moments.clone());
                (*parameter, *moments) = self.adam.step_tensor(self.updates, now.lr, old.0, gradient, scale, old.1);
            }
            if self.decoder_norm == DecoderNorm::OneAfterStep {
                self.normalise_decoder();
            }
        }
        outcome
    }

    fn weights(&self) -> Weights {
        self.fetch(self.parameters.iter().cloned())
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold.map(|threshold| threshold.value)
    }

    fn save<'a>(&'a self, state: &mut State<'a>) {
        for (((name, shape), value), moments) in self.layout.shapes().iter().zip(&self.parameters).zip(&self.moments) {
            state.tensor(*name, shape, numbers(value.clone()));
            state.tensor(format!("{name}.first_moment"), shape, numbers(moments.first.clone()));
            state.tensor(format!("{name}.second_moment"), shape, numbers(moments.second.clone()));
        }
        state.words(DEVICE_UPDATES, &[self.updates]);
        if let Some(threshold) = &self.threshold {
            state.words("threshold", &[threshold.value.to_bits()]);
        }
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        let device = &self.device;
        let shapes = self.layout.shapes();
        for (((name, shape), value), moments) in shapes.iter().zip(&mut self.parameters).zip(&mut self.moments) {
            *value = upload(checkpoint.tensor(name, shape)?, shape, device);
            moments.first = upload(checkpoint.tensor(&format!("{name}.first_moment"), shape)?, shape, device);
            moments.second = upload(checkpoint.tensor(&format!("{name}.second_moment"), shape)?, shape, device);
        }
        [self.updates] = checkpoint.words(DEVICE_UPDATES)?;
        if let Some(threshold) = &mut self.threshold {
            let [value] = checkpoint.words("threshold")?;
            threshold.value = f64::from_bits(value);
        }
        Ok(())
    }
}

/// Not the CPU learner's `updates`: a training that went on with the other learner would give bytes that neither gives, so
/// each refuses the checkpoints of the other. (The store keeps them apart by the kind of device as well.)
const DEVICE_UPDATES: &str = "device_updates";

fn upload<C: Compute>(values: Vec<f32>, shape: &[usize], device: &C::Device) -> Tensor<C, 2> {
    let shape = match *shape {
        [rows, columns] => [rows, columns],
        _ => [1, values.len()],
    };
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<C: Compute>(tensor: Tensor<C, 2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
