//! Weight processing: other weights for the same log-probabilities, easier to read. The four steps of TransformerLens'
//! `from_pretrained` and their order:
//!
//! 1. `fold_ln`: every norm's gain and bias move into the projections that read it, which then are centred over their
//!    inputs (LayerNorm alone; what a LayerNorm gives has mean 0). The norms after a part (Gemma 2) stay.
//! 2. `center_writing_weights`: whatever is written to the residual stream gets mean 0. Every LayerNorm takes that mean
//!    away anyhow.
//! 3. `center_unembed`: the unembedding gets mean 0 over the vocabulary, which moves all logits of a position alike.
//! 4. `fold_value_biases`: attention patterns sum to 1, so value biases add a constant, which moves to the output's bias.
//!
//! With [`fold_norms`](crate::fold_norms) the first step takes the frozen scales along, and no norm is left.

use std::collections::BTreeMap;

use mediant_artifact::{ModelMeta, Processing};

use crate::fold::{add_product, add_row_products, center_columns, center_rows, divide, scale_columns, scale_rows};
use crate::{Biases, BlockNorm, BlockSlot, Error, LmConfig, NormKind, NormSite, Result, Slot};

impl LmConfig {
    /// What a model of this config is made of after weight processing: biases appear, and a tied unembedding becomes a
    /// matrix of its own.
    ///
    /// # Errors
    /// [`Error::Processing`] for a step that would change what the model computes.
    pub fn processed(&self, processing: Processing) -> Result<Self> {
        if !self.has_norms() {
            return self.kept_as_it_is(processing);
        }
        let Processing { fold_ln, center_writing_weights, center_unembed, fold_value_biases } = processing;
        let layer_norm = self.norm == NormKind::Layer;
        if center_writing_weights && !layer_norm {
            let why = "needs LayerNorm, which takes the mean of the residual stream away; RMSNorm does not, so that the \
                       model would compute something else";
            return Err(Error::Processing { step: "center_writing_weights", why: why.to_owned() });
        }
        if let Some(cap) = self.logit_softcap
            && center_unembed
        {
            let why =
                format!("moves all logits of a position alike, which the soft cap on logits ({cap}) does not let pass");
            return Err(Error::Processing { step: "center_unembed", why });
        }
        let shifts = fold_ln && layer_norm;
        let qkv = self.biases.qkv || shifts;
        let biases = Biases {
            qkv,
            out: self.biases.out || (fold_value_biases && qkv),
            mlp: self.biases.mlp || shifts,
            unembed: shifts,
        };
        let tied = self.tied && !(fold_ln || center_writing_weights || center_unembed);
        Ok(Self { biases, tied, processing, ..self.clone() })
    }

    /// Weights that hold the norms were processed before, if at all.
    fn kept_as_it_is(&self, processing: Processing) -> Result<Self> {
        let Processing { fold_ln, center_writing_weights, center_unembed, .. } = processing;
        if processing == Processing::default() {
            return Ok(self.clone());
        }
        let step = match (fold_ln, center_writing_weights, center_unembed) {
            (true, ..) => "fold_ln",
            (_, true, _) => "center_writing_weights",
            (_, _, true) => "center_unembed",
            _ => "fold_value_biases",
        };
        let why = "cannot be done to a model without norms; process it before its norms are folded";
        Err(Error::Processing { step, why: why.to_owned() })
    }

    /// The config of a model artifact.
    ///
    /// # Errors
    /// As [`LmConfig::from_json`] and [`LmConfig::processed`]; and for states of norms that the model cannot have.
    pub fn of_artifact(meta: &ModelMeta) -> Result<Self> {
        Self::from_json(&meta.config)?.processed(meta.processing)?.with_norms(&meta.norms)
    }
}

/// Parameters by slot, as long as they belong to one step's work.
type Parts = BTreeMap<Slot, Vec<f32>>;

