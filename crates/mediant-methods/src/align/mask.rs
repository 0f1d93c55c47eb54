use mediant_dict::Sae;
use mediant_lm::{Batch, Differentiable, Edit, HookPoint, Hooks, Model, Place, Select};
use mediant_tensor::burn::tensor::activation::sigmoid;
use mediant_tensor::optim::{Adam, Moments};
use mediant_tensor::random::{permutation, stream};
use mediant_tensor::{Autodiff, Compute, Tensor, TensorData};

use super::das::numbers;
use super::prepared::{Prepared, Training, activation, check_reached, prepared};
use crate::interchange::Featuriser;
use crate::subspace::Site;
use crate::sweep::share;
use crate::{Error, Pairs, Result};

/// How a mask is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// The temperature of the first and of the last step; in between it falls by the same amount a step.
    pub temperatures: (f64, f64),
    /// What the sum of the mask counts for beside the loss.
    pub l1: f64,
}

/// A mask that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked {
    /// m of each feature; those above 0 are chosen.
    pub logits: Vec<f32>,
    /// Mean loss of every epoch without the penalty, each step before its update.
    pub losses: Vec<f64>,
}

impl Masked {
    /// σ(m) of each feature: above 0.5 it is chosen.
    pub fn shares(&self) -> Vec<f64> {
        self.logits.iter().map(|m| 1.0 / (1.0 + (-f64::from(*m)).exp())).collect()
    }
}

/// Trains for each site a mask σ(m/T) over the features of its featuriser so that prompts with so much of each feature of their counterfactuals
/// answer as these: h_b + ((h_s − h_b) F ⊙ σ(m/T)) F⁻¹. The loss has l1 Σ σ(m/T) added. m starts at 0, and T falls. All sites are
/// at one hook point. Also gives the passes over a prompt that all this took, one backward pass counted as one.
///
/// `progress` hears how many steps of how many are done.
///
/// # Errors
/// As [`train_das`](super::train_das), and for a featuriser of another width.
pub fn train_mask<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    sites: &[(Site, &Featuriser)],
    mask: Mask,
    training: &Training,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(Vec<Masked>, f64), E> {
    let Some(point) = sites.first().map(|(site, _)| site.point) else { return Ok((Vec::new(), 0.0)) };
    if sites.iter().any(|(site, _)| site.point != point) {
        return Err(Error::Data("masks at several hook points".to_owned()).into());
    }
    let layers = model.config().n_layers;
    let prompts = pairs.prompts().len();
    let of_site = training.steps(prompts);
    let total = sites.len() * of_site;
    let batches = prepared(model, pairs, point, training, || progress(0, total))?;
    let width: usize = point.shape(model.config(), 1).iter().product();
    let differentiable = Differentiable::new(model).map_err(Error::from)?;
    for (site, _) in sites {
        check_reached(&batches, site)?;
    }
    let mut done = 0;
    let mut all = Vec::new();
    for (site, featuriser) in sites {
        let features = featuriser.features(width)?;
        let apart: Vec<Apart<C>> =
            batches.iter().map(|batch| Apart::new(model, site, featuriser, batch)).collect::<Result<_>>()?;
        let mut state = State { logits: vec![0.0; features], moments: Moments::zeros(features), steps: 0 };
        let mut order = stream(training.seed, &format!("order {site}"));
        let mut losses = Vec::new();
        for _ in 0..training.epochs {
            let mut sum = 0.0;
            for index in permutation(&mut order, batches.len()) {
                let (first, last) = mask.temperatures;
                let way = state.steps as f64 / (of_site.max(2) - 1) as f64;
                let annealed = (first + (last - first) * way, mask.l1);
                let loss = state.step(&differentiable, site, &batches[index], &apart[index], annealed, training.lr)?;
                sum += loss * batches[index].batch.sequences().len() as f64;
                done += 1;
                progress(done, total)?;
            }
            losses.push(sum / prompts as f64);
        }
        all.push(Masked { logits: state.logits, losses });
    }
    let behind = share(Place::before(point, layers), layers);
    let passes = 2.0 * (1.0 - behind) + (sites.len() * training.epochs) as f64 * 2.0 * behind;
    Ok((all, passes))
}

/// What the features of a batch differ by between base and source, and what a feature adds to the activation.
enum Apart<C: Compute> {
    /// The numbers themselves: h_s − h_b is taken where h_b is known.
    Dimensions,
    /// The vectors `[rank, width]`.
    Directions(Tensor<C, 2>),
    /// Differences of codes `[rows, some latents]`, times what brings each row's reconstruction back from its normalisation; the
    /// decoder's rows of these latents `[some latents, width]`; which they are.
    Latents { differences: Tensor<C, 2>, decoder: Tensor<C, 2>, latents: Vec<i32> },
}

impl<C: Compute> Apart<C> {
    fn new(model: &Model<C>, site: &Site, featuriser: &Featuriser, batch: &Prepared<C>) -> Result<Self> {
        let device = model.device();
        match featuriser {
            Featuriser::Dimensions => Ok(Self::Dimensions),
            Featuriser::Directions(basis) => Ok(Self::Directions(basis.tensor(&device))),
            Featuriser::Latents(sae) => {
                let base = numbers(activation(model, &batch.batch, site.point)?)?;
                Self::latents(sae, &site.positions.rows(&batch.batch)?, &base, &numbers(batch.source.clone())?, &device)
            }
        }
    }

