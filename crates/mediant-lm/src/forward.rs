//! The forward pass, assembled from the parts that a config names.

use std::collections::BTreeSet;

use mediant_tensor::ops::{
    embedding, gelu_new, layer_norm, layer_norm_parts, linear, rms_norm, rms_norm_parts, silu_mul,
};
use mediant_tensor::{Compute, Int, Tensor, ops};

use crate::attention::Rotation;
use crate::model::{Block, Linear, Norm};
use crate::{Batch, Edit, Error, HookPoint, KvCache, Model, NormKind, Result, Site};

/// Receives activations as a pass reaches them. The shape is that of [`Edit`]'s activation.
pub type Reader<'a, C> = dyn FnMut(HookPoint, Tensor<C, 3>) -> Result<()> + 'a;

/// What to read and what to change during a pass. A reader sees what the edits at the same point leave; several edits at
/// one point apply in the order given. Reading changes no later bit.
pub struct Hooks<'a, C: Compute> {
    edits: Vec<(HookPoint, &'a dyn Edit<C>)>,
    points: BTreeSet<HookPoint>,
    reader: Option<&'a mut Reader<'a, C>>,
}

impl<'a, C: Compute> Hooks<'a, C> {
    /// Nothing.
    pub fn none() -> Self {
        Self { edits: Vec::new(), points: BTreeSet::new(), reader: None }
    }

    /// Also changes the activation at `point`.
    #[must_use]
    pub fn edit(mut self, point: HookPoint, edit: &'a dyn Edit<C>) -> Self {
        self.edits.push((point, edit));
        self
    }

    /// Hands the activations at `points` to `reader`, in the order of the pass.
    #[must_use]
    pub fn read<'b>(self, points: impl IntoIterator<Item = HookPoint>, reader: &'b mut Reader<'b, C>) -> Hooks<'b, C>
    where
        'a: 'b,
    {
        Hooks { edits: self.edits, points: points.into_iter().collect(), reader: Some(reader) }
    }
}

/// Why a pass ended before the last layer.
pub(crate) enum Stop {
    /// Everything that was asked for has been read.
    Done,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One pass under way.
pub(crate) struct Walk<'w, 'a, C: Compute> {
    pub(crate) batch: &'w Batch<C>,
    pub(crate) cache: Option<&'w mut KvCache<C>>,
    pub(crate) rotation: Option<Rotation<C>>,
    hooks: Hooks<'a, C>,
    /// Where to stop: the last point that is read, if nothing else is wanted.
    last: Option<HookPoint>,
}

impl<C: Compute> Walk<'_, '_, C> {
    /// Whether anybody changes the activation at this point.
    pub(crate) fn edits(&self, point: HookPoint) -> bool {
        self.hooks.edits.iter().any(|(at, _)| *at == point)
    }

    /// Whether anybody reads or changes the activation at this point.
    pub(crate) fn wants(&self, point: HookPoint) -> bool {
        self.hooks.points.contains(&point) || self.edits(point)
    }

    /// Passes a hook point with an activation `[rows, units, width]`.
    pub(crate) fn visit(&mut self, point: HookPoint, mut x: Tensor<C, 3>) -> Result<Tensor<C, 3>, Stop> {
        for (_, edit) in self.hooks.edits.iter().filter(|(at, _)| *at == point) {
            let shape = x.dims();
            x = edit.apply(point, x, self.batch)?;
            if x.dims() != shape {
                return Err(Error::Hook(format!("an edit at `{point}` gave shape {:?} for {shape:?}", x.dims())).into());
            }
        }
        if self.hooks.points.contains(&point)
            && let Some(reader) = &mut self.hooks.reader
        {
            reader(point, x.clone())?;
        }
        if self.last == Some(point) { Err(Stop::Done) } else { Ok(x) }
    }

