//! Attention with its hook points.

use std::ops::Range;

use mediant_tensor::burn::tensor::Bool;
use mediant_tensor::burn::tensor::activation::softmax;
use mediant_tensor::ops::{attention, attention_qkv, causal_softmax};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::forward::{Stop, Walk};
use crate::model::Block;
use crate::{Batch, HookPoint, LmConfig, Model, PositionKind, Site};

/// The rotation of queries and keys by their positions (Su et al. 2021), for the rows of one batch.
pub(crate) struct Rotation<C: Compute> {
    queries: Angles<C>,
    keys: Angles<C>,
}

/// Cosines and sines for every number of a row `[rows, heads · d_head]`. Each angle stands twice in a head, once for each
/// half, the sine with a minus in the first.
struct Angles<C: Compute> {
    cos: Tensor<C, 2>,
    sin: Tensor<C, 2>,
}

impl<C: Compute> Rotation<C> {
    pub(crate) fn new(config: &LmConfig, batch: &Batch<C>) -> Option<Self> {
        let PositionKind::Rotary { theta } = config.positions else {
            return None;
        };
        let half = config.d_head / 2;
        // In f32, as transformers computes them: at far positions the rounding of the angle is visible.
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / config.d_head as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let table: Vec<(f32, f32)> = (0..batch.keys())
            .flat_map(|position| frequencies.iter().map(move |f| (position as f32 * f).sin_cos()))
            .collect();
        let head = |first: fn(&(f32, f32)) -> f32, second: fn(&(f32, f32)) -> f32| {
            let positions = batch.sequences().iter().flat_map(|s| s.past..s.past + s.len);
            let values = positions.flat_map(|position| {
                let angles = &table[position * half..(position + 1) * half];
                angles.iter().map(first).chain(angles.iter().map(second))
            });
            let values: Vec<f32> = values.collect();
            Tensor::from_data(TensorData::new(values, [batch.rows(), 2 * half]), &batch.device())
        };
        let (cos, sin): (Tensor<C, 2>, Tensor<C, 2>) = (head(|a| a.1, |a| a.1), head(|a| -a.0, |a| a.0));
        let angles = |heads| Angles { cos: cos.clone().repeat_dim(1, heads), sin: sin.clone().repeat_dim(1, heads) };
        Some(Self { queries: angles(config.n_heads), keys: angles(config.n_kv_heads) })
    }
}

impl<C: Compute> Angles<C> {
    /// `(a, b) ↦ (a cos − b sin, b cos + a sin)` on the halves of each head of `[rows, heads, d_head]`.
    fn apply(&self, x: Tensor<C, 3>) -> Tensor<C, 3> {
        let [rows, heads, d_head] = x.dims();
        let halves = x.clone().reshape([rows * heads, 2, d_head / 2]);
        let swapped = Tensor::cat(vec![halves.clone().narrow(1, 1, 1), halves.narrow(1, 0, 1)], 1);
        let flat = [rows, heads * d_head];
        let turned = x.reshape(flat) * self.cos.clone() + swapped.reshape(flat) * self.sin.clone();
        turned.reshape([rows, heads, d_head])
    }
}

/// Neighbouring sequences of one length, and the keys they see.
struct Group<C: Compute> {
    rows: Range<usize>,
    /// `[sequences, queries, heads, d_head]`
    q: Tensor<C, 4>,
    /// `[sequences, keys, kv_heads, d_head]`
    k: Tensor<C, 4>,
    v: Tensor<C, 4>,
}

impl<C: Compute> Model<C> {
    /// From the normalised rows to the heads' weighted values `[rows, heads · d_head]`.
    pub(crate) fn attend(
        &self,
        layer: usize,
        block: &Block<C>,
        x: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let config = &self.config;
        let at = |site| HookPoint::Block(layer, site);
        let rows = walk.batch.rows();
        let qkv = block.qkv.apply(x);
        let inside = [Site::Q, Site::K, Site::V, Site::AttnScores, Site::Pattern];
        let plain = walk.rotation.is_none() && walk.cache.is_none() && config.n_heads == config.n_kv_heads;
        let z = if plain && !inside.into_iter().any(|site| walk.wants(at(site))) {
            self.packed_attention(qkv, walk.batch).reshape([rows, config.n_heads, config.d_head])
        } else {
            self.open_attention(layer, &qkv, walk)?
        };
        let z = if walk.wants(at(Site::Z)) { walk.visit(at(Site::Z), z)? } else { z };
        Ok(z.reshape([rows, config.n_heads * config.d_head]))
    }

