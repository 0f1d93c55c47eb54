//! Small products with operands in the cache, for attention: no packing, and a row's bits depend on nothing but its own
//! values (each element is one chain of fused multiply-adds in the order of the inner dimension).

use std::ops::Range;

use pulp::Simd;

/// Widths of panels are padded to a multiple of this: two vectors of the widest instruction set.
pub(super) const PAD: usize = 32;

/// A matrix whose rows are padded with zeros to a multiple of [`PAD`].
#[derive(Default)]
pub(super) struct Panel {
    data: Vec<f32>,
    stride: usize,
}

impl Panel {
    /// Makes it `rows` by `cols` of zeros.
    pub(super) fn reset(&mut self, rows: usize, cols: usize) {
        self.stride = cols.next_multiple_of(PAD);
        self.data.clear();
        self.data.resize(rows * self.stride, 0.0);
    }

    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride..][..self.stride]
    }

    pub(super) fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.stride..][..self.stride]
    }

    /// Rows `i` and its counterpart in another panel.
    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.stride.max(1))
    }

    /// Copies rows of `cols` elements in.
    pub(super) fn fill<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a [f32]>, cols: usize) {
        self.reset(rows.len(), cols);
        for (i, row) in rows.enumerate() {
            self.row_mut(i)[..cols].copy_from_slice(row);
        }
    }

    /// Copies rows of `cols` elements in as columns.
    pub(super) fn fill_transposed<'a>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
        cols: usize,
    ) {
        self.reset(cols, rows.len());
        for (j, row) in rows.enumerate() {
            for (i, &x) in row.iter().enumerate() {
                self.data[i * self.stride + j] = x;
            }
        }
    }
}

/// `out[i, ..cols] = Σ_p a[i, p] b[p, ..cols]` for the rows `i` and the `p` in `inner`, with `cols` rounded up to whole
/// pairs of vectors. `a` starts at row `first` of `out`.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    out: &mut Panel,
    rows: Range<usize>,
    cols: usize,
    a: impl Fn(usize, usize) -> f32 + Copy,
    inner: Range<usize>,
    b: &Panel,
    add: bool,
) {
    let mut i = rows.start;
    while i < rows.end {
        let count = rows.end - i;
        if S::F32_LANES == 16 && count >= 8 {
            multiply_rows::<S, 8>(simd, out, i, cols, a, inner.clone(), b, add);
            i += 8;
        } else if count >= 4 {
            multiply_rows::<S, 4>(simd, out, i, cols, a, inner.clone(), b, add);
            i += 4;
        } else {
            multiply_rows::<S, 1>(simd, out, i, cols, a, inner.clone(), b, add);
            i += 1;
        }
    }
}

#[inline(always)]
fn multiply_rows<S: Simd, const R: usize>(
    simd: S,
    out: &mut Panel,
    row: usize,
    cols: usize,
    a: impl Fn(usize, usize) -> f32 + Copy,
    inner: Range<usize>,
    b: &Panel,
    add: bool,
) {
    let pair = 2 * S::F32_LANES;
    for col in (0..cols).step_by(pair) {
        let mut acc = [[simd.splat_f32s(0.0); 2]; R];
        if add {
            for (r, acc) in acc.iter_mut().enumerate() {
                let (vectors, _) = S::as_simd_f32s(&out.row(row + r)[col..col + pair]);
                *acc = [vectors[0], vectors[1]];
            }
        }
        let b_rows = b.rows().skip(inner.start).take(inner.len());
        for (p, b_row) in inner.clone().zip(b_rows) {
            let (vectors, _) = S::as_simd_f32s(&b_row[col..col + pair]);
            let (left, right) = (vectors[0], vectors[1]);
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = simd.splat_f32s(a(row + r, p));
                acc[0] = simd.mul_add_f32s(x, left, acc[0]);
                acc[1] = simd.mul_add_f32s(x, right, acc[1]);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let out = &mut out.row_mut(row + r)[col..col + pair];
            let (vectors, _) = S::as_mut_simd_f32s(out);
            vectors[0] = acc[0];
            vectors[1] = acc[1];
        }
    }
}
