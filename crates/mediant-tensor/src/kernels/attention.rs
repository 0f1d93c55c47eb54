use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::build::{build_parts, dispatch};
use super::softmax::{softmax_row, softmax_row_backward, visible};
use super::tile::{Left, Panel, multiply};

/// Queries whose pattern is in memory at a time.
const BLOCK: usize = 64;

/// Vectors of `width` elements by (batch, position, head) in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub data: &'a [f32],
    pub positions: usize,
    pub heads: usize,
    pub width: usize,
    /// From one position to the next.
    pub stride: usize,
    /// Where the first vector stands.
    pub offset: usize,
}

impl<'a> Heads<'a> {
    fn vector(&self, batch: usize, position: usize, head: usize) -> &'a [f32] {
        let row = batch * self.positions + position;
        &self.data[row * self.stride + self.offset + head * self.width..][..self.width]
    }

    fn vectors(self, batch: usize, positions: Range<usize>, head: usize) -> Vec<&'a [f32]> {
        positions.map(|position| self.vector(batch, position, head)).collect()
    }
}

/// Causal attention; see `ops::attention`. Returns `[batch, queries, heads, width]`.
pub(crate) fn attention(batch: usize, q: Heads, k: Heads, v: Heads, scale: f32) -> Vec<f32> {
    let blocks: Vec<(usize, Range<usize>)> =
        (0..batch).flat_map(|b| query_blocks(q.positions).map(move |rows| (b, rows))).collect();
    let row = q.heads * q.width;
    let sizes = blocks.iter().map(|(_, rows)| rows.len() * row);
    let (z, _) = build_parts(sizes, |task, out| {
        let (batch, rows) = blocks[task].clone();
        dispatch(Forward { batch, rows, q, k, v, scale, out });
    });
    z
}

fn query_blocks(queries: usize) -> impl Iterator<Item = Range<usize>> {
    (0..queries).step_by(BLOCK).map(move |from| from..(from + BLOCK).min(queries))
}

/// One block of queries of one sequence, all heads.
struct Forward<'a, 'o> {
    batch: usize,
    rows: Range<usize>,
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    scale: f32,
    out: &'o mut [f32],
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { batch, q, k, v, .. } = self;
        let group = q.heads / k.heads;
        let seen = visible(self.rows.end - 1, q.positions, k.positions);
        let (mut keys, mut values) = (Panel::default(), Panel::default());
        let (mut pattern, mut z) = (Panel::default(), Panel::default());
        for head in 0..q.heads {
            if head % group == 0 {
                keys.fill_transposed(&k.vectors(batch, 0..seen, head / group), k.width);
                values.fill(&v.vectors(batch, 0..seen, head / group), v.width);
            }
            let queries = Queries::new(q, batch, head, self.rows.clone(), k.positions);
            queries.pattern(simd, &mut pattern, &keys, self.scale);
            z.resize(self.rows.len(), v.width);
            queries.times(simd, &mut z, v.width, &pattern, &values);
            for i in 0..self.rows.len() {
                let at = (i * q.heads + head) * v.width;
                self.out[at..at + v.width].copy_from_slice(&z.row(i)[..v.width]);
            }
        }
    }
}

/// The queries of one head in one block.
struct Queries<'a> {
    vectors: Vec<&'a [f32]>,
    /// How many keys each sees.
    seen: Vec<usize>,
}

impl<'a> Queries<'a> {
    fn new(q: Heads<'a>, batch: usize, head: usize, rows: Range<usize>, keys: usize) -> Self {
        Self {
            vectors: q.vectors(batch, rows.clone(), head),
            seen: rows.map(|i| visible(i, q.positions, keys)).collect(),
        }
    }

    /// Groups of rows that are worked on together, and the keys that the last of them sees.
    fn groups(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        (0..self.seen.len()).step_by(8).map(|from| {
            let rows = from..(from + 8).min(self.seen.len());
            (rows.clone(), self.seen[rows.end - 1])
        })
    }

    fn keys(&self) -> usize {
        self.seen[self.seen.len() - 1]
    }

    /// `softmax(scale · q kᵀ)`; 0 where a key is not seen.
    #[inline(always)]
    fn pattern<S: Simd>(&self, simd: S, pattern: &mut Panel, keys: &Panel, scale: f32) {
        pattern.resize(self.seen.len(), self.keys());
        for (rows, seen) in self.groups() {
            let inner = 0..self.vectors[0].len();
            multiply(simd, (pattern, rows.clone(), seen), Left::Rows(&self.vectors), inner, keys, false);
            for i in rows {
                let (row, hidden) = pattern.row_mut(i).split_at_mut(self.seen[i]);
                for x in row.iter_mut() {
                    *x *= scale;
                }
                softmax_row(row);
                hidden.fill(0.0);
            }
        }
    }

    /// `out = weights · vectors`, where row i of the weights is 0 past the keys it sees.
    #[inline(always)]
    fn times<S: Simd>(&self, simd: S, out: &mut Panel, cols: usize, weights: &Panel, vectors: &Panel) {
        for (rows, seen) in self.groups() {
            multiply(simd, (out, rows, cols), Left::Panel(weights), 0..seen, vectors, false);
        }
    }
}

