//! Sparse codes, and the products of sparse codes with dense vectors that training a dictionary needs.
//!
//! A code row holds the few active latents of one input. Every kernel touches the vectors of active latents alone. Sums
//! run in a fixed order, so that results do not depend on the number of threads.

use rayon::prelude::*;

use super::simd;

/// Rows that one task encodes.
const ROWS: usize = 32;
/// Latents whose sums one task makes.
const LATENTS: usize = 16;

/// The codes of a batch: for each row the active latents in ascending order, and their values (compressed sparse rows).
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    starts: Vec<usize>,
    latents: Vec<u32>,
    values: Vec<f32>,
}

impl Default for Codes {
    fn default() -> Self {
        Self { starts: vec![0], latents: Vec::new(), values: Vec::new() }
    }
}

impl Codes {
    /// Codes made in parallel: `push` adds exactly one row for each item. `S` holds buffers, reused by neighbouring rows.
    pub fn collect<R, S>(
        rows: impl IndexedParallelIterator<Item = R>,
        push: impl Fn(R, &mut S, &mut Codes) + Sync + Send,
    ) -> Self
    where
        S: Default + Send,
    {
        let blocks: Vec<(Codes, S)> = rows
            .fold_chunks(ROWS, Default::default, |(mut codes, mut state): (Codes, S), row| {
                push(row, &mut state, &mut codes);
                (codes, state)
            })
            .collect();
        let entries = blocks.iter().map(|(codes, _)| codes.entries()).sum();
        let mut all =
            Codes { starts: vec![0], latents: Vec::with_capacity(entries), values: Vec::with_capacity(entries) };
        for (codes, _) in &blocks {
            all.append(codes);
        }
        all
    }

    /// Adds a row; latents come in ascending order.
    pub fn push_row(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        for (latent, value) in entries {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.starts.push(self.latents.len());
    }

    /// Adds the rows of `other` after these.
    pub fn append(&mut self, other: &Codes) {
        let base = self.latents.len();
        self.starts.extend(other.starts[1..].iter().map(|start| base + start));
        self.latents.extend_from_slice(&other.latents);
        self.values.extend_from_slice(&other.values);
    }

    /// Keeps the first rows, as many as `rows` at most.
    pub fn truncate(&mut self, rows: usize) {
        self.starts.truncate(rows + 1);
        let entries = self.starts.last().copied().unwrap_or(0);
        self.latents.truncate(entries);
        self.values.truncate(entries);
    }

    /// The entries of the latents from `start` to before `end`.
    pub fn between(&self, start: u32, end: u32) -> Self {
        let mut part = Self::default();
        for row in 0..self.rows() {
            let (latents, values) = self.row(row);
            let range =
                latents.partition_point(|&latent| latent < start)..latents.partition_point(|&latent| latent < end);
            part.push_row(latents[range.clone()].iter().copied().zip(values[range].iter().copied()));
        }
        part
    }

    /// The same entries with other values, by latent and value.
    pub fn mapped(&self, value: impl Fn(u32, f32) -> f32) -> Self {
        let values = self.latents.iter().zip(&self.values).map(|(latent, x)| value(*latent, *x)).collect();
        Self { starts: self.starts.clone(), latents: self.latents.clone(), values }
    }

    /// The entries whose values `keep` lets pass, asked row by row in the order of the latents.
    pub fn filtered(&self, mut keep: impl FnMut(f32) -> bool) -> Self {
        let mut part = Self::default();
        for row in 0..self.rows() {
            let (latents, values) = self.row(row);
            part.push_row(latents.iter().copied().zip(values.iter().copied()).filter(|(_, value)| keep(*value)));
        }
        part
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Active latents of all rows together.
    pub fn entries(&self) -> usize {
        self.latents.len()
    }

    /// The active latents of a row and their values.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.range(row);
        (&self.latents[range.clone()], &self.values[range])
    }

    /// Where the entries of a row stand among those of all rows.
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    /// A number an entry, given row after row, cut into one slice a row.
    pub fn split_rows<'a>(&self, mut by_row: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        (0..self.rows()).filter_map(|row| by_row.split_off_mut(..self.range(row).len())).collect()
    }

    /// The latent of every entry, row after row.
    pub fn latents(&self) -> &[u32] {
        &self.latents
    }

    /// The value of every entry, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Divides every value by that of its latent.
    pub fn divide_by(&mut self, by_latent: &[f32]) {
        for (value, &latent) in self.values.iter_mut().zip(&self.latents) {
            *value /= by_latent[latent as usize];
        }
    }

