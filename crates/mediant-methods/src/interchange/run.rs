use mediant_lm::{HookPoint, Hooks, Model, Place, Replace, Rows, Select, State, Values};
use mediant_tensor::{Compute, Tensor};

use super::featuriser::{Apart, Features, Featuriser};
use super::judge::{Judge, Side};
use crate::pairs::Pair;
use crate::subspace::Site;
use crate::sweep::{Activations, Truth, advance, run, share};
use crate::{Error, Metric, Pairs, Result};

/// Features of a site, and which of them are taken from the counterfactual, one choice after the other.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// Where.
    pub site: Site,
    /// What activations are taken apart into.
    pub featuriser: &'a Featuriser,
    /// The choices.
    pub sets: Vec<Features>,
}

/// A prompt after an interchange. Clean, counterfactual and patched value are the metric by the prompt's own answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchanged {
    /// The metric of the prompt.
    pub clean: f64,
    /// That of its counterfactual.
    pub counterfactual: f64,
    /// That of the prompt with features of its counterfactual.
    pub patched: f64,
    /// What is expected.
    pub side: Side,
    /// The mean logit of expected tokens less that of the others, after the interchange; NaN where there are no others.
    pub margin: f64,
    /// Whether the answer is as [`Judge`] expects it: what interchange-intervention accuracy counts.
    pub right: bool,
    /// Whether it was so before the interchange.
    pub right_before: bool,
    /// Whether the largest logit is that of an expected token: the same by exact match.
    pub top: bool,
    /// Whether the prompt has a position of the site, so that anything was exchanged at all.
    pub reached: bool,
}

/// Some prompts after an interchange.
pub struct Outcome<'a> {
    /// The place of the exchange in the list.
    pub exchange: usize,
    /// The place of the choice in the exchange.
    pub set: usize,
    /// Number of the first prompt.
    pub first: u32,
    /// These prompts.
    pub prompts: &'a [Exchanged],
    /// The share of a pass that this cost; the two versions as they are cost a pass each besides.
    pub passes: f64,
}

/// Makes every choice of every exchange on every prompt. Of each batch the counterfactual runs once and the prompt once for all of them; a
/// choice costs what lies behind its hook point, and nothing if it changes no bit. `each` hears of the prompts of a batch choice by
/// choice, and `progress` how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] without counterfactuals, for activations of another width than the featuriser's and features that it has
/// not; whatever the passes, `each` and `progress` give.
pub fn interchange<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    exchanges: &[Exchange<'_>],
    metric: Metric,
    mut each: impl FnMut(&Outcome<'_>) -> Result<(), E>,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut order: Vec<usize> = (0..exchanges.len()).collect();
    order.sort_by_key(|&index| exchanges[index].site.point);
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let judge = Judge::of(pairs, &pairs.prompts()[range.clone()])?;
        let weights = judge.weights::<C>(model.config().vocab_size, &model.device());
        let points = exchanges.iter().map(|exchange| exchange.site.point);
        let source = run(model, pair.corrupted()?, points, metric, &pair.answers)?;
        let judged = Judged { metric, pair: &pair, judge: &judge, weights: &weights };
        let (clean, patched) = exchanged(model, exchanges, &order, &judged, &source.activations)?;
        for Patched { exchange, set, answers, passes } in patched {
            let answers = answers.as_ref().unwrap_or(&clean);
            let reached = |index: usize| pairs.reaches(range.start + index, &exchanges[exchange].site.positions);
            let of = |(index, answer): (usize, &Answer)| Exchanged {
                clean: clean[index].value,
                counterfactual: source.values[index],
                patched: answer.value,
                side: judge.sides()[index],
                margin: answer.margin,
                right: answer.right,
                right_before: clean[index].right,
                top: answer.top,
                reached: reached(index),
            };
            let prompts: Vec<Exchanged> = answers.iter().enumerate().map(of).collect();
            each(&Outcome { exchange, set, first: pair.first, prompts: &prompts, passes })?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// How the answers of a batch are judged.
struct Judged<'a, C: Compute> {
    metric: Metric,
    pair: &'a Pair<C>,
    judge: &'a Judge,
    weights: &'a Tensor<C, 2>,
}

/// A prompt's answer.
struct Answer {
    value: f64,
    margin: f64,
    right: bool,
    top: bool,
}

impl<C: Compute> Judged<'_, C> {
    fn answers(&self, logits: Tensor<C, 2>) -> Result<Vec<Answer>> {
        let values = self.metric.values(logits.clone(), &self.pair.answers)?;
        let judged = self.judge.judged(self.weights, logits)?;
        let answer = |(value, (margin, right, top))| Answer { value, margin, right, top };
        Ok(values.into_iter().zip(judged).map(answer).collect())
    }
}

/// A choice that was made.
struct Patched {
    exchange: usize,
    set: usize,
    /// None where the choice changed no bit, so that they are the clean ones.
    answers: Option<Vec<Answer>>,
    passes: f64,
}

/// The clean answers, and those of every choice: the pass goes on once from place to place.
fn exchanged<C: Compute>(
    model: &Model<C>,
    exchanges: &[Exchange<'_>],
    order: &[usize],
    judged: &Judged<'_, C>,
    source: &Activations<C>,
) -> Result<(Vec<Answer>, Vec<Patched>)> {
    let (layers, batch) = (model.config().n_layers, &judged.pair.clean);
    let point_of = |index: usize| exchanges[index].site.point;
    let place_of = |index: usize| Place::before(point_of(index), layers);
    let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| place_of(a) == place_of(b)).collect();
    let mut state: State<C> = State::Start;
    let (mut patched, mut clean) = (Vec::new(), None);
    for (at, group) in groups.iter().enumerate() {
        let begin = advance(model, batch, state, point_of(group[0]))?;
        let mut own = Activations::new();
        let mut take = |point, x| {
            own.insert(point, x);
            Ok(())
        };
        let hooks = Hooks::none().read(group.iter().map(|&index| point_of(index)), &mut take);
        state = begin.clone();
        match groups.get(at + 1) {
            Some(next) => state = model.advance(batch, begin.clone(), place_of(next[0]), hooks)?,
            None => clean = Some(judged.answers(model.logits_from(batch, begin.clone(), Rows::Last, hooks)?)?),
        }
        for &index in *group {
            let Exchange { site, featuriser, sets } = &exchanges[index];
            let (base, from) = (at_point(&own, site.point)?, at_point(source, site.point)?);
            let apart = Apart::new(site, featuriser, batch, base.clone(), from)?;
            for (set, features) in sets.iter().enumerate() {
                let with = apart.with(features)?;
                if !with.clone().not_equal(base.clone()).any().into_scalar().holds() {
                    patched.push(Patched { exchange: index, set, answers: None, passes: 0.0 });
                    continue;
                }
                let edit = Replace { with: Values::Rows(with), select: Select::default() };
                let hooks = Hooks::none().edit(site.point, &edit);
                let logits = model.logits_from(batch, begin.clone(), Rows::Last, hooks)?;
                let (answers, passes) = (Some(judged.answers(logits)?), share(place_of(index), layers));
                patched.push(Patched { exchange: index, set, answers, passes });
            }
        }
    }
    let clean = match clean {
        Some(clean) => clean,
        None => judged.answers(model.logits_from(batch, state, Rows::Last, Hooks::none())?)?,
    };
    Ok((clean, patched))
}

fn at_point<C: Compute>(activations: &Activations<C>, point: HookPoint) -> Result<Tensor<C, 3>> {
    activations.get(&point).cloned().ok_or_else(|| Error::Data(format!("no pass came to `{point}`")))
}
