//! The normalisation sites of a model, and whether each divides by a scale of its own making.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use mediant_artifact::{ModelFacts, NormFacts, Norms};
use mediant_tensor::NormScale;

use crate::{Error, HookPoint, LmConfig, Result, Site};

/// A place where a norm divides by a scale. The norms after a part (Gemma 2) are none of them: they stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormSite {
    /// In a block.
    Block(usize, BlockNorm),
    /// Before the unembedding: `ln_final`.
    Final,
}

/// A place in a block where a norm divides by a scale, in the order of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockNorm {
    /// The norm before attention as queries and keys read it: `ln1.qk`.
    QueryKey,
    /// The same norm as values read it: `ln1.v`.
    Value,
    /// The norm before the MLP: `ln2`.
    Mlp,
}

impl BlockNorm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueryKey, Self::Value, Self::Mlp];

    fn name(self) -> &'static str {
        match self {
            Self::QueryKey => "ln1.qk",
            Self::Value => "ln1.v",
            Self::Mlp => "ln2",
        }
    }
}

impl fmt::Display for NormSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(layer, norm) => write!(f, "blocks.{layer}.{}", norm.name()),
            Self::Final => f.write_str("ln_final"),
        }
    }
}

impl FromStr for NormSite {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let in_block = || {
            let (layer, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
            let norm = BlockNorm::ALL.into_iter().find(|norm| norm.name() == rest)?;
            Some(Self::Block(layer.parse().ok()?, norm))
        };
        let site = if name == "ln_final" { Some(Self::Final) } else { in_block() };
        site.ok_or_else(|| Error::Weights(format!("`{name}` is not the name of a norm")))
    }
}

/// State of a model's normalisation sites.
#[derive(Clone, Debug, PartialEq)]
pub enum NormStates {
    /// There are norms: those listed divide by this positive number, the others by the scale that they compute.
    Present(BTreeMap<NormSite, f32>),
    /// There are none: they are part of the weights, or never were.
    Absent,
}

impl Default for NormStates {
    fn default() -> Self {
        Self::Present(BTreeMap::new())
    }
}

impl NormStates {
    /// The frozen scale of a site, if it has one.
    pub fn frozen(&self, site: NormSite) -> Option<f32> {
        match self {
            Self::Present(scales) => scales.get(&site).copied(),
            Self::Absent => None,
        }
    }
}

impl NormSite {
    /// The point whose activation the norm reads.
    pub fn input(self, config: &LmConfig) -> HookPoint {
        match self {
            Self::Block(layer, BlockNorm::Mlp) => HookPoint::Block(layer, Site::MlpIn),
            Self::Block(layer, _) => HookPoint::Block(layer, Site::ResidPre),
            Self::Final => HookPoint::Block(config.n_layers - 1, Site::ResidPost),
        }
    }
}

impl LmConfig {
    /// Whether there are norms at all.
    pub fn has_norms(&self) -> bool {
        self.norms != NormStates::Absent
    }

    /// Every normalisation site, in the order of a pass; none if the norms are part of the weights.
    pub fn norm_sites(&self) -> Vec<NormSite> {
        let blocks = (0..self.n_layers).flat_map(|layer| BlockNorm::ALL.map(|norm| NormSite::Block(layer, norm)));
        blocks.chain([NormSite::Final]).filter(|_| self.has_norms()).collect()
    }

    /// The sites that compute their scale.
    pub fn live_sites(&self) -> Vec<NormSite> {
        self.norm_sites().into_iter().filter(|site| self.norms.frozen(*site).is_none()).collect()
    }

    /// What a site divides by.
    pub(crate) fn norm_scale(&self, site: NormSite) -> NormScale {
        self.norms.frozen(site).map_or(NormScale::Computed { eps: self.norm_eps }, NormScale::Frozen)
    }

    /// Whether queries and keys see the stream before this block divided by another number than values do.
    pub fn reads_apart(&self, layer: usize) -> bool {
        let frozen = |norm| self.norms.frozen(NormSite::Block(layer, norm));
        frozen(BlockNorm::QueryKey) != frozen(BlockNorm::Value)
    }

