//! Frozen norms in the layout that stock code computes (Baroni et al. 2025, "Transformers Don't Need LayerNorm at Inference
//! Time", arXiv:2507.02559): the norms' epsilon is 1e12, so that whatever the activations are they divide by 1e6, and the
//! gains make up for it.
//!
//! With σ the frozen scale and γ, β the gain and bias of a norm, `(x − μ)/√(var + 1e12) · (γ · 1e6/σ) + β` is
//! `(x − μ)/σ · γ + β`. The norm before attention has one gain, but values read it at σ_v, queries and keys at σ_qk. The
//! gain takes σ_v; with r = σ_v/σ_qk the columns W of queries and keys become `r W` and their bias `b + (1 − r) Wᵀβ`.

use serde_json::{Map, Value};

use crate::arch::shown;
use crate::fold::add_product;
use crate::{BlockNorm, BlockSlot, Error, LmConfig, NormSite, Result, Slot};

/// The epsilon that means frozen.
pub(crate) const EPS: f64 = 1e12;
/// Its root.
const ROOT: f64 = 1e6;
/// The field of a `config.json` that keeps the frozen scales, which the gains alone do not tell.
pub(crate) const SCALES: &str = "mediant_norm_scales";

impl LmConfig {
    /// The model that a `config.json` with the epsilon of frozen norms means. Where nothing says what its scales were, all
    /// are 1 and its gains are what they are divided by.
    pub(crate) fn frozen_by_epsilon(self, scales: Option<&Map<String, Value>>) -> Result<Self> {
        let number = |(name, value): (&'_ String, &Value)| match value.as_f64() {
            Some(scale) => Ok((name.clone(), scale as f32)),
            None => Err(Error::config(SCALES, format!("holds {} for `{name}`, not a number", shown(value)))),
        };
        let scales: Vec<(String, f32)> = match scales {
            Some(scales) => scales.iter().map(number).collect::<Result<_>>()?,
            None => self.norm_sites().iter().map(|site| (site.to_string(), 1.0)).collect(),
        };
        let norms = self
            .frozen_at(scales.iter().map(|(name, scale)| (name.as_str(), *scale)))
            .map_err(|error| Error::config(SCALES, format!("cannot be: {error}")))?;
        // Statistics of such a model take GPT-2's.
        let config = Self { norms, norm_eps: 1e-5, ..self };
        match config.live_sites().first() {
            Some(site) => Err(Error::config(SCALES, format!("has no scale for `{site}`"))),
            None => Ok(config),
        }
    }

    /// Why stock code could not compute this model with its frozen norms, if it could not.
    ///
    /// # Errors
    /// [`Error::Weights`] says why.
    pub(crate) fn check_stock(&self) -> Result<()> {
        if let Some(site) = self.live_sites().first() {
            let why = format!(
                "some norms of this model are frozen and others, `{site}` among them, are live: one epsilon cannot be both"
            );
            return Err(Error::Weights(why));
        }
        let apart = (0..self.n_layers).find(|layer| self.reads_apart(*layer));
        match apart.filter(|_| self.has(Slot::Block(0, BlockSlot::Norm1Bias)) && !self.biases.qkv) {
            Some(layer) => Err(Error::Weights(format!(
                "queries and keys of layer {layer} read a norm at another scale than its values, and have no bias that \
                 could take up the difference"
            ))),
            None => Ok(()),
        }
    }

    fn scale_of(&self, site: NormSite) -> f64 {
        f64::from(self.norms.frozen(site).unwrap_or(1.0))
    }

    /// What the columns of queries and keys are multiplied by.
    fn query_key_factor(&self, layer: usize) -> f64 {
        let scale = |norm| self.scale_of(NormSite::Block(layer, norm));
        scale(BlockNorm::Value) / scale(BlockNorm::QueryKey)
    }

    /// Whether a parameter differs between the two forms.
    pub(crate) fn differs_in_stock(&self, slot: Slot) -> bool {
        match slot {
            Slot::FinalNormWeight | Slot::Block(_, BlockSlot::Norm1Weight | BlockSlot::Norm2Weight) => true,
            Slot::Block(layer, BlockSlot::QkvWeight | BlockSlot::QkvBias) => self.reads_apart(layer),
            _ => false,
        }
    }

    /// A parameter in the form for stock code, where `read` gives our own form.
    pub(crate) fn to_stock(&self, slot: Slot, read: impl Fn(Slot) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        self.rescaled(slot, |x| x, read)
    }

    /// The inverse of [`Self::to_stock`]: the same with the inverse factors.
    pub(crate) fn undo_stock(&self, slot: Slot, read: impl Fn(Slot) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        self.rescaled(slot, f64::recip, read)
    }

    fn rescaled(
        &self,
        slot: Slot,
        factor: fn(f64) -> f64,
        read: impl Fn(Slot) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let mut values = read(slot)?;
        if !self.differs_in_stock(slot) {
            return Ok(values);
        }
        let gain = |values: &mut [f32], site| scale(values, factor(ROOT / self.scale_of(site)));
        let read_apart = self.qkv_width() - self.n_kv_heads * self.d_head;
        match slot {
            Slot::FinalNormWeight => gain(&mut values, NormSite::Final),
            Slot::Block(layer, BlockSlot::Norm1Weight) => gain(&mut values, NormSite::Block(layer, BlockNorm::Value)),
            Slot::Block(layer, BlockSlot::Norm2Weight) => gain(&mut values, NormSite::Block(layer, BlockNorm::Mlp)),
            Slot::Block(layer, BlockSlot::QkvWeight) => {
                let rows = values.chunks_exact_mut(self.qkv_width());
                rows.for_each(|row| scale(&mut row[..read_apart], factor(self.query_key_factor(layer))));
            }
            Slot::Block(layer, _) if self.has(Slot::Block(layer, BlockSlot::Norm1Bias)) => {
                let mut shift = vec![0.0; self.qkv_width()];
                let weight = read(Slot::Block(layer, BlockSlot::QkvWeight))?;
                add_product(&mut shift, read(Slot::Block(layer, BlockSlot::Norm1Bias))?, &weight);
                scale(&mut shift, 1.0 - factor(self.query_key_factor(layer)));
                values[..read_apart].iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
            }
            _ => {}
        }
        Ok(values)
    }
}

fn scale(values: &mut [f32], factor: f64) {
    values.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
}
