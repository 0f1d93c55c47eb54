//! Norms in a pass, with their hook points.

use mediant_tensor::ops::{NormParts, layer_norm, layer_norm_parts, rms_norm, rms_norm_parts};
use mediant_tensor::{Compute, Tensor};

use crate::model::{Block, Norm};
use crate::walk::{Stop, Walk};
use crate::{HookPoint, Model, Result, Site};

/// What queries, keys and values are made from.
pub(crate) struct AttentionInput<C: Compute> {
    /// What queries and keys read, `[rows, d_model]`.
    pub(crate) queries_keys: Tensor<C, 2>,
    /// What values read, where that is something else.
    pub(crate) values: Option<Tensor<C, 2>>,
}

impl<C: Compute> Norm<C> {
    pub(crate) fn apply(&self, x: Tensor<C, 2>) -> Tensor<C, 2> {
        match &self.bias {
            Some(bias) => layer_norm(x, self.weight.clone(), bias.clone(), self.scale),
            None => rms_norm(x, self.weight.clone(), self.scale),
        }
    }

    fn parts(&self, x: Tensor<C, 2>) -> NormParts<C, 2> {
        match self.bias {
            Some(_) => layer_norm_parts(x, self.scale),
            None => rms_norm_parts(x, self.scale),
        }
    }

    /// Weight and bias, on rows over their scale.
    fn affine(&self, unit: Tensor<C, 2>) -> Tensor<C, 2> {
        let scaled = unit * self.weight.clone().unsqueeze();
        match &self.bias {
            Some(bias) => scaled + bias.clone().unsqueeze(),
            None => scaled,
        }
    }

    /// A norm with its two hook points; nothing, where it is part of the weights. The fused kernel's result is used unless an
    /// edit stands inside the norm, so that reading there changes nothing.
    pub(crate) fn pass(
        norm: Option<&Self>,
        x: Tensor<C, 2>,
        scale_at: HookPoint,
        normalized_at: HookPoint,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let Some(norm) = norm else { return Ok(x) };
        if !walk.wants(scale_at) && !walk.wants(normalized_at) {
            return Ok(norm.apply(x));
        }
        let edited = walk.edits(scale_at) || walk.edits(normalized_at);
        let parts = norm.parts(x.clone());
        let scale = walk.at(scale_at, parts.scale)?;
        let unit = walk.at(normalized_at, parts.centered / scale)?;
        Ok(if edited { norm.affine(unit) } else { norm.apply(x) })
    }
}

impl<C: Compute> Model<C> {
    /// The norm before attention. Where it has two scales, its hook points have two units: that of queries and keys, and that
    /// of values.
    pub(crate) fn norm_before_attention(
        &self,
        layer: usize,
        block: &Block<C>,
        resid: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<AttentionInput<C>, Stop> {
        let [scale_at, normalized_at] = [Site::Ln1Scale, Site::Ln1Normalized].map(|site| HookPoint::Block(layer, site));
        let (Some(first), Some(second)) = (&block.ln1, &block.ln1_values) else {
            let queries_keys = Norm::pass(block.ln1.as_ref(), resid, scale_at, normalized_at, walk)?;
            return Ok(AttentionInput { queries_keys, values: None });
        };
        let of = |queries_keys, values| Ok(AttentionInput { queries_keys, values: Some(values) });
        if walk.wants(scale_at) || walk.wants(normalized_at) {
            let edited = walk.edits(scale_at) || walk.edits(normalized_at);
            let [rows, width] = resid.dims();
            let [one, other] = [first, second].map(|norm| norm.parts(resid.clone()));
            let scales = walk.visit(scale_at, Tensor::stack(vec![one.scale, other.scale], 1))?;
            let units = walk.visit(normalized_at, one.centered.reshape([rows, 1, width]) / scales)?;
            if edited {
                let unit = |index| units.clone().narrow(1, index, 1).reshape([rows, width]);
                return of(first.affine(unit(0)), second.affine(unit(1)));
            }
        }
        of(first.apply(resid.clone()), second.apply(resid))
    }

    /// What the last norm makes of residual streams, `[rows, d_model]` each: with [`Model::logits`], the logit lens.
    pub fn last_norm(&self, resid: Tensor<C, 2>) -> Tensor<C, 2> {
        match &self.ln_final {
            Some(norm) => norm.apply(resid),
            None => resid,
        }
    }
}