/// Which input a gradient belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    Query,
    Key,
    Value,
}

/// Gradients of [`attention`]; `out` has a place for each sequence.
pub(crate) fn attention_backward(q: Heads, k: Heads, v: Heads, grad: Heads, scale: f32, out: Vec<GradientsMut>) {
    out.into_par_iter().enumerate().for_each(|(batch, out)| {
        dispatch(Backward { batch, q, k, v, grad, scale, out });
    });
}

/// Where the gradients of one sequence go.
pub(crate) enum GradientsMut<'o> {
    /// Rows of queries, keys and values side by side, `[positions, 3 · heads · width]`.
    Packed(&'o mut [f32]),
    /// Three slices, each `[positions, heads, width]`.
    Apart(&'o mut [f32], &'o mut [f32], &'o mut [f32]),
}

impl GradientsMut<'_> {
    /// `heads` of that input.
    fn write(&mut self, input: Input, heads: usize, position: usize, head: usize, x: &[f32]) {
        let row = heads * x.len();
        let at = head * x.len();
        let (data, at) = match (self, input) {
            (Self::Packed(data), _) => {
                let part = input as usize;
                (&mut **data, (position * 3 + part) * row + at)
            }
            (Self::Apart(data, _, _), Input::Query)
            | (Self::Apart(_, data, _), Input::Key)
            | (Self::Apart(_, _, data), Input::Value) => (&mut **data, position * row + at),
        };
        data[at..at + x.len()].copy_from_slice(x);
    }
}

/// One sequence, all heads.
struct Backward<'a, 'o> {
    batch: usize,
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    grad: Heads<'a>,
    scale: f32,
    out: GradientsMut<'o>,
}

impl WithSimd for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Self { batch, q, k, v, grad, scale, .. } = self;
        let group = q.heads / k.heads;
        let mut panels = Panels::default();
        for kv_head in 0..k.heads {
            let [keys, values] = [k, v].map(|x| x.vectors(batch, 0..k.positions, kv_head));
            panels.start_head(&keys, &values, k.width);
            for head in kv_head * group..(kv_head + 1) * group {
                for rows in query_blocks(q.positions) {
                    let queries = Queries::new(q, batch, head, rows.clone(), k.positions);
                    let grads = Queries::new(grad, batch, head, rows.clone(), k.positions);
                    panels.block(simd, &queries, &grads, q.width, scale);
                    for (i, position) in rows.enumerate() {
                        let x = &panels.for_queries.row(i)[..q.width];
                        self.out.write(Input::Query, q.heads, position, head, x);
                    }
                }
            }
            for position in 0..k.positions {
                let x = &panels.for_keys.row(position)[..k.width];
                self.out.write(Input::Key, k.heads, position, kv_head, x);
                let x = &panels.for_values.row(position)[..k.width];
                self.out.write(Input::Value, k.heads, position, kv_head, x);
            }
        }
    }
}

/// Working memory of [`Backward`].
#[derive(Default)]
struct Panels {
    keys: Panel,
    keys_transposed: Panel,
    values_transposed: Panel,
    for_keys: Panel,
    for_values: Panel,
    pattern: Panel,
    for_scores: Panel,
    queries: Panel,
    grads: Panel,
    for_queries: Panel,
}

impl Panels {
    fn start_head(&mut self, keys: &[&[f32]], values: &[&[f32]], width: usize) {
        self.for_keys.reset(keys.len(), width);
        self.for_values.reset(keys.len(), width);
        self.keys.fill(keys, width);
        self.keys_transposed.fill_transposed(keys, width);
        self.values_transposed.fill_transposed(values, width);
    }

    /// One block of queries of one head: sets `for_queries`, adds to `for_keys` and `for_values`.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, queries: &Queries, grads: &Queries, width: usize, scale: f32) {
        let count = queries.vectors.len();
        queries.pattern(simd, &mut self.pattern, &self.keys_transposed, scale);
        self.for_scores.resize(count, queries.keys());
        for (rows, seen) in queries.groups() {
            let out = (&mut self.for_scores, rows.clone(), seen);
            multiply(simd, out, Left::Rows(&grads.vectors), 0..width, &self.values_transposed, false);
            for i in rows {
                let (row, hidden) = self.for_scores.row_mut(i).split_at_mut(queries.seen[i]);
                softmax_row_backward(&self.pattern.row(i)[..row.len()], row);
                for x in row {
                    *x *= scale;
                }
                hidden.fill(0.0);
            }
        }
        self.for_queries.resize(count, width);
        queries.times(simd, &mut self.for_queries, width, &self.for_scores, &self.keys);
        self.queries.fill(&queries.vectors, width);
        self.grads.fill(&grads.vectors, width);
        for from in (0..queries.keys()).step_by(8) {
            let rows = from..(from + 8).min(queries.keys());
            // Queries before the first that sees any of these keys add nothing.
            let first = queries.seen.partition_point(|&seen| seen <= from);
            let out = (&mut self.for_values, rows.clone(), width);
            multiply(simd, out, Left::Columns(&self.pattern), first..count, &self.grads, true);
            let out = (&mut self.for_keys, rows, width);
            multiply(simd, out, Left::Columns(&self.for_scores), first..count, &self.queries, true);
        }
    }
}
