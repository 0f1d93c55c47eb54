//! Attention with its hook points.

use std::ops::Range;

use mediant_tensor::burn::tensor::Bool;
use mediant_tensor::burn::tensor::activation::softmax;
use mediant_tensor::ops::{attention, attention_qkv, causal_softmax};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::walk::{Stop, Walk};
use crate::{Batch, HookPoint, LmConfig, Model, PositionKind, Site};

/// The rotation of queries and keys by their positions (Su et al. 2021), for the rows of one batch.
pub(crate) struct Rotation<C: Compute> {
    queries: Angles<C>,
    keys: Angles<C>,
}

/// Cosines and sines for every number of a row `[rows, heads · d_head]`. Each angle stands twice in a head, once for each
/// half, the sine with a minus in the first; where nothing is rotated they are 1 and 0.
struct Angles<C: Compute> {
    cos: Tensor<C, 2>,
    sin: Tensor<C, 2>,
    /// How many of a head's numbers are rotated.
    dims: usize,
}

impl<C: Compute> Rotation<C> {
    pub(crate) fn new(config: &LmConfig, batch: &Batch<C>) -> Option<Self> {
        let PositionKind::Rotary { theta, dims } = config.positions else {
            return None;
        };
        let (half, still) = (dims / 2, config.d_head - dims);
        // In f32, as transformers computes them: at far positions the rounding of the angle is visible.
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / dims as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let table: Vec<(f32, f32)> = (0..batch.keys())
            .flat_map(|position| frequencies.iter().map(move |f| (position as f32 * f).sin_cos()))
            .collect();
        let head = |first: fn(&(f32, f32)) -> f32, second: fn(&(f32, f32)) -> f32, rest: f32| {
            let positions = batch.sequences().iter().flat_map(|s| s.past..s.past + s.len);
            let values = positions.flat_map(|position| {
                let angles = &table[position * half..(position + 1) * half];
                angles.iter().map(first).chain(angles.iter().map(second)).chain(std::iter::repeat_n(rest, still))
            });
            let values: Vec<f32> = values.collect();
            Tensor::from_data(TensorData::new(values, [batch.rows(), config.d_head]), &batch.device())
        };
        let (cos, sin): (Tensor<C, 2>, Tensor<C, 2>) = (head(|a| a.1, |a| a.1, 1.0), head(|a| -a.0, |a| a.0, 0.0));
        let angles =
            |heads| Angles { cos: cos.clone().repeat_dim(1, heads), sin: sin.clone().repeat_dim(1, heads), dims };
        Some(Self { queries: angles(config.n_heads), keys: angles(config.n_kv_heads) })
    }
}

impl<C: Compute> Angles<C> {
    /// `(a, b) ↦ (a cos − b sin, b cos + a sin)` on the halves of what is rotated of each head of `[rows, heads, d_head]`.
    fn apply(&self, x: Tensor<C, 3>) -> Tensor<C, 3> {
        let [rows, heads, d_head] = x.dims();
        let (half, still) = (self.dims / 2, d_head - self.dims);
        let mut swapped = vec![x.clone().narrow(2, half, half), x.clone().narrow(2, 0, half)];
        if still > 0 {
            swapped.push(x.clone().narrow(2, self.dims, still));
        }
        let swapped = Tensor::cat(swapped, 2);
        let flat = [rows, heads * d_head];
        let turned = x.reshape(flat) * self.cos.clone() + swapped.reshape(flat) * self.sin.clone();
        turned.reshape([rows, heads, d_head])
    }

    /// For the last rows of each sequence alone.
    fn last(&self, walk: &Walk<'_, '_, C>) -> Self {
        Self { cos: walk.last_rows(self.cos.clone()), sin: walk.last_rows(self.sin.clone()), dims: self.dims }
    }
}

