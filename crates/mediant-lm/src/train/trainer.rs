//! The training loop, one step at a time.

use mediant_artifact::{Processing, Tokens};
use mediant_tensor::optim::{Adam, Moments, clip_factor, global_norm};
use mediant_tensor::schedule::Schedule;
use mediant_tensor::{Autodiff, Compute, Tensor, TensorData, ops};

use super::data::{Examples, Order};
use super::dropout::Dropout;
use super::init::{Start, initial};
use super::removal::{Observed, Removal, Removing};
use crate::{Batch, Error, HookPoint, Hooks, LmConfig, Model, NormSite, Parameter, Reader, Result, Slot, batches};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Of the order of the data, and of dropout.
    pub seed: u64,
    /// Sequences in a forward pass.
    pub batch: usize,
    /// Forward passes in a step; their gradients are those of one pass over all their tokens.
    pub accumulate: usize,
    /// Learning rate of each step.
    pub schedule: Schedule,
    /// The optimiser; its weight decay is for matrices alone.
    pub adam: Adam,
    /// Largest 2-norm of all gradients together; none for no clipping.
    pub clip: Option<f64>,
    /// Dropout probability, below 1.
    pub dropout: f32,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step's number, from 1.
    pub step: u64,
    /// Mean cross-entropy over the predicted tokens before the update, in nats.
    pub loss: f64,
    /// The auxiliary loss, its weight included, where norms are removed.
    pub auxiliary: f64,
    /// Where norms were frozen after the step before: what `loss` would have been had they stayed live.
    pub live_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// 2-norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens seen.
    pub tokens: u64,
}

/// One parameter and its optimiser state.
pub(super) struct Trained {
    pub(super) slot: Slot,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) moments: Moments,
}

/// A model in training.
pub struct Trainer<'t, B: Compute> {
    pub(super) config: LmConfig,
    training: Training,
    tokens: &'t Tokens,
    order: Order,
    pub(super) parameters: Vec<Trained>,
    /// Steps done.
    pub(super) step: u64,
    pub(super) removing: Option<Removing>,
    pub(super) device: B::Device,
}

/// Gradients of all parameters, in their order, and the loss they belong to.
struct Gradients {
    loss: f64,
    values: Vec<Vec<f32>>,
    observed: Observed,
}

/// One forward pass of a step.
struct Pass<'e> {
    examples: &'e Examples<'e>,
    /// Its number in the step.
    number: usize,
    /// Of a predicted token in the loss of the step.
    weight: f32,
    /// Rows of all passes of the step.
    rows: u64,
}

impl<'t, B: Compute> Trainer<'t, B> {
    /// A training from initial values, before its first step.
    ///
    /// # Errors
    /// [`Error::Tokens`] if there is nothing to learn from, or the model cannot take the tokens.
    pub fn from_scratch(
        config: LmConfig,
        start: Start,
        training: Training,
        tokens: &'t Tokens,
        device: B::Device,
    ) -> Result<Self> {
        let values = |slot| initial(&config, slot, start, training.seed);
        let parameters = config.slots().into_iter().map(|slot| (slot, values(slot))).collect();
        Self::new(config, parameters, training, tokens, device)
    }

    /// A training that goes on from a model, before its first step.
    ///
    /// # Errors
    /// As [`Trainer::from_scratch`]; and [`Error::Weights`] for processed weights, which training would undo.
    pub fn from_model(model: &Model<B>, training: Training, tokens: &'t Tokens) -> Result<Self> {
        if model.config().processing != Processing::default() {
            let why = "the weights of this model were processed (folded, centred), which a training would undo; train the \
                       model as it was and process it afterwards";
            return Err(Error::Weights(why.to_owned()));
        }
        let parameters = model.parameters().into_iter().map(|(slot, parameter)| (slot, parameter.into_values()));
        Self::new(model.config().clone(), parameters.collect(), training, tokens, model.device())
    }

    /// The same, with norms frozen on the way.
    ///
    /// # Errors
    /// [`Error::Weights`] for a model whose norms cannot be removed, and for norms that are not live.
    pub fn removing(self, removal: Removal) -> Result<Self> {
        let removing = Some(Removing::new(removal, &self.config)?);
        Ok(Self { removing, ..self })
    }

