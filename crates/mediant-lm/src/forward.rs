//! Passes through a model: whole, in part, and on from where another came to.

use mediant_tensor::ops::embedding;
use mediant_tensor::{Compute, Int, Tensor, ops};

use crate::model::Norm;
use crate::walk::{Stop, Walk};
use crate::{Batch, Error, HookPoint, Hooks, KvCache, Model, Result, Rows};

/// How far a pass has come. It can go on from there as often as wanted ([`Model::advance`], [`Model::logits_from`]), with other edits each
/// time: what lies before is computed once.
#[derive(Clone, Debug)]
pub enum State<C: Compute> {
    /// Before the embeddings.
    Start,
    /// Before block `layer`, or before the last norm if there are no more blocks; `hook_resid_pre` comes next.
    Block {
        /// The block.
        layer: usize,
        /// The residual stream `[rows, d_model]`.
        resid: Tensor<C, 2>,
    },
    /// In block `layer`; `attn.hook_z` comes next.
    Heads {
        /// The block.
        layer: usize,
        /// The residual stream before the block, `[rows, d_model]`.
        resid: Tensor<C, 2>,
        /// The heads' weighted values, `[rows, heads, d_head]`.
        z: Tensor<C, 3>,
    },
    /// In block `layer`, after attention; `hook_resid_mid` comes next, in a model that has it.
    Mid {
        /// The block.
        layer: usize,
        /// The residual stream, `[rows, d_model]`.
        resid: Tensor<C, 2>,
        /// What attention adds, where the MLP does not read it (parallel blocks).
        beside: Option<Tensor<C, 2>>,
    },
}

/// A place that a pass can come to, as [`State`] describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before this block.
    Block(usize),
    /// In this block, before `attn.hook_z`.
    Heads(usize),
    /// In this block, after attention.
    Mid(usize),
}

impl Place {
    /// Where it stands in the order of a pass.
    fn order(self) -> (usize, u8) {
        match self {
            Self::Block(layer) => (layer, 0),
            Self::Heads(layer) => (layer, 1),
            Self::Mid(layer) => (layer, 2),
        }
    }

    /// The last place from which a pass still comes through `point`: what an edit there leaves unchanged lies before.
    pub fn before(point: HookPoint, layers: usize) -> Self {
        match point {
            HookPoint::Embed | HookPoint::PosEmbed => Self::Block(0),
            HookPoint::Block(layer, site) if site < crate::Site::Z => Self::Block(layer),
            HookPoint::Block(layer, site) if site < crate::Site::ResidMid => Self::Heads(layer),
            HookPoint::Block(layer, _) => Self::Mid(layer),
            HookPoint::FinalScale | HookPoint::FinalNormalized | HookPoint::Logits => Self::Block(layers),
        }
    }
}

impl<C: Compute> State<C> {
    fn order(&self) -> Option<(usize, u8)> {
        match self {
            Self::Start => None,
            Self::Block { layer, .. } => Some(Place::Block(*layer).order()),
            Self::Heads { layer, .. } => Some(Place::Heads(*layer).order()),
            Self::Mid { layer, .. } => Some(Place::Mid(*layer).order()),
        }
    }

    fn has_reached(&self, place: Place) -> bool {
        self.order() >= Some(place.order())
    }
}

