//! Norms that are frozen one after the other during a training (Baroni et al. 2025, "Transformers Don't Need LayerNorm at
//! Inference Time", arXiv:2507.02559; Heimersheim 2024, arXiv:2409.13710).

use std::collections::BTreeMap;

use mediant_tensor::checkpoint::{Checkpoint, State};
use mediant_tensor::{Autodiff, Compute, Tensor, ops};

use super::data::Examples;
use crate::{BlockNorm, Error, HookPoint, LmConfig, NormKind, NormSite, NormStates, Result};

/// The norms of one kind: that of layer l is frozen after `start + gap · l` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Steps before the first.
    pub start: u64,
    /// Steps between two; 0 freezes all at once.
    pub gap: u64,
}

/// When norms are frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalSchedule {
    /// The norms before the MLPs.
    pub ln2: Group,
    /// The norms before attention as queries and keys read them.
    pub ln1_qk: Group,
    /// The same as values read them.
    pub ln1_v: Group,
    /// Steps before the last norm is frozen.
    pub ln_final: u64,
}

impl RemovalSchedule {
    /// The published order and proportions for a model of `layers` in `steps`: the first norm after a 15th of the steps,
    /// gaps of 2 : 2 : 3 that take up 0.34 of them, at least a step. For 12 layers in 300 steps and 24 in 500 these
    /// are the published schedules of GPT-2 small and medium.
    pub fn scaled(layers: usize, steps: u64) -> Self {
        let (layers, unit) = (layers as u64, 0.34 * steps as f64 / (7 * layers) as f64);
        let gap = |parts: f64| (parts * unit).floor().max(1.0) as u64;
        let start = (steps / 15).max(1);
        let ln1_qk = start + layers * gap(2.0);
        let ln1_v = ln1_qk + layers * gap(2.0);
        Self {
            ln2: Group { start, gap: gap(2.0) },
            ln1_qk: Group { start: ln1_qk, gap: gap(2.0) },
            ln1_v: Group { start: ln1_v, gap: gap(3.0) },
            ln_final: ln1_v + layers * gap(3.0),
        }
    }

    /// After how many steps a norm is frozen.
    pub fn step(&self, site: NormSite) -> u64 {
        match site {
            NormSite::Final => self.ln_final,
            NormSite::Block(layer, norm) => {
                let group = match norm {
                    BlockNorm::Mlp => self.ln2,
                    BlockNorm::QueryKey => self.ln1_qk,
                    BlockNorm::Value => self.ln1_v,
                };
                group.start.saturating_add(group.gap.saturating_mul(layer as u64))
            }
        }
    }
}

/// λ of the auxiliary loss `λ · mean (σ − τ)²`: σ is what the last norm computes for a row, τ the mean of σ over the rows
/// that are neither first in their sequence nor a special token, without a gradient; the mean is over all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AuxiliaryWeight {
    /// λ.
    Fixed(f64),
    /// `λ = weight · (16.5/τ₀)²`, with the τ of the training's first forward pass: the σ of GPT-2 small is 16.5, and λ is one
    /// over its square times a pure number.
    Scaled(f64),
}

/// How norms are frozen during a training. The scale of a norm is the running mean, over steps, of the mean of what it
/// computes for the rows of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// Which norms, and after how many steps (at least one) each is frozen.
    pub sites: Vec<(NormSite, u64)>,
    /// `m` of the running mean, `m · mean + (1 − m) · new`; it begins with the first step's.
    pub momentum: f64,
    /// Whether the first rows of sequences count.
    pub first_position: bool,
    /// Weight of the auxiliary loss.
    pub auxiliary: AuxiliaryWeight,
}

/// A removal under way.
pub(super) struct Removing {
    /// Sites in the order in which they are frozen.
    removal: Removal,
    running: BTreeMap<HookPoint, f64>,
    /// τ₀ of [`AuxiliaryWeight::Scaled`].
    reference: Option<f64>,
    /// The scales of the first sites, which are frozen.
    scales: Vec<f32>,
}

/// What the passes of a step show of the rows that norms read.
#[derive(Default)]
pub(super) struct Observed {
    /// Sum and number of the scales, by what a norm reads.
    scales: BTreeMap<HookPoint, (f64, u64)>,
    reference: Option<f64>,
    /// The auxiliary loss, summed over passes.
    pub(super) auxiliary: f64,
}