    fn new(
        config: LmConfig,
        parameters: Vec<(Slot, Vec<f32>)>,
        training: Training,
        tokens: &'t Tokens,
        device: B::Device,
    ) -> Result<Self> {
        if !(0..tokens.len()).any(|i| tokens.mask_of(i)[1..].contains(&true)) {
            return Err(Error::Tokens(
                "there is no token to predict: every sequence is one token long or masked".to_owned(),
            ));
        }
        if tokens.meta.context > config.context {
            let (longest, context) = (tokens.meta.context, config.context);
            return Err(Error::Tokens(format!(
                "sequences are up to {longest} tokens long, the model's context is {context}"
            )));
        }
        let parameters = parameters.into_iter().map(|(slot, values)| Trained {
            slot,
            shape: slot.shape(&config),
            moments: Moments::zeros(values.len()),
            values,
        });
        let parameters = parameters.collect();
        let order = Order::new(training.seed, tokens.len());
        Ok(Self { config, training, tokens, order, parameters, step: 0, removing: None, device })
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// The norms that have been frozen, after how many steps, at which scale; in this order.
    pub fn frozen(&self) -> Vec<(NormSite, u64, f32)> {
        self.removing.iter().flat_map(Removing::frozen).collect()
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// None that the types leave possible.
    pub fn model(&self) -> Result<Model<B>> {
        self.model_of(self.config.clone())
    }

    fn model_of(&self, config: LmConfig) -> Result<Model<B>> {
        let parameters =
            self.parameters.iter().map(|p| Ok((p.slot, Parameter::new(p.values.clone(), &p.shape, &self.device)?)));
        Model::new(config, parameters.collect::<Result<Vec<_>>>()?)
    }

    /// Makes a step, and freezes the norms whose time has come.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or a gradient is not a finite number; the parameters are then those before the step.
    pub fn step(&mut self) -> Result<StepReport> {
        let examples = self.examples();
        let passes = passes(&examples);
        let gradients = self.gradients(&passes)?;
        let live = self.removing.as_ref().and_then(|removing| removing.with_live_again(self.step, &self.config));
        let live_loss = live.map(|config| self.loss_with(config, &passes)).transpose()?;
        let step = self.step + 1;
        let lr = self.training.schedule.at(self.step);
        let grad_norm = global_norm(gradients.values.iter().map(Vec::as_slice));
        let auxiliary = gradients.observed.auxiliary;
        for (what, value) in [("loss", gradients.loss), ("auxiliary loss", auxiliary)] {
            if !value.is_finite() {
                return Err(Error::Diverged { step, what, value });
            }
        }
        if !grad_norm.is_finite() {
            return Err(Error::Diverged { step, what: "norm of the gradients", value: grad_norm });
        }
        let factor = self.training.clip.map_or(1.0, |max| clip_factor(grad_norm, max));
        for (parameter, grad) in self.parameters.iter_mut().zip(&gradients.values) {
            let decays = parameter.slot.is_matrix(&self.config);
            let weight_decay = if decays { self.training.adam.weight_decay } else { 0.0 };
            let adam = Adam { weight_decay, ..self.training.adam };
            adam.step(step, lr, &mut parameter.values, grad, factor, &mut parameter.moments);
        }
        self.step = step;
        if let Some(removing) = &mut self.removing {
            removing.advance(step, &gradients.observed, &mut self.config)?;
        }
        let tokens = examples.iter().map(Examples::tokens).sum();
        Ok(StepReport { step, loss: gradients.loss, auxiliary, live_loss, lr, grad_norm, tokens })
    }

    /// The sequences of the next step, by forward pass.
    fn examples(&mut self) -> Vec<Examples<'t>> {
        let (batch, passes) = (self.training.batch as u64, self.training.accumulate as u64);
        let first = self.step * batch * passes;
        let pass = |number| {
            let from = first + number * batch;
            Examples::new(self.tokens, (from..from + batch).map(|place| self.order.at(place)).collect())
        };
        (0..passes).map(pass).collect()
    }

    fn gradients(&self, passes: &[Pass<'_>]) -> Result<Gradients> {
        let leaves = self.leaves()?;
        let model = Model::new(self.config.clone(), leaves.iter().cloned())?;
        let mut sum = Gradients { loss: 0.0, values: Vec::new(), observed: Observed::default() };
        for pass in passes {
            let (loss, values) = self.pass(&model, &leaves, pass, &mut sum.observed)?;
            sum.loss += loss;
            if sum.values.is_empty() {
                sum.values = values;
            } else {
                for (total, values) in sum.values.iter_mut().flatten().zip(values.iter().flatten()) {
                    *total += values;
                }
            }
        }
        Ok(sum)
    }

    /// The loss of a step, dropout included, of the model with another config.
    fn loss_with(&self, config: LmConfig, passes: &[Pass<'_>]) -> Result<f64> {
        let model = self.model_of(config)?;
        let losses = passes.iter().map(|pass| {
            let loss = self.loss(&model, pass, Vec::new(), &mut |_, _| Ok(()))?;
            Ok(f64::from(loss.into_scalar()))
        });
        losses.sum()
    }

    /// The part of a forward pass in the loss of the step. `look` gets the activations at `looked_at`.
    fn loss<'l, C: Compute>(
        &'l self,
        model: &Model<C>,
        pass: &Pass<'_>,
        looked_at: Vec<HookPoint>,
        look: &'l mut Reader<'l, C>,
    ) -> Result<Tensor<C, 1>> {
        let Training { dropout, seed, .. } = self.training;
        let dropout = Dropout { p: dropout, seed, step: self.step, pass: pass.number };
        let points = if dropout.p > 0.0 { Dropout::points(&self.config) } else { Vec::new() };
        let hooks = points.into_iter().fold(Hooks::none(), |hooks, point| hooks.edit(point, &dropout));
        let device = model.device();
        let batch = pass.examples.batch(&self.config, &device)?;
        let hidden = model.hidden(&batch, hooks.read(looked_at, look))?;
        let (targets, weights) = pass.examples.targets(pass.weight, &device);
        Ok(match self.config.logit_softcap {
            None => ops::unembed_loss(hidden, model.unembedding(), targets, weights),
            Some(_) => (ops::token_nll(model.logits(hidden), targets) * weights).sum(),
        })
    }

    /// Parameters as leaves of the graph.
    fn leaves(&self) -> Result<Vec<(Slot, Parameter<Autodiff<B>>)>> {
        let leaf = |p: &Trained| {
            let parameter = Parameter::new(p.values.clone(), &p.shape, &self.device)?;
            Ok((
                p.slot,
                match parameter {
                    Parameter::Vector(tensor) => Parameter::Vector(tensor.require_grad()),
                    Parameter::Matrix(tensor) => Parameter::Matrix(tensor.require_grad()),
                },
            ))
        };
        self.parameters.iter().map(leaf).collect()
    }

    /// One forward and backward pass: its part of the loss and of each gradient.
    fn pass(
        &self,
        model: &Model<Autodiff<B>>,
        leaves: &[(Slot, Parameter<Autodiff<B>>)],
        pass: &Pass<'_>,
        observed: &mut Observed,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let mut auxiliary = None;
        let mut look = |point: HookPoint, x: Tensor<Autodiff<B>, 3>| {
            let Some(removing) = &self.removing else { return Ok(()) };
            let [rows, _, width] = x.dims();
            let x = x.reshape([rows, width]);
            auxiliary =
                removing.observe(&self.config, point, x, pass.examples, pass.rows, observed)?.or(auxiliary.take());
            Ok(())
        };
        let looked_at = self.removing.iter().flat_map(|removing| removing.points(&self.config));
        let loss = self.loss(model, pass, looked_at.collect(), &mut look)?;
        let value = f64::from(loss.clone().into_scalar());
        let grads = match auxiliary {
            Some(auxiliary) => (loss + auxiliary).backward(),
            None => loss.backward(),
        };
        let gradient = |(_, parameter): &(Slot, Parameter<Autodiff<B>>)| {
            let data: Option<TensorData> = match parameter {
                Parameter::Vector(tensor) => tensor.grad(&grads).map(|grad| grad.into_data()),
                Parameter::Matrix(tensor) => tensor.grad(&grads).map(|grad| grad.into_data()),
            };
            let values = data.and_then(|data| data.into_vec().ok());
            // A parameter that nothing depended on.
            values.unwrap_or_else(|| vec![0.0; parameter.shape().iter().product()])
        };
        Ok((value, leaves.iter().map(gradient).collect()))
    }
}

/// The forward passes of a step.
fn passes<'e>(examples: &'e [Examples<'e>]) -> Vec<Pass<'e>> {
    let predicted: u64 = examples.iter().map(Examples::predicted).sum();
    // A step whose tokens are all masked has the loss 0 and no gradient.
    let weight = 1.0 / predicted.max(1) as f32;
    let rows = examples.iter().map(Examples::tokens).sum();
    examples.iter().enumerate().map(|(number, examples)| Pass { examples, number, weight, rows }).collect()
}

/// Mean cross-entropy in nats over all predicted tokens (not the first of a sequence, not masked); NaN if there are none.
///
/// # Errors
/// [`Error::Tokens`] for sequences that the model cannot take.
pub fn held_out_loss<C: Compute>(model: &Model<C>, tokens: &Tokens) -> Result<f64> {
    let (mut sum, mut predicted) = (0.0, 0u64);
    for range in batches(tokens, model.config(), 0) {
        let sequences: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &sequences, &model.device())?;
        let masks = range.flat_map(|i| &tokens.mask_of(i)[1..]);
        for (loss, _) in model.losses(&batch, Hooks::none())?.iter().zip(masks).filter(|(_, counts)| **counts) {
            sum += f64::from(*loss);
            predicted += 1;
        }
    }
    Ok(sum / predicted as f64)
}
