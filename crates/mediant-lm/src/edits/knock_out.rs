use mediant_tensor::burn::tensor::Bool;
use mediant_tensor::{Compute, Tensor, TensorData};

use super::Edit;
use crate::{Batch, Error, HookPoint, Positions, Result, Site};

/// Keeps queries from attending to keys: their scores become −∞ (Geva et al. 2023, arXiv:2304.14767). At
/// `attn.hook_attn_scores`.
#[derive(Clone, Debug)]
pub struct KnockOut {
    /// Which positions no longer look.
    pub queries: Positions,
    /// What they no longer look at.
    pub keys: Positions,
    /// In which heads; all if none are listed.
    pub heads: Option<Vec<usize>>,
}

impl<C: Compute> Edit<C> for KnockOut {
    fn apply(&self, point: HookPoint, scores: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        if point.site() != Some(Site::AttnScores) {
            return Err(Error::Hook(format!("attention is knocked out at `attn.hook_attn_scores`, not at `{point}`")));
        }
        let [rows, heads, keys] = scores.dims();
        let (from, to) = (self.queries.rows(batch)?, self.keys.rows(batch)?);
        if let Some(beyond) = self.heads.iter().flatten().find(|&&head| head >= heads) {
            return Err(Error::Hook(format!("`{point}` has no head {beyond}; it has {heads}")));
        }
        let mut cut = vec![false; rows * keys];
        for s in batch.sequences() {
            // A key in the cache has no row of its own here, so what is selected by name or length is asked of the positions.
            let key_is_cut = |key: usize| {
                if key < s.past { self.keys.includes(key, s.past + s.len) } else { to[s.start + key - s.past] }
            };
            for query in (0..s.len).filter(|query| from[s.start + query]) {
                let seen = s.past + query + 1;
                let row = &mut cut[(s.start + query) * keys..][..keys];
                row[..seen].iter_mut().enumerate().for_each(|(key, cut)| *cut = key_is_cut(key));
                if row[..seen].iter().all(|cut| *cut) {
                    let why = format!("position {} would be left without any key to attend to", s.past + query);
                    return Err(Error::Hook(why));
                }
            }
        }
        let cut = Tensor::<C, 3, Bool>::from_data(TensorData::new(cut, [rows, 1, keys]), &scores.device());
        let mut mask = cut.expand([rows, heads, keys]);
        if let Some(list) = &self.heads {
            let chosen: Vec<bool> = (0..heads).map(|head| list.contains(&head)).collect();
            let chosen = Tensor::<C, 3, Bool>::from_data(TensorData::new(chosen, [1, heads, 1]), &scores.device());
            mask = mask.bool_and(chosen.expand([rows, heads, keys]));
        }
        Ok(scores.mask_fill(mask, f32::NEG_INFINITY))
    }
}