/// Neighbouring sequences of one length, and the keys they see.
struct Group<C: Compute> {
    /// `[sequences, queries, heads, d_head]`; the last query stands at the last key.
    q: Tensor<C, 4>,
    /// `[sequences, keys, kv_heads, d_head]`
    k: Tensor<C, 4>,
    v: Tensor<C, 4>,
}

impl<C: Compute> Model<C> {
    /// From queries, keys and values side by side, `[rows, …]`, to the heads' weighted values `[rows, heads, d_head]`.
    pub(crate) fn attend(
        &self,
        layer: usize,
        qkv: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 3>, Stop> {
        let config = &self.config;
        let at = |site| HookPoint::Block(layer, site);
        let (heads, kv_heads, d_head) = (config.n_heads, config.n_kv_heads, config.d_head);
        let rows = walk.batch.rows();
        let inside = [Site::Q, Site::K, Site::V, Site::AttnScores, Site::Pattern];
        let packed =
            walk.rotation.is_none() && walk.cache.is_none() && heads == kv_heads && !self.explicit(layer, walk);
        if packed && !inside.into_iter().any(|site| walk.wants(at(site))) {
            let lengths: Vec<usize> = walk.batch.sequences().iter().map(|sequence| sequence.len).collect();
            let z = attention_qkv(qkv, &lengths, heads, config.attention_scale);
            return Ok(z.reshape([rows, heads, d_head]));
        }
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
        self.weighted(layer, groups, walk)
    }

    /// [`Self::attend`] for the queries of the last rows of each sequence, `[sequences, heads · d_head]`, over keys and values
    /// side by side, `[rows, …]`, past the hook points inside.
    pub(crate) fn attend_last(
        &self,
        q: Tensor<C, 2>,
        keys_values: &Tensor<C, 2>,
        layer: usize,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 3>, Stop> {
        let (heads, kv_heads, d_head) = (self.config.n_heads, self.config.n_kv_heads, self.config.d_head);
        let [sequences, rows] = [q.dims()[0], walk.batch.rows()];
        let part = |index: usize| {
            let size = kv_heads * d_head;
            keys_values.clone().narrow(1, index * size, size).reshape([rows, kv_heads, d_head])
        };
        let (mut q, mut k, v) = (q.reshape([sequences, heads, d_head]), part(0), part(1));
        if let Some(rotation) = &walk.rotation {
            (q, k) = (rotation.queries.last(walk).apply(q), rotation.keys.apply(k));
        }
        let groups = group(layer, &q, &k, &v, walk);
        self.weighted(layer, groups, walk)
    }

    /// The heads' weighted values of all groups, one below the other.
    fn weighted(&self, layer: usize, groups: Vec<Group<C>>, walk: &mut Walk<'_, '_, C>) -> Result<Tensor<C, 3>, Stop> {
        let patterns = self.patterns(layer, &groups, walk)?;
        let parts = groups.into_iter().zip(patterns).map(|(group, pattern)| {
            let [count, queries, heads, d_head] = group.q.dims();
            let z = match pattern {
                Some(pattern) => weighted_values(pattern, group.v),
                None => attention(group.q, group.k, group.v, self.config.attention_scale),
            };
            z.reshape([count * queries, heads, d_head])
        });
        Ok(join(parts.collect(), 0))
    }

    /// Whether attention of this layer is other than a softmax over all earlier keys, so that its scores are written out.
    fn explicit(&self, layer: usize, walk: &Walk<'_, '_, C>) -> bool {
        let window = self.config.window(layer).is_some_and(|window| window < walk.batch.keys());
        let config = &self.config;
        window || config.attention_softcap.is_some() || !config.causal || config.softmax_share.is_some()
    }

    /// The attention pattern of each group `[sequences, heads, queries, keys]` where it differs from what the fused kernel
    /// computes, because of the model or of an edit; reading scores or patterns happens on the way.
    fn patterns(
        &self,
        layer: usize,
        groups: &[Group<C>],
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Vec<Option<Tensor<C, 4>>>, Stop> {
        let (scores_at, pattern_at) =
            (HookPoint::Block(layer, Site::AttnScores), HookPoint::Block(layer, Site::Pattern));
        let explicit = self.explicit(layer, walk);
        if !explicit && !walk.wants(scores_at) && !walk.wants(pattern_at) {
            return Ok(groups.iter().map(|_| None).collect());
        }
        let keys = walk.batch.keys();
        let mut scores: Vec<_> = groups.iter().map(|group| self.masked_scores(group, layer)).collect();
        if walk.wants(scores_at) {
            let rows = walk.visit(scores_at, to_rows(&scores, keys, f32::NEG_INFINITY))?;
            if walk.edits(scores_at) {
                scores = from_rows(&rows, &scores);
            }
        }
        let written_out = explicit || walk.edits(scores_at);
        let softmax = |scores| if written_out { softmax(scores, 3) } else { causal_softmax(scores) };
        let mixed = |pattern: Tensor<C, 4>| match self.config.softmax_share {
            Some(share) => pattern * share + (1.0 - share),
            None => pattern,
        };
        let mut patterns: Vec<_> = scores.into_iter().map(|scores| mixed(softmax(scores))).collect();
        if walk.wants(pattern_at) {
            let rows = walk.visit(pattern_at, to_rows(&patterns, keys, 0.0))?;
            if walk.edits(pattern_at) {
                patterns = from_rows(&rows, &patterns);
            }
        }
        let used = written_out || walk.edits(pattern_at);
        Ok(patterns.into_iter().map(|pattern| used.then_some(pattern)).collect())
    }

    /// Scaled and capped products of queries and keys, −∞ where the key lies after the query (of a causal model) or before its window:
    /// `[sequences, heads, queries, keys]`.
    fn masked_scores(&self, group: &Group<C>, layer: usize) -> Tensor<C, 4> {
        let [count, queries, heads, d_head] = group.q.dims();
        let [_, keys, kv_heads, _] = group.k.dims();
        // The query heads of one key head stand under each other, so that each key head is one product.
        let q = group.q.clone().swap_dims(1, 2).reshape([count, kv_heads, heads / kv_heads * queries, d_head]);
        let scores = q.matmul(group.k.clone().permute([0, 2, 3, 1])).reshape([count, heads, queries, keys]);
        let scores = scores * self.config.attention_scale;
        let scores = match self.config.attention_softcap {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        let window = self.config.window(layer).unwrap_or(keys);
        let hidden = |query: usize, key: usize| {
            let position = query + keys - queries;
            (self.config.causal && key > position) || key + window <= position
        };
        let hidden: Vec<bool> = (0..queries).flat_map(|query| (0..keys).map(move |key| hidden(query, key))).collect();
        let hidden = Tensor::<C, 4, Bool>::from_data(TensorData::new(hidden, [1, 1, queries, keys]), &scores.device());
        scores.mask_fill(hidden.expand([count, heads, queries, keys]), f32::NEG_INFINITY)
    }
}

/// Puts queries, keys and values together by sequence, with what a cache holds before them. There is a query for every row,
/// or for the last of each sequence.
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
    let every = q.dims()[0] == batch.rows();
    let mut first = 0;
    let mut next = |count: usize, rows: Range<usize>| {
        let queries = if every { rows.clone() } else { first..first + count };
        first += count;
        (by_sequence(q, &queries, count), by_sequence(k, &rows, count), by_sequence(v, &rows, count))
    };
    match &mut walk.cache {
        None => {
            let groups = batch.groups().map(|group| {
                let rows = group[0].start..group[0].start + group.len() * group[0].len;
                let (q, k, v) = next(group.len(), rows);
                Group { q, k, v }
            });
            groups.collect()
        }
        Some(cache) => {
            let groups = batch.sequences().iter().enumerate().map(|(index, sequence)| {
                let (q, k, v) = next(1, sequence.rows());
                let (k, v) = cache.extend(layer, index, k, v);
                Group { q, k, v }
            });
            groups.collect()
        }
    }
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
