use mediant_lm::{Batch, Differentiable, Edit, HookPoint, Hooks, Model, Place, Positions, Select};
use mediant_tensor::optim::{Adam, Moments};
use mediant_tensor::random::{permutation, stream};
use mediant_tensor::{Autodiff, Compute, Tensor, TensorData};

use super::prepared::{Prepared, Training, check_reached, prepared};
use crate::subspace::{Site, orthonormal, random_basis};
use crate::sweep::share;
use crate::{Error, Pairs, Result};

/// A subspace that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Das {
    /// The positions at the hook point.
    pub positions: Positions,
    /// Number of its vectors.
    pub rank: usize,
}

/// A subspace that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Its orthonormal basis.
    pub vectors: Vec<Vec<f32>>,
    /// Mean loss of every epoch, each step before its update.
    pub losses: Vec<f64>,
}

/// Trains a subspace R for each of `wanted` at a hook point so that prompts with h_b + (h_s − h_b) RᵀR in place of their activation h_b (h_s that of
/// the counterfactual) answer as their counterfactuals. The rows of R stay orthonormal: the gradient is projected on the tangent space of
/// subspaces, G − G RᵀR, Adam's step is taken, and the QR decomposition with a positive diagonal brings R back (retraction; Absil
/// et al. 2008). Also gives the passes over a prompt that all this took, one backward pass counted as one.
///
/// `progress` hears how many steps of how many are done.
///
/// # Errors
/// [`Error::Data`] for a rank above the width of the hook point, without counterfactuals, and when a loss is no number; whatever the passes and
/// `progress` give.
pub fn train_das<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    point: HookPoint,
    wanted: &[Das],
    training: &Training,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(Vec<Trained>, f64), E> {
    let layers = model.config().n_layers;
    let prompts = pairs.prompts().len();
    let total = wanted.len() * training.steps(prompts);
    let batches = prepared(model, pairs, point, training, || progress(0, total))?;
    let width: usize = point.shape(model.config(), 1).iter().product();
    let differentiable = Differentiable::new(model).map_err(Error::from)?;
    for Das { positions, .. } in wanted {
        check_reached(&batches, &Site { point, positions: positions.clone() })?;
    }
    let mut done = 0;
    let mut all = Vec::new();
    for Das { positions, rank } in wanted {
        let site = Site { point, positions: positions.clone() };
        let mut rotation = Rotation::new(&site, *rank, width, training.seed)?;
        let mut order = stream(training.seed, &format!("order {site} {rank}"));
        let mut losses = Vec::new();
        for _ in 0..training.epochs {
            let mut sum = 0.0;
            for index in permutation(&mut order, batches.len()) {
                let batch = &batches[index];
                sum +=
                    rotation.step(&differentiable, &site, batch, training.lr)? * batch.batch.sequences().len() as f64;
                done += 1;
                progress(done, total)?;
            }
            losses.push(sum / prompts as f64);
        }
        all.push(Trained { vectors: rotation.vectors(), losses });
    }
    // Both versions up to the hook point; a step goes forward and back behind it.
    let behind = share(Place::before(point, layers), layers);
    let passes = 2.0 * (1.0 - behind) + (wanted.len() * training.epochs) as f64 * 2.0 * behind;
    Ok((all, passes))
}

/// Orthonormal rows under training.
struct Rotation {
    rank: usize,
    width: usize,
    /// `[rank, width]`.
    rows: Vec<f32>,
    moments: Moments,
    steps: u64,
}

impl Rotation {
    /// Rows in random directions.
    fn new(site: &Site, rank: usize, width: usize, seed: u64) -> Result<Self> {
        if rank == 0 || rank > width {
            return Err(Error::Data(format!("{site} has {width} numbers, and no subspace of rank {rank}")));
        }
        let basis = random_basis(width, rank, seed, &format!("init {site} {rank}"));
        let rows = (0..rank).flat_map(|index| basis.vector(index).to_vec()).collect();
        Ok(Self { rank, width, rows, moments: Moments::zeros(rank * width), steps: 0 })
    }

    fn vectors(&self) -> Vec<Vec<f32>> {
        self.rows.chunks(self.width).map(<[f32]>::to_vec).collect()
    }

    /// The loss before the update.
    fn step<C: Compute>(
        &mut self,
        differentiable: &Differentiable<'_, C>,
        site: &Site,
        prepared: &Prepared<C>,
        lr: f64,
    ) -> Result<f64> {
        let device = prepared.source.device();
        let shape = [self.rank, self.width];
        let rows = Tensor::<Autodiff<C>, 2>::from_data(TensorData::new(self.rows.clone(), shape), &device);
        let rows = rows.require_grad();
        let edit = Exchange {
            rows: rows.clone(),
            source: prepared.source.clone(),
            select: Select::at(site.positions.clone()),
        };
        let hooks = Hooks::none().edit(site.point, &edit);
        let logits = differentiable.logits(&prepared.batch, prepared.state.clone(), hooks)?;
        let loss = prepared.loss.mean(logits, &prepared.judge);
        let value = numbers(loss.clone().inner())?.first().map_or(f64::NAN, |loss| f64::from(*loss));
        if !value.is_finite() {
            return Err(Error::Data(format!("the loss at {site} is {value}; is `lr` too large?")));
        }
        let gradients = loss.backward();
        // Where no prompt has a position of the site, nothing depends on the subspace.
        if let Some(gradient) = rows.grad(&gradients) {
            let own: Tensor<C, 2> = rows.inner();
            let along = gradient.clone().matmul(own.clone().transpose()).matmul(own);
            let gradient = numbers(gradient - along)?;
            self.steps += 1;
            Adam::default().step(self.steps, lr, &mut self.rows, &gradient, 1.0, &mut self.moments);
            self.retract()?;
        }
        Ok(value)
    }

    /// Makes the rows orthonormal again.
    fn retract(&mut self) -> Result<()> {
        let exact: Vec<Vec<f64>> =
            self.rows.chunks(self.width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        let found = orthonormal(&exact);
        if found.len() != self.rank {
            return Err(Error::Data(format!("{} directions fell into {} dimensions", self.rank, found.len())));
        }
        self.rows = found.into_iter().flatten().map(|x| x as f32).collect();
        Ok(())
    }
}

/// Puts what the counterfactual has along the rows in the place of what the prompt has.
struct Exchange<C: Compute> {
    /// `[rank, width]`.
    rows: Tensor<Autodiff<C>, 2>,
    /// The counterfactual's activation.
    source: Tensor<C, 3>,
    select: Select,
}

impl<C: Compute> Edit<Autodiff<C>> for Exchange<C> {
    fn apply(
        &self,
        point: HookPoint,
        activation: Tensor<Autodiff<C>, 3>,
        batch: &Batch<Autodiff<C>>,
    ) -> mediant_lm::Result<Tensor<Autodiff<C>, 3>> {
        let [rows, units, width] = activation.dims();
        let flat = [rows, units * width];
        let base = activation.clone().reshape(flat);
        let source = Tensor::from_inner(self.source.clone()).reshape(flat);
        let along = (source - base.clone()).matmul(self.rows.clone().transpose());
        let changed = (base + along.matmul(self.rows.clone())).reshape([rows, units, width]);
        self.select.replace(point, activation, changed, batch)
    }
}

pub(super) fn numbers<C: Compute, const D: usize>(x: Tensor<C, D>) -> Result<Vec<f32>> {
    x.into_data().into_vec().map_err(|error| Error::Data(format!("a gradient cannot be read: {error:?}")))
}
