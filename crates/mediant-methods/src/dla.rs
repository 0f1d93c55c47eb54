//! Direct logit attribution: what each component adds to the logit difference, past everything that reads it on the way
//! (Elhage et al. 2021, "A mathematical framework for transformer circuits").

use std::collections::BTreeMap;

use mediant_artifact::Mediator;
use mediant_lm::{BlockSlot, HookPoint, Hooks, LmConfig, Model, NormKind, Parameter, Rows, Site, Slot, State};
use mediant_tensor::{Compute, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Metric, Pair, Pairs, Recorder, Result};

/// A kind of component that adds to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    /// Each attention head.
    Heads,
    /// Each MLP, its output bias included.
    Mlps,
    /// Each neuron of an MLP, and the MLP's output bias.
    Neurons,
    /// Token embedding and, where there is one, position embedding.
    Embeddings,
    /// Output biases of attention, and the biases of the last norm and of the unembedding.
    Bias,
}

/// One thing that adds to the logit difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// A head of a layer.
    Head(usize, usize),
    /// The MLP of a layer.
    Mlp(usize),
    /// A neuron of a layer.
    Neuron(usize, usize),
    /// The output bias of an MLP, which belongs to none of its neurons.
    MlpBias(usize),
    /// The token embedding.
    Embed,
    /// The position embedding.
    PosEmbed,
    /// The output biases of attention of all layers together.
    AttentionBias,
    /// The bias of the last norm.
    NormBias,
    /// The bias of the unembedding.
    UnembedBias,
}

/// The components of these kinds that a model has, neurons in these layers, in TransformerLens' order: heads, MLPs, neurons,
/// embeddings, biases.
pub fn components(config: &LmConfig, kinds: &[ComponentKind], neuron_layers: &[usize]) -> Vec<Component> {
    let mut all = Vec::new();
    let has = |kind| kinds.contains(&kind);
    if has(ComponentKind::Heads) {
        all.extend((0..config.n_layers).flat_map(|l| (0..config.n_heads).map(move |head| Component::Head(l, head))));
    }
    if has(ComponentKind::Mlps) {
        all.extend((0..config.n_layers).map(Component::Mlp));
    }
    if has(ComponentKind::Neurons) {
        for &layer in neuron_layers {
            all.extend((0..config.d_mlp).map(|neuron| Component::Neuron(layer, neuron)));
            if config.has(Slot::Block(layer, BlockSlot::DownBias)) {
                all.push(Component::MlpBias(layer));
            }
        }
    }
    if has(ComponentKind::Embeddings) {
        all.push(Component::Embed);
        if config.has_hook(HookPoint::PosEmbed) {
            all.push(Component::PosEmbed);
        }
    }
    if has(ComponentKind::Bias) {
        let biases = [
            (config.biases.out, Component::AttentionBias),
            (config.has(Slot::FinalNormBias), Component::NormBias),
            (config.has(Slot::UnembedBias), Component::UnembedBias),
        ];
        all.extend(biases.into_iter().filter(|(there, _)| *there).map(|(_, component)| component));
    }
    all
}

impl Component {
    /// Its address.
    pub fn mediator(self) -> Mediator {
        let at =
            |kind: &str, name: String, hook: Option<HookPoint>, layer: Option<usize>, unit: Option<usize>| Mediator {
                name,
                kind: kind.to_owned(),
                hook: hook.map(|hook| hook.to_string()),
                layer: layer.map(|layer| layer as u32),
                unit: unit.map(|unit| unit as u32),
                ..Mediator::default()
            };
        let unit_of = |kind: &str, layer: usize, site: Site, unit: usize| {
            let hook = HookPoint::Block(layer, site);
            at(kind, format!("{hook}[{unit}]"), Some(hook), Some(layer), Some(unit))
        };
        let embedding = |hook: HookPoint| at("embed", hook.to_string(), Some(hook), None, None);
        let bias = |name: String, layer| at("bias", name, None, layer, None);
        match self {
            Self::Head(layer, head) => unit_of("head", layer, Site::Result, head),
            Self::Neuron(layer, neuron) => unit_of("neuron", layer, Site::MlpPost, neuron),
            Self::Mlp(layer) => {
                let hook = HookPoint::Block(layer, Site::MlpOut);
                at("mlp_out", hook.to_string(), Some(hook), Some(layer), None)
            }
            Self::MlpBias(layer) => bias(format!("blocks.{layer}.mlp.b_out"), Some(layer)),
            Self::Embed => embedding(HookPoint::Embed),
            Self::PosEmbed => embedding(HookPoint::PosEmbed),
            Self::AttentionBias => bias("blocks.*.attn.b_O".to_owned(), None),
            Self::NormBias => bias("ln_final.b".to_owned(), None),
            Self::UnembedBias => bias("unembed.b_U".to_owned(), None),
        }
    }

