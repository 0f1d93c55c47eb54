use mediant_lm::{Batch, HookPoint, Hooks, Model, State};
use mediant_tensor::random::{permutation, stream};
use mediant_tensor::{Compute, Tensor};

use super::loss::Loss;
use crate::interchange::Judge;
use crate::pairs::others;
use crate::subspace::Site;
use crate::sweep::up_to;
use crate::{Error, Pairs, Result};

/// How something is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// How often every prompt is seen.
    pub epochs: usize,
    /// Prompts of a step.
    pub batch: usize,
    /// Learning rate of Adam.
    pub lr: f64,
    /// What is made small.
    pub loss: Loss,
    /// The control: of each prompt is expected what is expected of another, drawn by the seed.
    pub shuffle_labels: bool,
    /// Of the division into batches, their order, what training starts from, and what is shuffled.
    pub seed: u64,
}

impl Training {
    /// Steps over so many prompts.
    pub fn steps(&self, prompts: usize) -> usize {
        self.epochs * prompts.div_ceil(self.batch)
    }
}

/// The prompts of a step, with what lies before a hook point.
pub(super) struct Prepared<C: Compute> {
    pub(super) batch: Batch<C>,
    pub(super) state: State<C>,
    /// The activation of the counterfactuals, `[rows, units, width]`.
    pub(super) source: Tensor<C, 3>,
    pub(super) judge: Judge,
    pub(super) loss: Loss,
}

/// All prompts in batches. Which prompts make up one is drawn once, so that what lies before the hook point is computed once. `each` hears of every
/// batch.
pub(super) fn prepared<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    point: HookPoint,
    training: &Training,
    mut each: impl FnMut() -> Result<(), E>,
) -> Result<Vec<Prepared<C>>, E> {
    let count = pairs.prompts().len();
    let order = permutation(&mut stream(training.seed, "batches"), count);
    let pairs = pairs.rearranged(&order);
    // What is expected of the prompt at each place, of all prompts.
    let mut places: Vec<usize> = (0..count).collect();
    if training.shuffle_labels {
        places = others(count, training.seed, "labels").map_err(E::from)?;
    }
    let mut all = Vec::new();
    for start in (0..count).step_by(training.batch) {
        let range = start..count.min(start + training.batch);
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let prompts: Vec<_> = places[range].iter().map(|&place| pairs.prompts()[place].clone()).collect();
        let judge = Judge::of(&pairs, &prompts)?;
        let source = activation(model, pair.corrupted()?, point)?;
        let state = up_to(model, &pair.clean, point)?;
        all.push(Prepared { batch: pair.clean, state, source, judge, loss: training.loss });
        each()?;
    }
    Ok(all)
}

/// Whether there is anything to train at a site.
pub(super) fn check_reached<C: Compute>(batches: &[Prepared<C>], site: &Site) -> Result<()> {
    for prepared in batches {
        if site.positions.rows(&prepared.batch)?.contains(&true) {
            return Ok(());
        }
    }
    Err(Error::Data(format!("no prompt has a position of {site}")))
}

/// The activation at a hook point.
pub(super) fn activation<C: Compute>(model: &Model<C>, batch: &Batch<C>, point: HookPoint) -> Result<Tensor<C, 3>> {
    let mut read = None;
    let mut take = |_, x| {
        read = Some(x);
        Ok(())
    };
    model.read(batch, Hooks::none().read([point], &mut take))?;
    read.ok_or_else(|| Error::Data(format!("no pass came to `{point}`")))
}