    /// Passes a hook point with an activation `[rows, width]`.
    pub(crate) fn at(&mut self, point: HookPoint, x: Tensor<C, 2>) -> Result<Tensor<C, 2>, Stop> {
        if !self.wants(point) {
            return Ok(x);
        }
        let [rows, width] = x.dims();
        Ok(self.visit(point, x.reshape([rows, 1, width]))?.reshape([rows, width]))
    }
}

impl<C: Compute> Model<C> {
    /// Reads activations: computes up to the last point that is read and no further.
    ///
    /// # Errors
    /// [`Error::Hook`] for a point that the model does not have, and whatever a reader or an edit gives.
    pub fn read(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<()> {
        match hooks.points.last().copied() {
            Some(last) => self.pass(batch, hooks, Some(last), None).map(drop),
            None => Ok(()),
        }
    }

    /// The rows after the last norm `[rows, d_model]`: what the unembedding takes.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn hidden(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<Tensor<C, 2>> {
        self.goes_on(self.pass(batch, hooks, None, None))
    }

    /// [`Model::hidden`] for tokens that go on after those in a cache, which takes them up.
    pub(crate) fn hidden_after(&self, batch: &Batch<C>, cache: &mut KvCache<C>) -> Result<Tensor<C, 2>> {
        self.goes_on(self.pass(batch, Hooks::none(), None, Some(cache)))
    }

    fn goes_on(&self, end: Result<Option<Tensor<C, 2>>>) -> Result<Tensor<C, 2>> {
        end?.ok_or_else(|| Error::Hook("the pass ended early".to_owned()))
    }

    /// The logits `[rows, vocabulary]` of rows after the last norm.
    pub fn logits(&self, hidden: Tensor<C, 2>) -> Tensor<C, 2> {
        let unembed = self.unembedding().transpose();
        let rows = hidden.dims()[0];
        // The matrix library takes another path, with other last bits, when the product has at most 256 numbers or one row.
        let enough = 2.max(256 / self.config.vocab_size + 1);
        if rows >= enough {
            return hidden.matmul(unembed);
        }
        let padding = Tensor::zeros([enough - rows, self.config.d_model], &hidden.device());
        Tensor::cat(vec![hidden, padding], 0).matmul(unembed).narrow(0, 0, rows)
    }

    /// Cross-entropy in nats of every token but the first of each sequence, given those before it: sequence after
    /// sequence, each with one number less than it has tokens. Logits exist for a few rows at a time.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn losses(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<Vec<f32>> {
        const LOGITS_BYTES: usize = 64 << 20;
        let hidden = self.hidden(batch, hooks)?;
        let rows = batch.rows();
        let step = (LOGITS_BYTES / 4 / self.config.vocab_size).max(64);
        // Row r predicts the token of row r + 1; the last row of a sequence predicts nothing and is dropped below.
        let targets = Tensor::cat(vec![batch.ids().slice([0..1, 1..rows]), batch.ids().slice([0..1, 0..1])], 1);
        let targets: Tensor<C, 1, Int> = targets.reshape([rows]);
        let mut all = Vec::with_capacity(rows);
        for start in (0..rows).step_by(step) {
            let part = step.min(rows - start);
            let logits = self.logits(hidden.clone().narrow(0, start, part));
            let nll = ops::token_nll(logits, targets.clone().narrow(0, start, part));
            // `Compute` fixes the float element to f32, so the conversion cannot fail.
            all.extend(nll.into_data().into_vec::<f32>().unwrap_or_default());
        }
        Ok(batch.sequences().iter().flat_map(|s| &all[s.start..s.start + s.len - 1]).copied().collect())
    }