    /// The codes as a dense `[rows, n]` matrix.
    pub fn to_dense(&self, n: usize) -> Vec<f32> {
        let mut dense = vec![0.0; self.rows() * n];
        for (row, out) in dense.chunks_exact_mut(n.max(1)).enumerate() {
            let (latents, values) = self.row(row);
            for (&latent, &value) in latents.iter().zip(values) {
                out[latent as usize] = value;
            }
        }
        dense
    }

    /// `codes · W_dec + bias`: `w_dec` is `[n, d]`, `bias` `[d]`, the result `[rows, d]`.
    pub fn decode(&self, w_dec: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * bias.len()];
        out.par_chunks_mut(bias.len()).enumerate().for_each(|(row, out)| {
            let (latents, values) = self.row(row);
            out.copy_from_slice(bias);
            add_weighted(out, latents, values, w_dec);
        });
        out
    }
}

/// `out += Σ_j weights[j] · vectors[indices[j]]`, the terms in order; `vectors` has rows of `out`'s length.
pub fn add_weighted(out: &mut [f32], indices: &[u32], weights: &[f32], vectors: &[f32]) {
    let width = out.len();
    let vector = |index: u32| &vectors[index as usize * width..][..width];
    let (index_quads, index_rest) = indices.as_chunks::<4>();
    let (weight_quads, weight_rest) = weights.as_chunks::<4>();
    simd(|| {
        // Four vectors at once keep the sum in registers for four additions; the order of additions is the same.
        for (index, &[a, b, c, d]) in index_quads.iter().zip(weight_quads) {
            let [va, vb, vc, vd] = index.map(vector);
            for ((((x, &va), &vb), &vc), &vd) in out.iter_mut().zip(va).zip(vb).zip(vc).zip(vd) {
                *x = (((*x + a * va) + b * vb) + c * vc) + d * vd;
            }
        }
        for (&index, &a) in index_rest.iter().zip(weight_rest) {
            for (x, &va) in out.iter_mut().zip(vector(index)) {
                *x += a * va;
            }
        }
    });
}

/// `out[j] = vectors[indices[j]] · x`: the gradient of a code's values, when `x` is the gradient of its decoding.
pub fn dot_with_each(x: &[f32], indices: &[u32], vectors: &[f32], out: &mut [f32]) {
    simd(|| {
        for (out, &index) in out.iter_mut().zip(indices) {
            *out = dot(x, &vectors[index as usize * x.len()..][..x.len()]);
        }
    });
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 64;
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0] + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The entries of [`Codes`] arranged by latent (compressed sparse columns): for each latent its rows, ascending.
#[derive(Clone, Debug)]
pub struct ByLatent {
    starts: Vec<usize>,
    rows: Vec<u32>,
    entries: Vec<u32>,
}

impl ByLatent {
    /// Arranges codes over `n` latents by counting. Codes hold fewer than 2^32 entries.
    pub fn new(codes: &Codes, n: usize) -> Self {
        let mut starts = vec![0usize; n + 1];
        for &latent in &codes.latents {
            starts[latent as usize + 1] += 1;
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut rows = vec![0u32; codes.entries()];
        let mut entries = vec![0u32; codes.entries()];
        for row in 0..codes.rows() {
            for entry in codes.range(row) {
                let place = &mut next[codes.latents[entry] as usize];
                rows[*place] = row as u32;
                entries[*place] = entry as u32;
                *place += 1;
            }
        }
        Self { starts, rows, entries }
    }

    /// How many rows a latent is active in.
    pub fn count(&self, latent: usize) -> usize {
        self.starts[latent + 1] - self.starts[latent]
    }

    /// A number an entry, given row after row, arranged latent after latent.
    pub fn arrange(&self, by_row: &[f32]) -> Vec<f32> {
        self.entries.par_iter().map(|&entry| by_row[entry as usize]).collect()
    }

    /// `out[i] += Σ weight · vectors[row]` over the rows of latent i, in order: the gradient of a weight matrix `[n, d]`.
    /// `weights` are arranged by latent, `vectors` is `[rows, d]`.
    pub fn add_sums(&self, weights: &[f32], vectors: &[f32], out: &mut [f32]) {
        let n = self.starts.len() - 1;
        let width = out.len() / n.max(1);
        out.par_chunks_mut(width.max(1) * LATENTS).enumerate().for_each(|(block, out)| {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let latent = block * LATENTS + i;
                let range = self.starts[latent]..self.starts[latent + 1];
                add_weighted(out, &self.rows[range.clone()], &weights[range], vectors);
            }
        });
    }

