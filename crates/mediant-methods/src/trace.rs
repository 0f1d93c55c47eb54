//! Causal tracing (Meng et al. 2022, arXiv:2202.05262): the subject's embeddings get noise, and the activations of the clean run are put back,
//! a token and a layer, or a window of layers, at a time.

use mediant_artifact::{Mediator, Prompt};
use mediant_lm::{
    Batch, Edit, HookPoint, Hooks, Model, Noise, Place, Positions, Replace, Rows, Select, Site, State, Values,
};
use mediant_tensor::Compute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sweep::{Activations, run, share};
use crate::{Error, Metric, Pairs, Recorder, Result};

/// What is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restored {
    /// The residual stream after one layer.
    Residual,
    /// What attention adds, in a window of layers.
    Attention,
    /// What the MLP adds, in a window of layers.
    Mlp,
}

impl Restored {
    fn site(self) -> Site {
        match self {
            Self::Residual => Site::ResidPost,
            Self::Attention => Site::AttnOut,
            Self::Mlp => Site::MlpOut,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Residual => "residual",
            Self::Attention => "attn_out",
            Self::Mlp => "mlp_out",
        }
    }
}

/// The groups of tokens that effects are given by, in their order.
pub const TOKEN_GROUPS: [&str; 6] =
    ["first_subject", "middle_subject", "last_subject", "first_subsequent", "further", "last"];

/// How a trace is done.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Name of the span that gets noise.
    pub subject: String,
    /// Standard deviation of the noise.
    pub std: f32,
    /// How many draws of noise are averaged over.
    pub samples: u64,
    /// What is put back.
    pub restore: Vec<Restored>,
    /// Layers of a window; 1 for one layer.
    pub window: usize,
    /// Of the noise.
    pub seed: u64,
    /// What is measured.
    pub metric: Metric,
}

/// The positions of a prompt by group of tokens. A subject of one token is its last.
fn groups(prompt: &Prompt, subject: &str) -> Result<[Vec<u32>; 6]> {
    let no_span = || Error::Data(format!("a prompt has no span `{subject}`"));
    let &(start, end) = prompt.clean.spans.get(subject).ok_or_else(no_span)?;
    let last = prompt.clean.ids.len() as u32 - 1;
    let mut groups: [Vec<u32>; 6] = Default::default();
    for position in start..=last {
        let group = match position {
            _ if position + 1 == end => 2,
            _ if position == start => 0,
            _ if position < end => 1,
            _ if position == last => 5,
            _ if position == end => 3,
            _ => 4,
        };
        groups[group].push(position);
    }
    Ok(groups)
}

/// The layers of the window around a layer, as the code of ROME and that of Geva et al. have it: `window / 2` before, the rest
/// from the layer on.
pub(crate) fn window_of(layer: usize, window: usize, layers: usize) -> std::ops::Range<usize> {
    if window == 1 {
        return layer..layer + 1;
    }
    layer.saturating_sub(window / 2)..(layer + window.div_ceil(2)).min(layers)
}

/// The mediators of [`trace`]: by what is restored, layer, and group of tokens.
pub fn traced(restore: &[Restored], layers: usize) -> Vec<Mediator> {
    let all = restore
        .iter()
        .flat_map(|what| (0..layers).flat_map(move |layer| TOKEN_GROUPS.map(|group| (what, layer, group))));
    all.map(|(what, layer, group)| {
        let hook = HookPoint::Block(layer, what.site()).to_string();
        Mediator {
            name: format!("{hook}@{group}"),
            kind: what.kind().to_owned(),
            hook: Some(hook),
            layer: Some(layer as u32),
            span: Some(group.to_owned()),
            ..Mediator::default()
        }
    })
    .collect()
}

/// Standard deviation of the embeddings of the subjects' tokens, which the noise is three times of in the paper.
///
/// # Errors
/// [`Error::Data`] for a prompt without that span, and whatever the passes give.
pub fn subject_std<C: Compute>(model: &Model<C>, pairs: &Pairs, subject: &str) -> Result<f64> {
    let (mut n, mut sum, mut squares) = (0u64, 0.0, 0.0);
    for range in pairs.ranges() {
        let batch = pairs.batch::<C>(range, model.config(), &model.device())?.clean;
        let chosen = Positions::Span(subject.to_owned()).rows(&batch)?;
        let mut add = |point, x: mediant_tensor::Tensor<C, 3>| {
            let width = x.dims()[1] * x.dims()[2];
            let values = x.into_data().into_vec::<f32>();
            let values =
                values.map_err(|error| mediant_lm::Error::Hook(format!("`{point}` cannot be read: {error:?}")))?;
            for (row, _) in values.chunks_exact(width).zip(&chosen).filter(|(_, chosen)| **chosen) {
                for &x in row {
                    n += 1;
                    sum += f64::from(x);
                    squares += f64::from(x) * f64::from(x);
                }
            }
            Ok(())
        };
        model.read(&batch, Hooks::none().read([HookPoint::Embed], &mut add))?;
    }
    let mean = sum / n as f64;
    Ok((squares / n as f64 - mean * mean).max(0.0).sqrt())
}