    /// The whole pass; `None` if it stopped at `last`.
    fn pass(
        &self,
        batch: &Batch<C>,
        hooks: Hooks<'_, C>,
        last: Option<HookPoint>,
        cache: Option<&mut KvCache<C>>,
    ) -> Result<Option<Tensor<C, 2>>> {
        let asked = hooks.points.iter().chain(hooks.edits.iter().map(|(point, _)| point));
        if let Some(point) = asked.into_iter().find(|point| !self.config.has_hook(**point)) {
            return Err(Error::Hook(format!(
                "this {} model has no hook point `{point}`",
                self.config.architecture.model_type
            )));
        }
        let rotation = Rotation::new(&self.config, batch);
        let mut walk = Walk { batch, cache, rotation, hooks, last };
        match self.all_layers(&mut walk) {
            Ok(hidden) => Ok(Some(hidden)),
            Err(Stop::Done) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn all_layers(&self, walk: &mut Walk<'_, '_, C>) -> Result<Tensor<C, 2>, Stop> {
        let rows_of =
            |table: &Tensor<C, 2>, ids| embedding(table.clone(), ids).reshape([walk.batch.rows(), self.config.d_model]);
        let embed = rows_of(&self.embed, walk.batch.ids());
        let positions = self.pos_embed.as_ref().map(|table| rows_of(table, walk.batch.positions()));
        let mut x = walk.at(HookPoint::Embed, embed)?;
        if let Some(positions) = positions {
            x = x + walk.at(HookPoint::PosEmbed, positions)?;
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            x = self.block(layer, block, x, walk)?;
        }
        self.norm(&self.ln_final, x, HookPoint::FinalScale, HookPoint::FinalNormalized, walk)
    }

    fn block(
        &self,
        layer: usize,
        block: &Block<C>,
        x: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        let x = walk.at(at(Site::ResidPre), x)?;
        let normalized = self.norm(&block.ln1, x.clone(), at(Site::Ln1Scale), at(Site::Ln1Normalized), walk)?;
        let z = self.attend(layer, block, normalized, walk)?;
        let attn_out = walk.at(at(Site::AttnOut), block.out.apply(z))?;
        let x = walk.at(at(Site::ResidMid), x + attn_out)?;
        let normalized = self.norm(&block.ln2, x.clone(), at(Site::Ln2Scale), at(Site::Ln2Normalized), walk)?;
        let post = match &block.gate {
            None => {
                let pre = walk.at(at(Site::MlpPre), block.up.apply(normalized))?;
                gelu_new(pre)
            }
            Some(gate) => {
                let pre = walk.at(at(Site::MlpPre), linear(normalized.clone(), gate.clone(), None))?;
                let up = walk.at(at(Site::MlpPreLinear), block.up.apply(normalized))?;
                silu_mul(pre, up)
            }
        };
        let post = walk.at(at(Site::MlpPost), post)?;
        let mlp_out = walk.at(at(Site::MlpOut), block.down.apply(post))?;
        walk.at(at(Site::ResidPost), x + mlp_out)
    }

    /// A norm with its two hook points. The fused kernel's result is used unless an edit stands inside the norm, so that
    /// reading there changes nothing.
    fn norm(
        &self,
        norm: &Norm<C>,
        x: Tensor<C, 2>,
        scale_at: HookPoint,
        normalized_at: HookPoint,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let eps = self.config.norm_eps;
        let weight = norm.weight.clone();
        let fused = |x| match &norm.bias {
            Some(bias) => layer_norm(x, weight.clone(), bias.clone(), eps),
            None => rms_norm(x, weight.clone(), eps),
        };
        if !walk.wants(scale_at) && !walk.wants(normalized_at) {
            return Ok(fused(x));
        }
        let edited = walk.edits(scale_at) || walk.edits(normalized_at);
        let parts = match self.config.norm {
            NormKind::Layer => layer_norm_parts(x.clone(), eps),
            NormKind::Rms => rms_norm_parts(x.clone(), eps),
        };
        let scale = walk.at(scale_at, parts.scale)?;
        let unit = walk.at(normalized_at, parts.centered / scale)?;
        Ok(match &norm.bias {
            _ if !edited => fused(x),
            Some(bias) => unit * weight.unsqueeze() + bias.clone().unsqueeze(),
            None => unit * weight.unsqueeze(),
        })
    }
}

impl<C: Compute> Linear<C> {
    pub(crate) fn apply(&self, x: Tensor<C, 2>) -> Tensor<C, 2> {
        linear(x, self.weight.clone(), self.bias.clone())
    }
}