impl Removing {
    /// A removal before the first step.
    pub(super) fn new(mut removal: Removal, config: &LmConfig) -> Result<Self> {
        if config.post_norms {
            let why = "a norm stands after each part of this model too: what it computes depends on what attention and MLP \
                       write, not on the residual stream, and no method removes it";
            return Err(Error::Weights(why.to_owned()));
        }
        let live = config.live_sites();
        if let Some((site, _)) = removal.sites.iter().find(|(site, _)| !live.contains(site)) {
            return Err(Error::Weights(format!(
                "the norm `{site}` cannot be frozen: it is not among the model's live ones"
            )));
        }
        if let Some((site, _)) = removal.sites.iter().find(|(_, step)| *step == 0) {
            return Err(Error::Weights(format!(
                "the norm `{site}` cannot be frozen before a step has shown its scale"
            )));
        }
        removal.sites.sort_by_key(|(_, step)| *step);
        Ok(Self { removal, running: BTreeMap::new(), reference: None, scales: Vec::new() })
    }

    /// What the norms that are still to be frozen read; and the end of the stream, for the auxiliary loss.
    pub(super) fn points(&self, config: &LmConfig) -> Vec<HookPoint> {
        let pending = self.removal.sites[self.scales.len()..].iter();
        let mut points: Vec<_> = pending.map(|(site, _)| site.input(config)).collect();
        if self.has_auxiliary() {
            points.push(NormSite::Final.input(config));
        }
        points
    }

    fn has_auxiliary(&self) -> bool {
        match self.removal.auxiliary {
            AuxiliaryWeight::Fixed(weight) | AuxiliaryWeight::Scaled(weight) => weight > 0.0,
        }
    }

    /// Takes up what a norm reads in a pass; at the end of the stream, gives the part of the auxiliary loss that the pass has
    /// in a step of `rows` rows.
    pub(super) fn observe<B: Compute>(
        &self,
        config: &LmConfig,
        point: HookPoint,
        x: Tensor<Autodiff<B>, 2>,
        examples: &Examples<'_>,
        rows: u64,
        observed: &mut Observed,
    ) -> Result<Option<Tensor<Autodiff<B>, 1>>> {
        let centered = config.norm == NormKind::Layer;
        let end = point == NormSite::Final.input(config) && self.has_auxiliary();
        if !end {
            let scales = numbers(ops::norm_scales(x.inner(), centered, config.norm_eps))?;
            self.add(point, &scales, examples, observed);
            return Ok(None);
        }
        let scales = ops::norm_scales(x, centered, config.norm_eps);
        let values = numbers(scales.clone().inner())?;
        self.add(point, &values, examples, observed);
        let ordinary: Vec<f64> = values
            .iter()
            .zip(examples.ordinary())
            .filter(|(_, ordinary)| *ordinary)
            .map(|(x, _)| f64::from(*x))
            .collect();
        if ordinary.is_empty() {
            return Ok(None);
        }
        let target = ordinary.iter().sum::<f64>() / ordinary.len() as f64;
        let weight = match self.removal.auxiliary {
            AuxiliaryWeight::Fixed(weight) => weight,
            AuxiliaryWeight::Scaled(weight) => {
                let reference = *observed.reference.get_or_insert(self.reference.unwrap_or(target));
                weight * (16.5 / reference).powi(2)
            }
        } / rows as f64;
        observed.auxiliary += weight * values.iter().map(|x| (f64::from(*x) - target).powi(2)).sum::<f64>();
        let away = scales - target;
        Ok(Some((away.clone() * away).sum() * weight))
    }

    fn add(&self, point: HookPoint, scales: &[f32], examples: &Examples<'_>, observed: &mut Observed) {
        let (sum, count) = observed.scales.entry(point).or_default();
        let counted = scales.iter().zip(examples.first()).filter(|(_, first)| self.removal.first_position || !first);
        for (scale, _) in counted {
            *sum += f64::from(*scale);
            *count += 1;
        }
    }