    /// What of a pass it is computed from.
    fn points(self, config: &LmConfig) -> Vec<HookPoint> {
        let in_block = |layer, sites: &[Site]| {
            let points = sites.iter().map(|&site| HookPoint::Block(layer, site));
            points.filter(|point| config.has_hook(*point)).collect()
        };
        match self {
            Self::Head(layer, _) => in_block(layer, &[Site::Z, Site::Ln1PostScale]),
            Self::Mlp(layer) => in_block(layer, &[Site::MlpOut]),
            Self::Neuron(layer, _) | Self::MlpBias(layer) => in_block(layer, &[Site::MlpPost, Site::Ln2PostScale]),
            Self::Embed => vec![HookPoint::Embed],
            Self::PosEmbed => vec![HookPoint::PosEmbed],
            Self::AttentionBias => {
                (0..config.n_layers).flat_map(|layer| in_block(layer, &[Site::Ln1PostScale])).collect()
            }
            Self::NormBias | Self::UnembedBias => Vec::new(),
        }
    }
}

/// Attributes the logit difference of each prompt at its last position to components, in the order of the mediators of
/// `recorder`. A logit that the model caps is taken before the cap, which nothing linear goes through. `progress` hears how many
/// prompts of how many are done.
///
/// # Errors
/// Whatever the passes and the recorder give.
pub fn attribute_logits<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    components: &[Component],
    recorder: &mut Recorder,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let weights: BTreeMap<Slot, Parameter<C>> = model.parameters().into_iter().collect();
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let run = LastRows::of(model, &weights, &pair, components)?;
        let clean = numbers(run.logit_diff.clone())?;
        let mut of_units = BTreeMap::new();
        for (index, &component) in components.iter().enumerate() {
            let values = run.contribution(component, &mut of_units)?;
            recorder.record(index, pair.first, &clean, None, &values, |_| true)?;
        }
        recorder.count(range.len(), 1.0);
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

/// The last positions of a pass, and what the logit difference makes of anything added to the residual stream there.
struct LastRows<'m, C: Compute> {
    model: &'m Model<C>,
    weights: &'m BTreeMap<Slot, Parameter<C>>,
    /// Activations `[prompts, units, width]`.
    at: BTreeMap<HookPoint, Tensor<C, 3>>,
    /// Gradient of the logit difference by the rows after the last norm, `[prompts, d_model]`.
    direction: Tensor<C, 2>,
    /// The same by the residual stream before it, the norm's scale held: what a component's output is multiplied by.
    readout: Tensor<C, 2>,
    /// The logit difference `[prompts]`.
    logit_diff: Tensor<C, 1>,
    /// What the unembedding's bias adds to it, `[prompts]`.
    unembed_bias: Option<Tensor<C, 1>>,
}