    /// With other states of the norms, as an artifact records them.
    pub(crate) fn with_norms(self, norms: &Norms) -> Result<Self> {
        let norms = match norms {
            Norms::Live | Norms::Frozen(_) if !self.has_norms() => {
                return Err(Error::Weights("this model never had norms".to_owned()));
            }
            Norms::Live => NormStates::default(),
            Norms::Frozen(scales) => self.frozen_at(scales.iter().map(|(name, scale)| (name.as_str(), *scale)))?,
            Norms::Absent if !self.has_norms() => NormStates::Absent,
            Norms::Absent if self.processing.fold_ln && !self.post_norms => NormStates::Absent,
            Norms::Absent => {
                return Err(Error::Weights("a model cannot be without norms that its weights do not hold".to_owned()));
            }
        };
        Ok(Self { norms, ..self })
    }

    /// States with these scales, by the names of their sites.
    pub(crate) fn frozen_at<'n>(&self, scales: impl IntoIterator<Item = (&'n str, f32)>) -> Result<NormStates> {
        let frozen = scales.into_iter().map(|(name, scale)| {
            let site: NormSite = name.parse()?;
            if matches!(site, NormSite::Block(layer, _) if layer >= self.n_layers) {
                return Err(Error::Weights(format!("the model has no norm `{name}`")));
            }
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(Error::Weights(format!("the scale of `{name}` is {scale}, not a number above zero")));
            }
            Ok((site, scale))
        });
        Ok(NormStates::Present(frozen.collect::<Result<_>>()?))
    }

    /// The states as an artifact records them.
    pub(crate) fn stored_norms(&self) -> Norms {
        match &self.norms {
            NormStates::Absent => Norms::Absent,
            NormStates::Present(scales) if scales.is_empty() => Norms::Live,
            NormStates::Present(scales) => {
                Norms::Frozen(scales.iter().map(|(site, scale)| (site.to_string(), *scale)).collect())
            }
        }
    }

    /// The states as a plan knows them.
    pub(crate) fn norm_facts(&self) -> NormFacts {
        match &self.norms {
            NormStates::Absent => NormFacts::Absent,
            NormStates::Present(scales) if scales.is_empty() => NormFacts::Live,
            NormStates::Present(_) if self.live_sites().is_empty() => NormFacts::Frozen,
            NormStates::Present(scales) => NormFacts::PartlyFrozen(scales.keys().map(NormSite::to_string).collect()),
        }
    }
}

/// What will be known of a model, one that has norms, once more of them are frozen, if any are, each after so many steps: two
/// that are frozen after the same step have the same scale.
///
/// # Errors
/// [`Error::Weights`] for the name of a norm that cannot be, in the facts of a damaged artifact.
pub fn frozen_facts(model: &ModelFacts, frozen: &BTreeMap<NormSite, u64>) -> Result<ModelFacts> {
    let mut all: BTreeSet<NormSite> = match &model.norms {
        NormFacts::PartlyFrozen(names) => names.iter().map(|name| name.parse()).collect::<Result<_>>()?,
        _ => BTreeSet::new(),
    };
    all.extend(frozen.keys());
    let mut hooks = model.hooks.to_vec();
    for layer in 0..model.n_layers {
        let after = |norm| frozen.get(&NormSite::Block(layer, norm));
        if after(BlockNorm::QueryKey) != after(BlockNorm::Value) {
            for (site, width) in [(Site::Ln1Scale, 1), (Site::Ln1Normalized, model.d_model)] {
                let name = HookPoint::Block(layer, site).to_string();
                hooks.iter_mut().filter(|hook| hook.name == name).for_each(|hook| hook.shape = vec![2, width]);
            }
        }
    }
    let norms = match all.len() {
        0 => NormFacts::Live,
        count if count == 3 * model.n_layers + 1 => NormFacts::Frozen,
        _ => NormFacts::PartlyFrozen(all.iter().map(NormSite::to_string).collect()),
    };
    Ok(ModelFacts { norms, hooks: hooks.into(), ..model.clone() })
}