    /// `out[i] += Σ weight` over the rows of latent i, in order: the gradient of a bias `[n]`.
    pub fn add_totals(&self, weights: &[f32], out: &mut [f32]) {
        for (out, bounds) in out.iter_mut().zip(self.starts.windows(2)) {
            *out += weights[bounds[0]..bounds[1]].iter().sum::<f32>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ByLatent, Codes, add_weighted, dot_with_each};
    use crate::random::{below, fill_normal, stream};
    use rayon::prelude::*;

    const ROWS: usize = 70;
    const LATENTS: usize = 41;
    const WIDTH: usize = 67;

    fn vectors(rows: usize, purpose: &str) -> Vec<f32> {
        let mut out = vec![0.0; rows * WIDTH];
        fill_normal(&mut stream(0, purpose), &mut out, 0.0, 1.0);
        out
    }

    fn codes() -> Codes {
        Codes::collect((0..ROWS).into_par_iter(), |row, (): &mut (), codes| {
            let mut rng = stream(row as u64, "test codes");
            let chosen: Vec<u32> = (0..LATENTS as u32).filter(|_| below(&mut rng, 4) == 0).collect();
            codes.push_row(chosen.into_iter().map(|latent| (latent, latent as f32 - 20.5)));
        })
    }

    /// Sums of some 70 products of size one: f32 rounding is below 70 · 6e-8 of the largest.
    fn assert_close(a: &[f32], b: &[f64]) {
        let scale = b.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((f64::from(*a) - b).abs() <= 5e-6 * scale, "{a} is not {b}");
        }
    }

    /// Σ_j a[i, j] b[j, l] in f64.
    fn product(a: impl Fn(usize, usize) -> f32, b: &[f32], rows: usize, inner: usize) -> Vec<f64> {
        let mut out = vec![0.0; rows * WIDTH];
        for i in 0..rows {
            for j in 0..inner {
                for l in 0..WIDTH {
                    out[i * WIDTH + l] += f64::from(a(i, j)) * f64::from(b[j * WIDTH + l]);
                }
            }
        }
        out
    }

    #[test]
    fn kernels_are_the_dense_products() {
        let (codes, w) = (codes(), vectors(LATENTS, "w"));
        let dense = codes.to_dense(LATENTS);
        assert!(codes.entries() > 500);

        let decoded = codes.decode(&w, &[0.0; WIDTH]);
        assert_close(&decoded, &product(|i, j| dense[i * LATENTS + j], &w, ROWS, LATENTS));

        let by_latent = ByLatent::new(&codes, LATENTS);
        let errors = vectors(ROWS, "errors");
        let mut sums = vec![0.0; LATENTS * WIDTH];
        by_latent.add_sums(&by_latent.arrange(codes.values()), &errors, &mut sums);
        assert_close(&sums, &product(|i, j| dense[j * LATENTS + i], &errors, LATENTS, ROWS));

        let mut totals = vec![0.0; LATENTS];
        by_latent.add_totals(&by_latent.arrange(codes.values()), &mut totals);
        let expected: Vec<f64> =
            (0..LATENTS).map(|i| (0..ROWS).map(|b| f64::from(dense[b * LATENTS + i])).sum()).collect();
        assert_close(&totals, &expected);

        let (latents, _) = codes.row(3);
        let mut dots = vec![0.0; latents.len()];
        dot_with_each(&errors[..WIDTH], latents, &w, &mut dots);
        let expected: Vec<f64> = latents
            .iter()
            .map(|&i| (0..WIDTH).map(|l| f64::from(errors[l]) * f64::from(w[i as usize * WIDTH + l])).sum())
            .collect();
        assert_close(&dots, &expected);
    }

    #[test]
    fn four_terms_at_once_have_the_bits_of_one_after_another() {
        let w = vectors(LATENTS, "w");
        let indices = [3, 1, 40, 7, 7, 0];
        let weights = [0.3, -1.7, 2.1, 1e-3, 5.0, -0.2];
        let mut at_once = vec![0.25; WIDTH];
        add_weighted(&mut at_once, &indices, &weights, &w);
        let mut one_by_one = vec![0.25; WIDTH];
        for i in 0..indices.len() {
            add_weighted(&mut one_by_one, &indices[i..=i], &weights[i..=i], &w);
        }
        assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let codes = codes();
                let by_latent = ByLatent::new(&codes, LATENTS);
                let mut sums = vec![0.0; LATENTS * WIDTH];
                by_latent.add_sums(&by_latent.arrange(codes.values()), &vectors(ROWS, "errors"), &mut sums);
                (codes.decode(&vectors(LATENTS, "w"), &[0.5; WIDTH]), sums)
            })
        };
        assert_eq!(run(1), run(2));
    }
}