impl<'m, C: Compute> LastRows<'m, C> {
    fn of(
        model: &'m Model<C>,
        weights: &'m BTreeMap<Slot, Parameter<C>>,
        pair: &Pair<C>,
        components: &[Component],
    ) -> Result<Self> {
        let config = model.config();
        let (batch, device) = (&pair.clean, model.device());
        let last: Vec<i32> = batch.sequences().iter().map(|s| (s.start + s.len - 1) as i32).collect();
        let prompts = last.len();
        let last: Tensor<C, 1, Int> = Tensor::from_data(TensorData::new(last, [prompts]), &device);
        let mut at = BTreeMap::new();
        let mut take = |point: HookPoint, x: Tensor<C, 3>| {
            at.insert(point, x.select(0, last.clone()));
            Ok(())
        };
        let points = components.iter().flat_map(|component| component.points(config));
        let scale = config.has_norms().then_some(HookPoint::FinalScale);
        let hooks = Hooks::none().read(points.chain(scale), &mut take);
        let hidden = model.hidden_from(batch, State::Start, Rows::Last, hooks)?;

        let answers = pair.answers.weights(Metric::LogitDiff, config.vocab_size);
        let answers = Tensor::<C, 2>::from_data(TensorData::new(answers, [prompts, config.vocab_size]), &device);
        let direction = answers.clone().matmul(model.unembedding());
        let readout = match at.get(&HookPoint::FinalScale) {
            // The last norm is part of the unembedding.
            None => direction.clone(),
            Some(scale) => {
                let gained = direction.clone() * vector(weights, Slot::FinalNormWeight)?.unsqueeze();
                let gained = match config.norm {
                    // Taking the mean away is its own transpose.
                    NormKind::Layer => gained.clone() - gained.mean_dim(1),
                    NormKind::Rms => gained,
                };
                gained / scale.clone().reshape([prompts, 1])
            }
        };
        let unembed_bias = match config.has(Slot::UnembedBias) {
            true => Some(rows_dot(answers, vector(weights, Slot::UnembedBias)?.unsqueeze())),
            false => None,
        };
        let logit_diff = rows_dot(hidden, direction.clone());
        let logit_diff = match &unembed_bias {
            Some(bias) => logit_diff + bias.clone(),
            None => logit_diff,
        };
        Ok(Self { model, weights, at, direction, readout, logit_diff, unembed_bias })
    }

    /// What a component adds to the logit difference of each prompt. Units of a layer are computed together and kept in `units`.
    fn contribution(&self, component: Component, units: &mut BTreeMap<(usize, bool), Vec<f64>>) -> Result<Vec<f64>> {
        let values = match component {
            Component::Head(layer, head) => {
                let all = kept(units, (layer, true), || self.heads(layer))?;
                return Ok(column(all, head, self.model.config().n_heads));
            }
            Component::Neuron(layer, neuron) => {
                let all = kept(units, (layer, false), || self.neurons(layer))?;
                return Ok(column(all, neuron, self.model.config().d_mlp));
            }
            Component::Mlp(layer) => self.stream(HookPoint::Block(layer, Site::MlpOut))?,
            Component::Embed => self.stream(HookPoint::Embed)?,
            Component::PosEmbed => self.stream(HookPoint::PosEmbed)?,
            Component::MlpBias(layer) => {
                let readout = self.past_post_norm(layer, Site::Ln2PostScale, BlockSlot::PostNorm2Weight)?;
                rows_dot(readout, vector(self.weights, Slot::Block(layer, BlockSlot::DownBias))?.unsqueeze())
            }
            Component::AttentionBias => {
                let mut sum = self.logit_diff.zeros_like();
                for layer in 0..self.model.config().n_layers {
                    let readout = self.past_post_norm(layer, Site::Ln1PostScale, BlockSlot::PostNorm1Weight)?;
                    let bias = vector(self.weights, Slot::Block(layer, BlockSlot::OutBias))?;
                    sum = sum + rows_dot(readout, bias.unsqueeze());
                }
                sum
            }
            Component::NormBias => {
                rows_dot(self.direction.clone(), vector(self.weights, Slot::FinalNormBias)?.unsqueeze())
            }
            Component::UnembedBias => self.unembed_bias.clone().unwrap_or_else(|| self.logit_diff.zeros_like()),
        };
        numbers(values)
    }