impl<C: Compute> Model<C> {
    /// Reads activations: computes up to the last point that is read and no further.
    ///
    /// # Errors
    /// [`Error::Hook`] for a point that the model does not have, and whatever a reader or an edit gives.
    pub fn read(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<()> {
        let Some(last) = hooks.last_read() else { return Ok(()) };
        let mut walk = Walk::new(&self.config, batch, hooks, Rows::All)?;
        walk.stop_at = Some(last);
        match self.to_logits(State::Start, &mut walk) {
            Ok(_) | Err(Stop::Done) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// The rows after the last norm `[rows, d_model]`: what the unembedding takes.
    ///
    /// # Errors
    /// As [`Model::read`]; and for a hook at `logits`, which this does not come to.
    pub fn hidden(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<Tensor<C, 2>> {
        self.hidden_from(batch, State::Start, Rows::All, hooks)
    }

    /// The rows after the last norm, `[sequences, d_model]` for [`Rows::Last`], of a pass that goes on from `state`.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn hidden_from(
        &self,
        batch: &Batch<C>,
        state: State<C>,
        rows: Rows,
        hooks: Hooks<'_, C>,
    ) -> Result<Tensor<C, 2>> {
        self.without_logits(Walk::new(&self.config, batch, hooks, rows)?, state)
    }

    /// The last rows after the last norm `[sequences, d_model]`, for tokens that go on after those in a cache, which takes them up.
    pub(crate) fn hidden_after(
        &self,
        batch: &Batch<C>,
        cache: &mut KvCache<C>,
        hooks: Hooks<'_, C>,
    ) -> Result<Tensor<C, 2>> {
        let mut walk = Walk::new(&self.config, batch, hooks, Rows::Last)?;
        walk.cache = Some(cache);
        self.without_logits(walk, State::Start)
    }

    /// The logits `[rows, vocabulary]`, or `[sequences, vocabulary]` for [`Rows::Last`], of a pass that goes on from `state`.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn logits_from(
        &self,
        batch: &Batch<C>,
        state: State<C>,
        rows: Rows,
        hooks: Hooks<'_, C>,
    ) -> Result<Tensor<C, 2>> {
        let mut walk = Walk::new(&self.config, batch, hooks, rows)?;
        not_stopped(self.to_logits(state, &mut walk))
    }

    /// Goes on from `state` to a later place, through the hooks that lie between.
    ///
    /// # Errors
    /// As [`Model::read`]; and if `state` lies after `place`.
    pub fn advance(&self, batch: &Batch<C>, state: State<C>, place: Place, hooks: Hooks<'_, C>) -> Result<State<C>> {
        if state.order() > Some(place.order()) {
            return Err(Error::Hook(format!("a pass cannot go back to {place:?}")));
        }
        let mut walk = Walk::new(&self.config, batch, hooks, Rows::All)?;
        not_stopped(self.to_place(state, Some(place), &mut walk))
    }

    /// The logits `[rows, vocabulary]` of rows after the last norm.
    pub fn logits(&self, hidden: Tensor<C, 2>) -> Tensor<C, 2> {
        let unembed = self.unembedding().transpose();
        let rows = hidden.dims()[0];
        // The matrix library takes another path, with other last bits, when the product has at most 256 numbers or one row.
        let enough = 2.max(256 / self.config.vocab_size + 1);
        let logits = if rows >= enough {
            hidden.matmul(unembed)
        } else {
            let padding = Tensor::zeros([enough - rows, self.config.d_model], &hidden.device());
            Tensor::cat(vec![hidden, padding], 0).matmul(unembed).narrow(0, 0, rows)
        };
        let logits = match &self.unembed_bias {
            Some(bias) => logits + bias.clone().unsqueeze(),
            None => logits,
        };
        match self.config.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// Cross-entropy in nats of every token but the first of each sequence, given those before it: sequence after
    /// sequence, each with one number less than it has tokens. Logits exist for a few rows at a time.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn losses(&self, batch: &Batch<C>, hooks: Hooks<'_, C>) -> Result<Vec<f32>> {
        const LOGITS_BYTES: usize = 64 << 20;
        self.config.check_causal()?;
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

    fn without_logits(&self, mut walk: Walk<'_, '_, C>, state: State<C>) -> Result<Tensor<C, 2>> {
        if walk.wants(HookPoint::Logits) {
            return Err(Error::Hook(
                "`logits` cannot be read or changed here: they exist for a few rows at a time".into(),
            ));
        }
        not_stopped(self.to_hidden(state, &mut walk))
    }

    fn to_logits(&self, state: State<C>, walk: &mut Walk<'_, '_, C>) -> Result<Tensor<C, 2>, Stop> {
        let hidden = self.to_hidden(state, walk)?;
        let logits = walk.at(HookPoint::Logits, self.logits(hidden))?;
        Ok(walk.trim(None, logits))
    }

    fn to_hidden(&self, state: State<C>, walk: &mut Walk<'_, '_, C>) -> Result<Tensor<C, 2>, Stop> {
        let State::Block { resid, .. } = self.to_place(state, None, walk)? else {
            return Err(Error::Hook("the pass ended in the middle of a block".to_owned()).into());
        };
        let resid = walk.trim(Some(HookPoint::FinalScale), resid);
        let (scale, normalized) = (HookPoint::FinalScale, HookPoint::FinalNormalized);
        let hidden = Norm::pass(self.ln_final.as_ref(), resid, scale, normalized, walk)?;
        Ok(walk.trim(Some(HookPoint::Logits), hidden))
    }

    /// On to a place, or through all blocks.
    fn to_place(
        &self,
        mut state: State<C>,
        place: Option<Place>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<State<C>, Stop> {
        let end = place.unwrap_or(Place::Block(self.config.n_layers));
        while !state.has_reached(end) {
            state = match state {
                State::Start => State::Block { layer: 0, resid: self.embeddings(walk)? },
                State::Block { layer, resid } => {
                    let block = self.blocks.get(layer).ok_or_else(|| no_block(layer))?;
                    let (resid, z) = self.heads(layer, block, resid, walk)?;
                    State::Heads { layer, resid, z }
                }
                State::Heads { layer, resid, z } => {
                    let block = self.blocks.get(layer).ok_or_else(|| no_block(layer))?;
                    self.attention_out(layer, block, resid, z, walk)?
                }
                State::Mid { layer, resid, beside } => {
                    let block = self.blocks.get(layer).ok_or_else(|| no_block(layer))?;
                    State::Block { layer: layer + 1, resid: self.mlp(layer, block, resid, beside, walk)? }
                }
            };
        }
        Ok(state)
    }

    fn embeddings(&self, walk: &mut Walk<'_, '_, C>) -> Result<Tensor<C, 2>, Stop> {
        let rows_of =
            |table: &Tensor<C, 2>, ids| embedding(table.clone(), ids).reshape([walk.batch.rows(), self.config.d_model]);
        let embed = rows_of(&self.embed, walk.batch.ids());
        let embed = match self.config.embed_scale {
            Some(scale) => embed * scale,
            None => embed,
        };
        let positions = self.pos_embed.as_ref().map(|table| rows_of(table, walk.batch.positions()));
        let embed = walk.at(HookPoint::Embed, embed)?;
        Ok(match positions {
            Some(positions) => embed + walk.at(HookPoint::PosEmbed, positions)?,
            None => embed,
        })
    }
}

fn no_block(layer: usize) -> Error {
    Error::Hook(format!("the model has no block {layer}"))
}

fn not_stopped<T>(end: Result<T, Stop>) -> Result<T> {
    end.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Done => Error::Hook("the pass ended early".to_owned()),
    })
}
