//! Attention knockout (Geva et al. 2023, arXiv:2304.14767): the last position no longer sees some tokens, in a window of layers.

use mediant_artifact::Mediator;
use mediant_lm::{Edit, HookPoint, Hooks, KnockOut, Model, Place, Positions, Rows, Site, State};
use mediant_tensor::Compute;

use crate::sweep::share;
use crate::trace::window_of;
use crate::{Error, Metric, Pairs, Recorder, Result};

/// What is cut.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// Which positions no longer look.
    pub queries: Positions,
    /// What they no longer look at, each alone.
    pub keys: Vec<Positions>,
    /// Layers of a window, centred at each layer.
    pub window: usize,
    /// Whether each head is cut alone, rather than all of a layer together.
    pub by_head: bool,
}

/// A cut and the layers it is made in.
#[derive(Clone, Debug)]
struct Cut {
    layers: std::ops::Range<usize>,
    edit: KnockOut,
}

impl Cuts {
    fn all(&self, layers: usize, heads: usize) -> Vec<(Mediator, Cut)> {
        let head_choices: Vec<Option<usize>> = if self.by_head { (0..heads).map(Some).collect() } else { vec![None] };
        let mut all = Vec::new();
        // By layer first: what lies before is then computed once.
        for layer in 0..layers {
            let window = window_of(layer, self.window, layers);
            for keys in &self.keys {
                for head in &head_choices {
                    let hook = HookPoint::Block(layer, Site::AttnScores).to_string();
                    let unit = head.map_or(String::new(), |head| format!("[{head}]"));
                    let mediator = Mediator {
                        name: format!("{hook}{unit}@{}->{keys}", self.queries),
                        kind: "attention".to_owned(),
                        hook: Some(hook),
                        layer: Some(layer as u32),
                        unit: head.map(|head| head as u32),
                        span: Some(keys.to_string()),
                        source: Some(keys.to_string()),
                        target: Some(self.queries.to_string()),
                        ..Mediator::default()
                    };
                    let edit = KnockOut {
                        queries: self.queries.clone(),
                        keys: keys.clone(),
                        heads: head.map(|head| vec![head]),
                    };
                    all.push((mediator, Cut { layers: window.clone(), edit }));
                }
            }
        }
        all
    }

    /// The mediators of [`knock_out`].
    pub fn mediators(&self, layers: usize, heads: usize) -> Vec<Mediator> {
        self.all(layers, heads).into_iter().map(|(mediator, _)| mediator).collect()
    }
}

/// The metric of every prompt after each cut. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// Whatever the passes and the recorder give; a query left without any key is one.
pub fn knock_out<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    cuts: &Cuts,
    metric: Metric,
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let config = model.config();
    let cuts = cuts.all(config.n_layers, config.n_heads);
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), config, &model.device())?;
        let mut state = State::Start;
        let mut cut_values = Vec::with_capacity(cuts.len());
        for (_, cut) in &cuts {
            let place = Place::Block(cut.layers.start);
            state = model.advance(&pair.clean, state, place, Hooks::none()).map_err(Error::from)?;
            let hooks = cut.layers.clone().fold(Hooks::none(), |hooks, layer| {
                hooks.edit(HookPoint::Block(layer, Site::AttnScores), &cut.edit as &dyn Edit<C>)
            });
            let logits = model.logits_from(&pair.clean, state.clone(), Rows::Last, hooks).map_err(Error::from)?;
            recorder.count(range.len(), share(place, config.n_layers));
            cut_values.push(metric.values(logits, &pair.answers)?);
        }
        let logits = model.logits_from(&pair.clean, state, Rows::Last, Hooks::none()).map_err(Error::from)?;
        let clean = metric.values(logits, &pair.answers)?;
        recorder.count(range.len(), 1.0);
        for (index, values) in cut_values.iter().enumerate() {
            let KnockOut { queries, keys, .. } = &cuts[index].1.edit;
            let reached = |example| pairs.reaches(example, queries) && pairs.reaches(example, keys);
            recorder.record_where(index, pair.first, &clean, None, values, reached)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}