    /// Attention that nobody looks into.
    fn packed_attention(&self, qkv: Tensor<C, 2>, batch: &Batch<C>) -> Tensor<C, 2> {
        let lengths: Vec<usize> = batch.sequences().iter().map(|sequence| sequence.len).collect();
        attention_qkv(qkv, &lengths, self.config.n_heads, self.config.attention_scale())
    }

    /// Attention in steps, through its hook points; `[rows, heads, d_head]`.
    fn open_attention(
        &self,
        layer: usize,
        qkv: &Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 3>, Stop> {
        let config = &self.config;
        let at = |site| HookPoint::Block(layer, site);
        let (heads, kv_heads, d_head) = (config.n_heads, config.n_kv_heads, config.d_head);
        let rows = walk.batch.rows();
        let part = |first: usize, count: usize| {
            qkv.clone().narrow(1, first * d_head, count * d_head).reshape([rows, count, d_head])
        };
        let mut q = walk.visit(at(Site::Q), part(0, heads))?;
        let mut k = walk.visit(at(Site::K), part(heads, kv_heads))?;
        let v = walk.visit(at(Site::V), part(heads + kv_heads, kv_heads))?;
        if let Some(rotation) = &walk.rotation {
            (q, k) = (rotation.queries.apply(q), rotation.keys.apply(k));
            q = walk.visit(at(Site::RotQ), q)?;
            k = walk.visit(at(Site::RotK), k)?;
        }
        let groups = group(layer, &q, &k, &v, walk);
        let patterns = self.patterns(layer, &groups, walk)?;
        let parts = groups.into_iter().zip(patterns).map(|(group, pattern)| {
            let z = match pattern {
                Some(pattern) => weighted_values(pattern, group.v),
                None => attention(group.q, group.k, group.v, config.attention_scale()),
            };
            z.reshape([group.rows.len(), heads, d_head])
        });
        Ok(join(parts.collect(), 0))
    }

    /// The attention pattern of each group `[sequences, heads, queries, keys]` where an edit makes it differ from what the
    /// fused kernel computes; reading scores or patterns happens on the way.
    fn patterns(
        &self,
        layer: usize,
        groups: &[Group<C>],
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Vec<Option<Tensor<C, 4>>>, Stop> {
        let (scores_at, pattern_at) =
            (HookPoint::Block(layer, Site::AttnScores), HookPoint::Block(layer, Site::Pattern));
        if !walk.wants(scores_at) && !walk.wants(pattern_at) {
            return Ok(groups.iter().map(|_| None).collect());
        }
        let keys = walk.batch.keys();
        let scale = self.config.attention_scale();
        let mut scores: Vec<_> = groups.iter().map(|group| masked_scores(group, scale)).collect();
        if walk.wants(scores_at) {
            let rows = walk.visit(scores_at, to_rows(&scores, keys, f32::NEG_INFINITY))?;
            if walk.edits(scores_at) {
                scores = from_rows(&rows, &scores);
            }
        }
        let softmax = |scores| if walk.edits(scores_at) { softmax(scores, 3) } else { causal_softmax(scores) };
        let mut patterns: Vec<_> = scores.into_iter().map(softmax).collect();
        if walk.wants(pattern_at) {
            let rows = walk.visit(pattern_at, to_rows(&patterns, keys, 0.0))?;
            if walk.edits(pattern_at) {
                patterns = from_rows(&rows, &patterns);
            }
        }
        let edited = walk.edits(scores_at) || walk.edits(pattern_at);
        Ok(patterns.into_iter().map(|pattern| edited.then_some(pattern)).collect())
    }
}

/// Puts queries, keys and values together by sequence, with what a cache holds before them.
fn group<C: Compute>(
    layer: usize,
    q: &Tensor<C, 3>,
    k: &Tensor<C, 3>,
    v: &Tensor<C, 3>,
    walk: &mut Walk<'_, '_, C>,
) -> Vec<Group<C>> {
    let by_sequence = |x: &Tensor<C, 3>, rows: &Range<usize>, count: usize| {
        let [_, heads, d_head] = x.dims();
        take_rows(x, rows).reshape([count, rows.len() / count, heads, d_head])
    };
    let batch = walk.batch;
    match &mut walk.cache {
        None => batch
            .groups()
            .map(|group| (group[0].start..group[0].start + group.len() * group[0].len, group.len()))
            .map(|(rows, count)| {
                let [q, k, v] = [q, k, v].map(|x| by_sequence(x, &rows, count));
                Group { rows, q, k, v }
            })
            .collect(),
        Some(cache) => batch
            .sequences()
            .iter()
            .enumerate()
            .map(|(index, sequence)| {
                let rows = sequence.rows();
                let [q, k, v] = [q, k, v].map(|x| by_sequence(x, &rows, 1));
                let (k, v) = cache.extend(layer, index, k, v);
                Group { rows, q, k, v }
            })
            .collect(),
    }
}

/// Scaled products of queries and keys, −∞ where the key lies after the query: `[sequences, heads, queries, keys]`.
fn masked_scores<C: Compute>(group: &Group<C>, scale: f32) -> Tensor<C, 4> {
    let [count, queries, heads, d_head] = group.q.dims();
    let [_, keys, kv_heads, _] = group.k.dims();
    // The query heads of one key head stand under each other, so that each key head is one product.
    let q = group.q.clone().swap_dims(1, 2).reshape([count, kv_heads, heads / kv_heads * queries, d_head]);
    let scores = q.matmul(group.k.clone().permute([0, 2, 3, 1])).reshape([count, heads, queries, keys]);
    let later: Vec<bool> =
        (0..queries).flat_map(|query| (0..keys).map(move |key| key > query + keys - queries)).collect();
    let later = Tensor::<C, 4, Bool>::from_data(TensorData::new(later, [1, 1, queries, keys]), &scores.device());
    (scores * scale).mask_fill(later.expand([count, heads, queries, keys]), f32::NEG_INFINITY)
}

/// `pattern · v` for each head: `[sequences, queries, heads, d_head]`.
fn weighted_values<C: Compute>(pattern: Tensor<C, 4>, v: Tensor<C, 4>) -> Tensor<C, 4> {
    let [count, heads, queries, keys] = pattern.dims();
    let [_, _, kv_heads, d_head] = v.dims();
    let pattern = pattern.reshape([count, kv_heads, heads / kv_heads * queries, keys]);
    pattern.matmul(v.swap_dims(1, 2)).reshape([count, heads, queries, d_head]).swap_dims(1, 2)
}

/// Attention maps `[sequences, heads, queries, keys]` as rows `[rows, heads, all keys]`, filled up beyond each one's keys.
fn to_rows<C: Compute>(maps: &[Tensor<C, 4>], all_keys: usize, fill: f32) -> Tensor<C, 3> {
    let parts = maps.iter().map(|map| {
        let [count, heads, queries, keys] = map.dims();
        let rows = map.clone().swap_dims(1, 2).reshape([count * queries, heads, keys]);
        if keys == all_keys {
            return rows;
        }
        let filler = Tensor::full([count * queries, heads, all_keys - keys], fill, &map.device());
        Tensor::cat(vec![rows, filler], 2)
    });
    join(parts.collect(), 0)
}

/// The inverse of [`to_rows`], with shapes as `like`.
fn from_rows<C: Compute>(rows: &Tensor<C, 3>, like: &[Tensor<C, 4>]) -> Vec<Tensor<C, 4>> {
    let mut start = 0;
    let mut take = |map: &Tensor<C, 4>| {
        let [count, heads, queries, keys] = map.dims();
        let part = rows.clone().narrow(0, start, count * queries).narrow(2, 0, keys);
        start += count * queries;
        part.reshape([count, queries, heads, keys]).swap_dims(1, 2)
    };
    like.iter().map(&mut take).collect()
}

fn take_rows<C: Compute, const D: usize>(x: &Tensor<C, D>, rows: &Range<usize>) -> Tensor<C, D> {
    if rows.len() == x.dims()[0] { x.clone() } else { x.clone().narrow(0, rows.start, rows.len()) }
}

fn join<C: Compute, const D: usize>(mut parts: Vec<Tensor<C, D>>, dim: usize) -> Tensor<C, D> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, dim) }
}