    /// Only latents that some chosen row has in base or source can change anything.
    fn latents(sae: &Sae, chosen: &[bool], base: &[f32], source: &[f32], device: &C::Device) -> Result<Self> {
        let d_in = sae.weights().d_in;
        let rows: Vec<usize> = (0..chosen.len()).filter(|&row| chosen[row]).collect();
        let at_rows =
            |x: &[f32]| -> Vec<f32> { rows.iter().flat_map(|row| &x[row * d_in..(row + 1) * d_in]).copied().collect() };
        let base = at_rows(base);
        let codes = [sae.encode(&base), sae.encode(&at_rows(source))];
        let mut place = vec![None; sae.weights().d_sae];
        let mut latents = Vec::new();
        let mut entries = Vec::new();
        for (sign, codes) in [-1.0f32, 1.0].into_iter().zip(&codes) {
            for (row, at) in rows.iter().enumerate() {
                let (found, values) = codes.row(row);
                for (&latent, &value) in found.iter().zip(values) {
                    let column = *place[latent as usize].get_or_insert_with(|| {
                        latents.push(latent as i32);
                        latents.len() - 1
                    });
                    entries.push((*at, row, column, sign * value));
                }
            }
        }
        let (effects, factors) = sae.effects(&latents.iter().map(|&latent| latent as usize).collect::<Vec<_>>(), &base);
        // One latent at least, so that there is something to multiply.
        let count = latents.len().max(1);
        let mut differences = vec![0f32; chosen.len() * count];
        entries
            .into_iter()
            .for_each(|(at, row, column, value)| differences[at * count + column] += value * factors[row]);
        let mut decoder = effects;
        decoder.resize(count * d_in, 0.0);
        if latents.is_empty() {
            latents.push(0);
        }
        Ok(Self::Latents {
            differences: Tensor::from_data(TensorData::new(differences, [chosen.len(), count]), device),
            decoder: Tensor::from_data(TensorData::new(decoder, [count, d_in]), device),
            latents,
        })
    }
}

/// A mask under training.
struct State {
    logits: Vec<f32>,
    moments: Moments,
    steps: u64,
}

impl State {
    /// The loss without the penalty, before the update.
    fn step<C: Compute>(
        &mut self,
        differentiable: &Differentiable<'_, C>,
        site: &Site,
        prepared: &Prepared<C>,
        apart: &Apart<C>,
        (temperature, l1): (f64, f64),
        lr: f64,
    ) -> Result<f64> {
        let device = prepared.source.device();
        let count = self.logits.len();
        let logits = Tensor::<Autodiff<C>, 1>::from_data(TensorData::new(self.logits.clone(), [count]), &device);
        let logits = logits.require_grad();
        let mask = sigmoid(logits.clone() / temperature as f32);
        let edit = Mix {
            mask: mask.clone(),
            apart,
            source: prepared.source.clone(),
            select: Select::at(site.positions.clone()),
        };
        let hooks = Hooks::none().edit(site.point, &edit);
        let answers = differentiable.logits(&prepared.batch, prepared.state.clone(), hooks)?;
        let loss = prepared.loss.mean(answers, &prepared.judge);
        let value = numbers(loss.clone().inner())?.first().map_or(f64::NAN, |loss| f64::from(*loss));
        if !value.is_finite() {
            return Err(Error::Data(format!("the loss at {site} is {value}; is `lr` too large?")));
        }
        let gradients = (loss + mask.sum() * l1 as f32).backward();
        let gradient = match logits.grad(&gradients) {
            Some(gradient) => numbers::<C, 1>(gradient)?,
            None => vec![0.0; count],
        };
        self.steps += 1;
        Adam::default().step(self.steps, lr, &mut self.logits, &gradient, 1.0, &mut self.moments);
        Ok(value)
    }
}

/// Mixes features of the counterfactual in.
struct Mix<'a, C: Compute> {
    /// `[features]`.
    mask: Tensor<Autodiff<C>, 1>,
    apart: &'a Apart<C>,
    source: Tensor<C, 3>,
    select: Select,
}

impl<C: Compute> Edit<Autodiff<C>> for Mix<'_, C> {
    fn apply(
        &self,
        point: HookPoint,
        activation: Tensor<Autodiff<C>, 3>,
        batch: &Batch<Autodiff<C>>,
    ) -> mediant_lm::Result<Tensor<Autodiff<C>, 3>> {
        let [rows, units, width] = activation.dims();
        let base = activation.clone().reshape([rows, units * width]);
        let difference = || Tensor::from_inner(self.source.clone()).reshape([rows, units * width]) - base.clone();
        let mask = self.mask.clone().unsqueeze::<2>();
        let added = match self.apart {
            Apart::Dimensions => difference() * mask,
            Apart::Directions(basis) => {
                let basis = Tensor::from_inner(basis.clone());
                (difference().matmul(basis.clone().transpose()) * mask).matmul(basis)
            }
            Apart::Latents { differences, decoder, latents } => {
                let count = latents.len();
                let index = Tensor::from_data(TensorData::new(latents.clone(), [count]), &activation.device());
                let mask = self.mask.clone().select(0, index).unsqueeze::<2>();
                (Tensor::from_inner(differences.clone()) * mask).matmul(Tensor::from_inner(decoder.clone()))
            }
        };
        let changed = (base + added).reshape([rows, units, width]);
        self.select.replace(point, activation, changed, batch)
    }
}