/// Traces every prompt: clean value, value with noise (the counterfactual), and value after each restoration, over the draws
/// of noise; where a group has several tokens each is restored alone, and their mean is taken. Prompts without tokens in a
/// group have no effect for it. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] for a prompt without that span, and whatever the passes and the recorder give.
pub fn trace<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    tracing: &Tracing,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let layers = model.config().n_layers;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let prompts = &pairs.prompts()[range.clone()];
        let groups = prompts.iter().map(|prompt| groups(prompt, &tracing.subject)).collect::<Result<Vec<_>>>()?;
        let points = tracing.restore.iter();
        let points = points.flat_map(|what| (0..layers).map(|layer| HookPoint::Block(layer, what.site())));
        let clean = run(model, &pair.clean, points, tracing.metric, &pair.answers)?;
        recorder.count(range.len(), 1.0);
        let restorations = restorations(tracing, layers, &groups);
        let mut noisy = vec![0.0; prompts.len()];
        let mut restored = vec![vec![0.0; prompts.len()]; tracing.restore.len() * layers * TOKEN_GROUPS.len()];
        for sample in 0..tracing.samples {
            let noised = Noised::new(model, &pair.clean, tracing, sample)?;
            let base = noised.values(model, &pair.clean, tracing.metric, &pair.answers)?;
            noisy.iter_mut().zip(base).for_each(|(sum, value)| *sum += value / tracing.samples as f64);
            recorder.count(range.len(), 1.0);
            for Restoration { mediator, points, at, tokens } in &restorations {
                let batch = marked(&pair.clean, at);
                let values =
                    noised.restored(model, &batch, points, &clean.activations, tracing.metric, &pair.answers)?;
                recorder.count(range.len(), share(Place::before(points[0], layers), layers));
                for (index, value) in values.into_iter().enumerate().filter(|(index, _)| at[*index].is_some()) {
                    restored[*mediator][index] += value / (tracing.samples as f64 * tokens[index] as f64);
                }
            }
        }
        for (mediator, values) in restored.iter().enumerate() {
            let group = mediator % TOKEN_GROUPS.len();
            for (index, _) in groups.iter().enumerate().filter(|(_, groups)| !groups[group].is_empty()) {
                let (clean, noisy) = (&clean.values[index..=index], &noisy[index..=index]);
                recorder.record(mediator, pair.first + index as u32, clean, Some(noisy), &values[index..=index])?;
            }
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// What one pass puts back.
struct Restoration {
    /// Index among [`traced`].
    mediator: usize,
    points: Vec<HookPoint>,
    /// The token of each prompt, if its group has so many.
    at: Vec<Option<u32>>,
    /// Tokens of the group, in each prompt.
    tokens: Vec<usize>,
}

/// All passes of some prompts: for every mediator as many as its group has tokens in any of them.
fn restorations(tracing: &Tracing, layers: usize, groups: &[[Vec<u32>; 6]]) -> Vec<Restoration> {
    let mut restorations = Vec::new();
    let cells = tracing.restore.iter().flat_map(|what| (0..layers).map(move |layer| (what, layer)));
    for (cell, (what, layer)) in cells.enumerate() {
        let window = if *what == Restored::Residual { 1 } else { tracing.window };
        let points: Vec<_> =
            window_of(layer, window, layers).map(|layer| HookPoint::Block(layer, what.site())).collect();
        for group in 0..TOKEN_GROUPS.len() {
            let tokens: Vec<usize> = groups.iter().map(|groups| groups[group].len()).collect();
            restorations.extend((0..tokens.iter().copied().max().unwrap_or(0)).map(|nth| Restoration {
                mediator: cell * TOKEN_GROUPS.len() + group,
                points: points.clone(),
                at: groups.iter().map(|groups| groups[group].get(nth).copied()).collect(),
                tokens: tokens.clone(),
            }));
        }
    }
    restorations
}

/// Name of the span that marks the token which is restored.
const MARK: &str = "restored token";

/// The batch with one token of each prompt marked, or none.
fn marked<C: Compute>(batch: &Batch<C>, at: &[Option<u32>]) -> Batch<C> {
    let span = |(spans, at): (&mediant_lm::Spans, &Option<u32>)| {
        let mut spans = spans.clone();
        spans.insert(MARK.to_owned(), at.map_or((0, 0), |at| (at, at + 1)));
        spans
    };
    batch.clone().with_spans(batch.spans().iter().zip(at).map(span).collect())
}

/// A pass with noise, kept at every place that a restoration can begin at.
struct Noised<C: Compute> {
    /// By layer: before the block, at the heads, after attention.
    states: Vec<[State<C>; 3]>,
    end: State<C>,
}

impl<C: Compute> Noised<C> {
    fn new(model: &Model<C>, batch: &Batch<C>, tracing: &Tracing, sample: u64) -> Result<Self> {
        let noise = Noise {
            std: tracing.std,
            seed: tracing.seed,
            sample,
            select: Select::at(Positions::Span(tracing.subject.clone())),
        };
        let layers = model.config().n_layers;
        let hooks = Hooks::none().edit(HookPoint::Embed, &noise);
        let mut end = model.advance(batch, State::Start, Place::Block(0), hooks)?;
        let mut states = Vec::with_capacity(layers);
        for layer in 0..layers {
            let go = |from: &State<C>, place| model.advance(batch, from.clone(), place, Hooks::none());
            let heads = go(&end, Place::Heads(layer))?;
            let mid = go(&heads, Place::Mid(layer))?;
            let next = go(&mid, Place::Block(layer + 1))?;
            states.push([std::mem::replace(&mut end, next), heads, mid]);
        }
        Ok(Self { states, end })
    }

    fn values(&self, model: &Model<C>, batch: &Batch<C>, metric: Metric, answers: &crate::Answers) -> Result<Vec<f64>> {
        metric.values(model.logits_from(batch, self.end.clone(), Rows::Last, Hooks::none())?, answers)
    }

    /// The metric after clean activations are put back at some points, at the marked tokens.
    fn restored(
        &self,
        model: &Model<C>,
        batch: &Batch<C>,
        points: &[HookPoint],
        clean: &Activations<C>,
        metric: Metric,
        answers: &crate::Answers,
    ) -> Result<Vec<f64>> {
        let edit = |point: &HookPoint| Replace {
            with: Values::Rows(clean[point].clone()),
            select: Select::at(Positions::Span(MARK.to_owned())),
        };
        let edits: Vec<Replace<C>> = points.iter().map(edit).collect();
        let with_edits = points.iter().zip(&edits);
        let hooks = with_edits.fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, edit as &dyn Edit<C>));
        let state = self.before(points[0], model.config().n_layers);
        metric.values(model.logits_from(batch, state, Rows::Last, hooks)?, answers)
    }

    /// The last state before a point in a block.
    fn before(&self, point: HookPoint, layers: usize) -> State<C> {
        match Place::before(point, layers) {
            Place::Block(layer) => self.states.get(layer).map_or(&self.end, |states| &states[0]).clone(),
            Place::Heads(layer) => self.states[layer][1].clone(),
            Place::Mid(layer) => self.states[layer][2].clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use mediant_artifact::Version;

    use super::*;

    fn prompt(subject: (u32, u32), tokens: usize) -> Prompt {
        let clean =
            Version { ids: vec![0; tokens], spans: BTreeMap::from([("s".to_owned(), subject)]), ..Version::default() };
        Prompt { clean, ..Prompt::default() }
    }

    #[test]
    fn every_token_from_the_subject_on_is_in_one_group() {
        let [first, middle, last_subject, subsequent, further, last] = groups(&prompt((1, 5), 9), "s").unwrap();
        assert_eq!((first, middle, last_subject), (vec![1], vec![2, 3], vec![4]));
        assert_eq!((subsequent, further, last), (vec![5], vec![6, 7], vec![8]));
        let one = groups(&prompt((2, 3), 4), "s").unwrap();
        assert_eq!((one[0].len(), one[2].clone(), one[3].len(), one[5].clone()), (0, vec![2], 0, vec![3]));
        assert!(groups(&prompt((1, 2), 4), "t").is_err());
    }

    #[test]
    fn windows_are_those_of_romes_code() {
        assert_eq!((window_of(7, 10, 48), window_of(2, 10, 48), window_of(46, 10, 48)), (2..12, 0..7, 41..48));
        assert_eq!((window_of(3, 1, 4), window_of(1, 3, 4)), (3..4, 0..3));
    }
}