/// Computes the parameters of `after`, a processed config of the model `before`, from those of the latter, which `read` gives
/// (zeros for a bias that it does not have). `write` gets them in the order of [`LmConfig::slots`]. One block, or one matrix
/// outside the blocks, is in memory at a time.
pub(crate) fn process<E: From<Error>>(
    before: &LmConfig,
    after: &LmConfig,
    read: impl Fn(Slot) -> Result<Vec<f32>>,
    mut write: impl FnMut(Slot, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let steps = after.processing;
    for slot in [Slot::Embed, Slot::PosEmbed].into_iter().filter(|slot| after.has(*slot)) {
        let mut table = read(slot)?;
        if steps.center_writing_weights {
            center_rows(&mut table, after.d_model);
        }
        write(slot, &table)?;
    }
    // Norms that are about to be folded are read, and not written.
    let slots = LmConfig { norms: before.norms.clone(), ..after.clone() }.slots();
    let mut write_all = |parts: Parts| {
        let mut kept = parts.iter().filter(|(slot, _)| after.has(**slot));
        kept.try_for_each(|(slot, values)| write(*slot, values))
    };
    for layer in 0..after.n_layers {
        let own = slots.iter().filter(|slot| matches!(slot, Slot::Block(at, _) if *at == layer));
        let mut parts = own.map(|&slot| Ok((slot, read(slot)?))).collect::<Result<Parts>>()?;
        process_block(after, layer, &mut parts);
        if !after.has_norms() {
            divide_block(before, layer, &mut parts);
        }
        write_all(parts)?;
    }
    let end = slots.iter().filter(|slot| !matches!(slot, Slot::Embed | Slot::PosEmbed | Slot::Block(..)));
    let mut parts = end.map(|&slot| Ok((slot, read(slot)?))).collect::<Result<Parts>>()?;
    process_end(after, &mut parts);
    if let (false, Some(unembed)) = (after.has_norms(), parts.get_mut(&Slot::Unembed)) {
        divide(unembed, scale(before, NormSite::Final));
    }
    write_all(parts)
}

fn scale(config: &LmConfig, site: NormSite) -> f64 {
    f64::from(config.norms.frozen(site).unwrap_or(1.0))
}

/// Divides what reads the norms of a block by their frozen scales.
fn divide_block(before: &LmConfig, layer: usize, parts: &mut Parts) {
    let scale = |norm| scale(before, NormSite::Block(layer, norm));
    let values = before.n_kv_heads * before.d_head;
    if let Some(qkv) = parts.get_mut(&Slot::Block(layer, BlockSlot::QkvWeight)) {
        for row in qkv.chunks_exact_mut(before.qkv_width()) {
            let (queries_keys, values) = row.split_at_mut(before.qkv_width() - values);
            divide(queries_keys, scale(BlockNorm::QueryKey));
            divide(values, scale(BlockNorm::Value));
        }
    }
    for part in [BlockSlot::GateWeight, BlockSlot::UpWeight] {
        if let Some(weight) = parts.get_mut(&Slot::Block(layer, part)) {
            divide(weight, scale(BlockNorm::Mlp));
        }
    }
}

fn process_block(config: &LmConfig, layer: usize, parts: &mut Parts) {
    let steps = config.processing;
    let slot = |part| Slot::Block(layer, part);
    if steps.fold_ln {
        let norm = [slot(BlockSlot::Norm1Weight), slot(BlockSlot::Norm1Bias)];
        fold_norm(config, parts, norm, &[(slot(BlockSlot::QkvWeight), Some(slot(BlockSlot::QkvBias)))]);
        let norm = [slot(BlockSlot::Norm2Weight), slot(BlockSlot::Norm2Bias)];
        // No model has a gate after a LayerNorm, whose bias it would have to take.
        let readers = [(slot(BlockSlot::GateWeight), None), (slot(BlockSlot::UpWeight), Some(slot(BlockSlot::UpBias)))];
        fold_norm(config, parts, norm, &readers);
    }
    let written = [BlockSlot::OutWeight, BlockSlot::OutBias, BlockSlot::DownWeight, BlockSlot::DownBias].map(slot);
    let center = |parts: &mut Parts, slots: &[Slot]| {
        for slot in slots.iter().filter(|_| steps.center_writing_weights) {
            parts.get_mut(slot).into_iter().for_each(|values| center_rows(values, config.d_model));
        }
    };
    center(parts, &written);
    if steps.fold_value_biases {
        fold_value_biases(config, layer, parts);
        center(parts, &[slot(BlockSlot::OutBias)]);
    }
}

/// Moves a norm's bias and gain into the projections `[d_model, out]` that read it and their biases, and leaves a norm of
/// ones and zeros.
fn fold_norm(config: &LmConfig, parts: &mut Parts, [gain, shift]: [Slot; 2], readers: &[(Slot, Option<Slot>)]) {
    let gains = parts.get(&gain).cloned().unwrap_or_default();
    let shifts = parts.get(&shift).cloned();
    for (weight, bias) in readers {
        let Some(mut matrix) = parts.remove(weight) else { continue };
        let width = matrix.len() / config.d_model;
        if let (Some(shifts), Some(bias)) = (&shifts, bias.and_then(|bias| parts.get_mut(&bias))) {
            add_product(bias, shifts.iter().copied(), &matrix);
        }
        scale_rows(&mut matrix, &gains);
        if shifts.is_some() {
            center_columns(&mut matrix, width);
        }
        parts.insert(*weight, matrix);
    }
    reset_norm(parts, gain, shift);
}

fn reset_norm(parts: &mut Parts, gain: Slot, shift: Slot) {
    parts.get_mut(&gain).into_iter().for_each(|gains| gains.fill(1.0));
    parts.get_mut(&shift).into_iter().for_each(|shifts| shifts.fill(0.0));
}

/// `b_O += Σ_head b_V[head] · W_O[head]`, where several heads may share values; then `b_V = 0`.
fn fold_value_biases(config: &LmConfig, layer: usize, parts: &mut Parts) {
    let Some(mut qkv) = parts.remove(&Slot::Block(layer, BlockSlot::QkvBias)) else { return };
    let d_head = config.d_head;
    let first = qkv.len() - config.n_kv_heads * d_head;
    let shared = config.n_heads / config.n_kv_heads;
    let values = (0..config.n_heads).flat_map(|head| {
        let at = first + head / shared * d_head;
        &qkv[at..at + d_head]
    });
    let mut out = parts.remove(&Slot::Block(layer, BlockSlot::OutBias)).unwrap_or_default();
    add_product(&mut out, values.copied(), &parts[&Slot::Block(layer, BlockSlot::OutWeight)]);
    qkv[first..].fill(0.0);
    parts.extend([(Slot::Block(layer, BlockSlot::QkvBias), qkv), (Slot::Block(layer, BlockSlot::OutBias), out)]);
}

/// The last norm and the unembedding `[vocabulary, d_model]`.
fn process_end(config: &LmConfig, parts: &mut Parts) {
    let steps = config.processing;
    let Some(mut unembed) = parts.remove(&Slot::Unembed) else { return };
    let mut bias = parts.remove(&Slot::UnembedBias);
    if steps.fold_ln {
        let shifts = parts.get(&Slot::FinalNormBias);
        if let (Some(shifts), Some(bias)) = (shifts, &mut bias) {
            add_row_products(bias, &unembed, shifts);
        }
        scale_columns(&mut unembed, &parts[&Slot::FinalNormWeight]);
        if shifts.is_some() {
            center_rows(&mut unembed, config.d_model);
        }
        reset_norm(parts, Slot::FinalNormWeight, Slot::FinalNormBias);
    }
    if steps.center_unembed {
        center_columns(&mut unembed, config.d_model);
        bias.iter_mut().for_each(|bias| center_rows(bias, config.vocab_size));
    }
    parts.insert(Slot::Unembed, unembed);
    parts.extend(bias.map(|bias| (Slot::UnembedBias, bias)));
}