    /// Takes up what a step has shown, the `step`-th, and freezes the norms whose time has come.
    pub(super) fn advance(&mut self, step: u64, observed: &Observed, config: &mut LmConfig) -> Result<()> {
        let momentum = self.removal.momentum;
        for (point, &(sum, count)) in observed.scales.iter().filter(|(_, (_, count))| *count > 0) {
            let new = sum / count as f64;
            let running = self.running.entry(*point).or_insert(new);
            *running = momentum * *running + (1.0 - momentum) * new;
        }
        self.reference = self.reference.or(observed.reference);
        while let Some(&(site, _)) = self.removal.sites.get(self.scales.len()).filter(|(_, at)| *at <= step) {
            let scale = self.running.get(&site.input(config)).ok_or_else(|| {
                Error::Weights(format!("no row has shown the scale of `{site}`: every sequence is one token long"))
            })?;
            self.scales.push(*scale as f32);
            self.freeze(config);
        }
        Ok(())
    }

    /// The config with the norms live that were frozen after the `step`-th step, if any were.
    pub(super) fn with_live_again(&self, step: u64, config: &LmConfig) -> Option<LmConfig> {
        let last: Vec<NormSite> = self.frozen().filter(|(_, at, _)| *at == step).map(|(site, ..)| site).collect();
        (!last.is_empty()).then(|| without(config, &last))
    }

    /// Makes the frozen norms those of `scales`.
    fn freeze(&self, config: &mut LmConfig) {
        if let NormStates::Present(frozen) = &mut config.norms {
            frozen.extend(self.frozen().map(|(site, _, scale)| (site, scale)));
        }
    }

    /// The norms that are frozen, after how many steps, at which scale; in this order.
    pub(super) fn frozen(&self) -> impl Iterator<Item = (NormSite, u64, f32)> {
        self.removal.sites.iter().zip(&self.scales).map(|(&(site, step), &scale)| (site, step, scale))
    }

    pub(super) fn save_scales(&self, state: &mut State<'_>) {
        let bits: Vec<u64> = self.scales.iter().map(|scale| u64::from(scale.to_bits())).collect();
        state.words("frozen", &bits);
    }

    fn load_scales(&self, file: &mut Checkpoint) -> Result<Vec<f32>> {
        let bits = file.word_list("frozen")?;
        Ok(bits.into_iter().map(|bits| f32::from_bits(bits as u32)).take(self.removal.sites.len()).collect())
    }

    /// The config that went with saved scales, from that of a later step.
    pub(super) fn config_of(&self, file: &mut Checkpoint, later: &LmConfig) -> Result<LmConfig> {
        let frozen = self.load_scales(file)?.len();
        let live: Vec<NormSite> = self.removal.sites[frozen..].iter().map(|(site, _)| *site).collect();
        Ok(without(later, &live))
    }

    pub(super) fn save(&self, config: &LmConfig, state: &mut State<'_>) {
        self.save_scales(state);
        let running = self.points_of_all(config).map(|point| self.running.get(&point).copied());
        let numbers =
            running.chain([self.reference]).flat_map(|x| [u64::from(x.is_some()), x.unwrap_or(0.0).to_bits()]);
        state.words("running", &numbers.collect::<Vec<_>>());
    }

    pub(super) fn load(&mut self, file: &mut Checkpoint, config: &mut LmConfig) -> Result<()> {
        self.scales = self.load_scales(file)?;
        self.freeze(config);
        let words = file.word_list("running")?;
        let (numbers, _) = words.as_chunks::<2>();
        let mut numbers = numbers.iter().map(|&[known, bits]| (known == 1).then_some(f64::from_bits(bits)));
        let points: Vec<_> = self.points_of_all(config).collect();
        self.running = points.into_iter().filter_map(|point| Some((point, numbers.next()??))).collect();
        self.reference = numbers.next().flatten();
        Ok(())
    }

    /// What each norm of the removal reads, in the order of its sites.
    fn points_of_all(&self, config: &LmConfig) -> impl Iterator<Item = HookPoint> {
        self.removal.sites.iter().map(|(site, _)| site.input(config))
    }
}

/// The config with these norms live.
fn without(config: &LmConfig, live: &[NormSite]) -> LmConfig {
    let mut config = config.clone();
    if let NormStates::Present(scales) = &mut config.norms {
        scales.retain(|site, _| !live.contains(site));
    }
    config
}

fn numbers<B: Compute>(x: Tensor<B, 1>) -> Result<Vec<f32>> {
    x.into_data().into_vec().map_err(|error| Error::Hook(format!("scales cannot be read: {error:?}")))
}
