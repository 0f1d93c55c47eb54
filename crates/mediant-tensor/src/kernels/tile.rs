//! Small products with operands in the cache, for attention: nothing is packed, and a row's bits depend on nothing but its
//! own values (each element is one chain of fused multiply-adds in the order of the inner dimension).

#![expect(
    clippy::needless_range_loop,
    reason = "fixed-size register tiles are indexed in step; iterators would hide which rows meet"
)]

use std::ops::Range;

use pulp::Simd;

/// Rows of a panel are padded to a multiple of this: two vectors of the widest instruction set.
const PAD: usize = 32;

/// A matrix whose rows are padded with zeros to a multiple of [`PAD`].
#[derive(Default)]
pub(super) struct Panel {
    data: Vec<f32>,
    stride: usize,
}

impl Panel {
    /// Makes it `rows` by `cols` of zeros.
    pub(super) fn reset(&mut self, rows: usize, cols: usize) {
        self.data.clear();
        self.resize(rows, cols);
    }

    /// Makes it `rows` by `cols` of anything.
    pub(super) fn resize(&mut self, rows: usize, cols: usize) {
        self.stride = cols.next_multiple_of(PAD);
        self.data.resize(rows * self.stride, 0.0);
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride..][..self.stride]
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.stride..][..self.stride]
    }

    /// Copies rows of `cols` elements in.
    pub(super) fn fill(&mut self, rows: &[&[f32]], cols: usize) {
        self.reset(rows.len(), cols);
        for (i, row) in rows.iter().enumerate() {
            self.row_mut(i)[..cols].copy_from_slice(row);
        }
    }

    /// Copies rows of `cols` elements in as columns.
    pub(super) fn fill_transposed(&mut self, rows: &[&[f32]], cols: usize) {
        self.reset(cols, rows.len());
        for (block, rows) in rows.chunks(LINE).enumerate() {
            // A cache line of the result at a time.
            for (i, out) in self.data.chunks_exact_mut(self.stride).enumerate() {
                for (to, row) in out[block * LINE..].iter_mut().zip(rows) {
                    *to = row[i];
                }
            }
        }
    }
}

/// Numbers in a cache line.
const LINE: usize = 16;

/// The left factor of a product.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// Row i is the i-th slice.
    Rows(&'a [&'a [f32]]),
    /// Row i is that of the panel.
    Panel(&'a Panel),
    /// Row i is the panel's column i.
    Columns(&'a Panel),
}

/// `out[i, ..cols] = Σ_p left[i, p] right[p, ..cols]` (added to what is there if `add`) for `i` in `rows` and `p` in `inner`.
/// Columns are computed in whole pairs of vectors.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    (out, rows, cols): (&mut Panel, Range<usize>, usize),
    left: Left<'_>,
    inner: Range<usize>,
    right: &Panel,
    add: bool,
) {
    let mut row = rows.start;
    while row < rows.end {
        let count = rows.end - row;
        // With 32 vector registers, sixteen hold sums.
        row += if S::F32_LANES == 16 && count >= 8 {
            multiply_rows::<S, 8>(simd, (out, row, cols), left, inner.clone(), right, add)
        } else if count >= 4 {
            multiply_rows::<S, 4>(simd, (out, row, cols), left, inner.clone(), right, add)
        } else {
            multiply_rows::<S, 1>(simd, (out, row, cols), left, inner.clone(), right, add)
        };
    }
}

/// [`multiply`] for `R` rows; returns `R`.
#[inline(always)]
fn multiply_rows<S: Simd, const R: usize>(
    simd: S,
    (out, row, cols): (&mut Panel, usize, usize),
    left: Left<'_>,
    inner: Range<usize>,
    right: &Panel,
    add: bool,
) -> usize {
    let end = inner.end;
    let mut rows: [&[f32]; R] = [&[]; R];
    match left {
        Left::Rows(vectors) => {
            for r in 0..R {
                rows[r] = &vectors[row + r][..end];
            }
            sums::<S, R>(
                simd,
                (out, row, cols),
                inner,
                right,
                add,
                #[inline(always)]
                |p, r| rows[r][p],
            );
        }
        Left::Panel(panel) => {
            for r in 0..R {
                rows[r] = &panel.row(row + r)[..end];
            }
            sums::<S, R>(
                simd,
                (out, row, cols),
                inner,
                right,
                add,
                #[inline(always)]
                |p, r| rows[r][p],
            );
        }
        Left::Columns(panel) => {
            let (data, stride) = (&panel.data[row..], panel.stride);
            sums::<S, R>(
                simd,
                (out, row, cols),
                inner,
                right,
                add,
                #[inline(always)]
                |p, r| data[p * stride + r],
            );
        }
    }
    R
}

#[inline(always)]
fn sums<S: Simd, const R: usize>(
    simd: S,
    (out, row, cols): (&mut Panel, usize, usize),
    inner: Range<usize>,
    right: &Panel,
    add: bool,
    left: impl Fn(usize, usize) -> f32,
) {
    let pair = 2 * S::F32_LANES;
    let mut col = 0;
    while col < cols {
        let mut acc = [[simd.splat_f32s(0.0); 2]; R];
        if add {
            for r in 0..R {
                let (vectors, _) = S::as_simd_f32s(&out.row(row + r)[col..col + pair]);
                acc[r] = [vectors[0], vectors[1]];
            }
        }
        for p in inner.clone() {
            let (vectors, _) = S::as_simd_f32s(&right.data[p * right.stride + col..][..pair]);
            let (first, second) = (vectors[0], vectors[1]);
            for r in 0..R {
                let x = simd.splat_f32s(left(p, r));
                acc[r][0] = simd.mul_add_f32s(x, first, acc[r][0]);
                acc[r][1] = simd.mul_add_f32s(x, second, acc[r][1]);
            }
        }
        for r in 0..R {
            let (vectors, _) = S::as_mut_simd_f32s(&mut out.row_mut(row + r)[col..col + pair]);
            vectors[0] = acc[r][0];
            vectors[1] = acc[r][1];
        }
        col += pair;
    }
}
