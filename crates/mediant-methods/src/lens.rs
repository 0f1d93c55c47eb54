//! The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what the model would answer if the residual stream
//! after a layer were the last.

use mediant_artifact::Mediator;
use mediant_lm::{Batch, HookPoint, Hooks, Model, Positions, Rows, Site, State};
use mediant_tensor::{Compute, Int, Tensor, TensorData};

use crate::{Answers, Error, Metric, Pairs, Recorder, Result};

/// Bytes of logits that exist at once.
const LOGITS_BYTES: usize = 64 << 20;

/// What the lens shows at a position after a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The prompt.
    pub example: u32,
    /// The layer.
    pub layer: u32,
    /// The position, counted from the start.
    pub position: u32,
    /// The metric.
    pub metric: f64,
    /// Probability of the right answers together.
    pub probability: f64,
    /// One more than the number of tokens that are more probable than the most probable right answer.
    pub rank: u32,
    /// The most probable tokens with their probabilities, falling; of equals the lowest id first.
    pub top: Vec<(u32, f64)>,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Lens {
    /// Where.
    pub positions: Positions,
    /// What is measured of each reading.
    pub metric: Metric,
    /// How many of the most probable tokens are kept.
    pub top: usize,
}

impl Lens {
    /// A mediator a layer, or a layer and position if more than the last position is looked at.
    pub fn mediators(&self, layers: usize, pairs: &Pairs) -> Vec<Mediator> {
        let hooks = (0..layers).map(|layer| (layer, HookPoint::Block(layer, Site::ResidPost).to_string()));
        let whole = hooks.map(|(layer, hook)| Mediator {
            name: hook.clone(),
            kind: "residual".to_owned(),
            hook: Some(hook),
            layer: Some(layer as u32),
            ..Mediator::default()
        });
        if self.positions == Positions::Last {
            return whole.collect();
        }
        let at = |whole: &Mediator, position: usize| Mediator {
            name: format!("{}@{position}", whole.name),
            position: Some(position as u32),
            ..whole.clone()
        };
        whole.flat_map(|whole| (0..pairs.longest()).map(move |position| at(&whole, position))).collect()
    }

    /// Looks through the lens at every prompt; `each` gets the readings layer by layer. The recorder, of [`Self::mediators`], gets the
    /// metric of the model's own answer as clean and that through the lens as patched. `progress` hears how many prompts of how
    /// many are done.
    ///
    /// # Errors
    /// Whatever the passes, the recorder and the functions give.
    pub fn look<C: Compute, E: From<Error>>(
        &self,
        model: &Model<C>,
        pairs: &Pairs,
        recorder: &mut Recorder,
        mut each: impl FnMut(Vec<Reading>) -> Result<(), E>,
        mut progress: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        for range in pairs.ranges() {
            let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
            let chosen = self.positions.rows(&pair.clean).map_err(Error::from)?;
            let places = pair.clean.sequences().iter().enumerate();
            let places = places.flat_map(|(index, s)| s.rows().map(move |row| (index, row, row - s.start)));
            let places: Vec<_> = places.filter(|(_, row, _)| chosen[*row]).collect();
            let rows: Vec<usize> = places.iter().map(|(_, row, _)| *row).collect();
            let versions: Vec<_> =
                places.iter().map(|(index, _, _)| &pairs.prompts()[range.start + index].clean).collect();
            let mut readings = Vec::new();
            let logits = lens_logits(model, &pair.clean, &rows, &mut |layer, first, logits| {
                let places = &places[first..first + logits.dims()[0]];
                let answers = Answers::of(versions[first..first + places.len()].iter().copied());
                let metrics = self.metric.values(logits.clone(), &answers)?;
                let logits = logits.into_data().into_vec::<f32>();
                let logits = logits.map_err(|error| Error::Data(format!("logits cannot be read: {error:?}")))?;
                let of_rows = logits.chunks_exact(model.config().vocab_size);
                for (((&(index, _, position), logits), metric), right) in
                    places.iter().zip(of_rows).zip(metrics).zip(answers.right())
                {
                    let (probability, rank, top) = summary(logits, right, self.top);
                    let example = (range.start + index) as u32;
                    let (layer, position) = (layer as u32, position as u32);
                    readings.push(Reading { example, layer, position, metric, probability, rank, top });
                }
                Ok(())
            })?;
            let clean = self.metric.values(logits, &pair.answers)?;
            for reading in &readings {
                let mediator = match self.positions {
                    Positions::Last => reading.layer as usize,
                    _ => reading.layer as usize * pairs.longest() + reading.position as usize,
                };
                let clean = clean[reading.example as usize - range.start];
                recorder.record(mediator, reading.example, &[clean], None, &[reading.metric])?;
            }
            recorder.count(range.len(), 1.0);
            each(readings)?;
            progress(range.end, pairs.prompts().len())?;
        }
        Ok(())
    }
}

/// Gets a layer, the place in the list of rows of the first of some logits, and these, `[some, vocabulary]`.
pub type LensReader<'r, C> = dyn FnMut(usize, usize, Tensor<C, 2>) -> Result<()> + 'r;

/// `unembed(ln_final(resid_post))` of every layer at some rows of a batch, a few at a time; and the model's own logits at the last
/// position of each sequence.
///
/// # Errors
/// As the pass, and whatever `each` gives.
pub fn lens_logits<C: Compute>(
    model: &Model<C>,
    batch: &Batch<C>,
    rows: &[usize],
    each: &mut LensReader<'_, C>,
) -> Result<Tensor<C, 2>> {
    let config = model.config();
    let step = (LOGITS_BYTES / 4 / config.vocab_size).max(64);
    let index: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let mut of_layers = Vec::with_capacity(config.n_layers);
    let mut take = |_, resid: Tensor<C, 3>| {
        let index: Tensor<C, 1, Int> = Tensor::from_data(TensorData::new(index.clone(), [rows.len()]), &resid.device());
        let resid = resid.select(0, index).reshape([rows.len(), config.d_model]);
        of_layers.push(model.last_norm(resid));
        Ok(())
    };
    // No rows, nothing to read.
    let layers = if rows.is_empty() { 0 } else { config.n_layers };
    let points = (0..layers).map(|layer| HookPoint::Block(layer, Site::ResidPost));
    let own = model.logits_from(batch, State::Start, Rows::Last, Hooks::none().read(points, &mut take))?;
    for (layer, hidden) in of_layers.into_iter().enumerate() {
        for first in (0..rows.len()).step_by(step) {
            each(layer, first, model.logits(hidden.clone().narrow(0, first, step.min(rows.len() - first))))?;
        }
    }
    Ok(own)
}

/// Probability of the right answers together, rank of the best of them, and the most probable tokens.
fn summary(logits: &[f32], right: &[i32], top: usize) -> (f64, u32, Vec<(u32, f64)>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let probability = |id: u32| f64::from(logits[id as usize] - largest).exp() / total;
    let best = right.iter().map(|&id| logits[id as usize]).fold(f32::NEG_INFINITY, f32::max);
    let rank = 1 + logits.iter().filter(|&&logit| logit > best).count() as u32;
    let falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    if top < order.len() {
        order.select_nth_unstable_by(top, falling);
        order.truncate(top);
    }
    order.sort_unstable_by(falling);
    let right = right.iter().map(|&id| probability(id as u32)).sum();
    (right, rank, order.into_iter().map(|id| (id, probability(id))).collect())
}