    fn read(&self, point: HookPoint) -> Result<Tensor<C, 3>> {
        self.at.get(&point).cloned().ok_or_else(|| not_read(point))
    }

    /// Of what is added to the residual stream as it is.
    fn stream(&self, point: HookPoint) -> Result<Tensor<C, 1>> {
        Ok(rows_dot(self.read(point)?.reshape(self.readout.dims()), self.readout.clone()))
    }

    /// What the output of a part of a layer is multiplied by: where a norm comes after the part, its scale is held too.
    fn past_post_norm(&self, layer: usize, scale: Site, gain: BlockSlot) -> Result<Tensor<C, 2>> {
        if !self.model.config().post_norms {
            return Ok(self.readout.clone());
        }
        let scale = self.read(HookPoint::Block(layer, scale))?.reshape([self.readout.dims()[0], 1]);
        Ok(self.readout.clone() * vector(self.weights, Slot::Block(layer, gain))?.unsqueeze() / scale)
    }

    /// `[prompts, heads]`
    fn heads(&self, layer: usize) -> Result<Vec<f64>> {
        let results = self.model.head_results(layer, self.read(HookPoint::Block(layer, Site::Z))?);
        let readout = self.past_post_norm(layer, Site::Ln1PostScale, BlockSlot::PostNorm1Weight)?;
        let [prompts, width] = readout.dims();
        numbers((results * readout.reshape([prompts, 1, width])).sum_dim(2))
    }

    /// `[prompts, d_mlp]`
    fn neurons(&self, layer: usize) -> Result<Vec<f64>> {
        let readout = self.past_post_norm(layer, Site::Ln2PostScale, BlockSlot::PostNorm2Weight)?;
        let down = matrix(self.weights, Slot::Block(layer, BlockSlot::DownWeight))?;
        let post = self.read(HookPoint::Block(layer, Site::MlpPost))?;
        let [prompts, _, d_mlp] = post.dims();
        numbers(post.reshape([prompts, d_mlp]) * readout.matmul(down.transpose()))
    }
}

/// `units[key]`, made once.
fn kept(
    units: &mut BTreeMap<(usize, bool), Vec<f64>>,
    key: (usize, bool),
    make: impl FnOnce() -> Result<Vec<f64>>,
) -> Result<&Vec<f64>> {
    use std::collections::btree_map::Entry;
    match units.entry(key) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => Ok(place.insert(make()?)),
    }
}

fn column(all: &[f64], index: usize, width: usize) -> Vec<f64> {
    all.iter().skip(index).step_by(width).copied().collect()
}

/// Row by row, the products summed; one row stands for all.
fn rows_dot<C: Compute>(a: Tensor<C, 2>, b: Tensor<C, 2>) -> Tensor<C, 1> {
    let product = (a * b).sum_dim(1);
    let rows = product.dims()[0];
    product.reshape([rows])
}

fn numbers<C: Compute, const D: usize>(values: Tensor<C, D>) -> Result<Vec<f64>> {
    let values = values.into_data().into_vec::<f32>();
    let values = values.map_err(|error| Error::Data(format!("contributions cannot be read: {error:?}")))?;
    Ok(values.into_iter().map(f64::from).collect())
}

fn vector<C: Compute>(weights: &BTreeMap<Slot, Parameter<C>>, slot: Slot) -> Result<Tensor<C, 1>> {
    match weights.get(&slot) {
        Some(Parameter::Vector(vector)) => Ok(vector.clone()),
        _ => Err(Error::Data(format!("the model has no vector `{slot}`"))),
    }
}

fn matrix<C: Compute>(weights: &BTreeMap<Slot, Parameter<C>>, slot: Slot) -> Result<Tensor<C, 2>> {
    match weights.get(&slot) {
        Some(Parameter::Matrix(matrix)) => Ok(matrix.clone()),
        _ => Err(Error::Data(format!("the model has no matrix `{slot}`"))),
    }
}

fn not_read(point: HookPoint) -> Error {
    Error::Data(format!("the pass did not come to `{point}`"))
}
