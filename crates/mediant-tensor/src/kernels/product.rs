use gemm::Parallelism;

use super::build;

/// A matrix seen in a slice: element (i, j) stands at `i · row_stride + j · col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The rows one after another, `row_stride` apart.
    ///
    /// # Panics
    /// When the last element lies outside the slice.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed matrix in the same slice.
    #[must_use]
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A matrix to write into: rows `row_stride` apart, which is at least `cols`.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// The rows one after another, `row_stride` apart.
    ///
    /// # Panics
    /// When the last element lies outside the slice or rows overlap.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(row_stride >= cols, "rows overlap");
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    if rows > 0 && cols > 0 {
        let last = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols));
        assert!(last.is_some_and(|last| last <= len), "matrix beyond its slice");
    }
}

/// `out += scale · a · b`, on all threads of the pool if `parallel`.
///
/// The bits of a row of `out` depend on neither the other rows nor the threads, as long as `a` has at least [`least_rows`]
/// (fewer rows take another path).
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul_into(out: &mut MatrixMut, scale: f32, a: Matrix, b: Matrix, parallel: bool) {
    product(out, true, scale, a, b, parallel);
}

/// `out = scale · a · b`; else as [`matmul_into`].
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul_over(out: &mut MatrixMut, scale: f32, a: Matrix, b: Matrix, parallel: bool) {
    product(out, false, scale, a, b, parallel);
}

fn product(out: &mut MatrixMut, add: bool, scale: f32, a: Matrix, b: Matrix, parallel: bool) {
    assert!(a.cols == b.rows && out.rows == a.rows && out.cols == b.cols, "shapes of a product");
    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the constructors made sure that every element (i, j) of the three matrices lies in its slice (`t` permutes the
    // same elements), and that elements of `out` are distinct; `out` is borrowed mutably, so it overlaps neither input;
    // strides came from `usize`s below a slice's length, so they fit `isize`.
    #[expect(unsafe_code, reason = "gemm takes pointers; bounds are checked above")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows a task works on.
const ROWS: usize = 512;

/// `x · weight + bias`: `[rows, in] · [in, out]`, row-major. The bits of a row depend on that row alone.
pub(crate) fn linear(x: &[f32], weight: Matrix, bias: Option<&[f32]>) -> Vec<f32> {
    let (inputs, outputs) = (weight.rows, weight.cols);
    let rows = x.len() / inputs.max(1);
    let (out, _) = build(rows * outputs, ROWS * outputs, |i, out| {
        let rows = out.len() / outputs;
        let x = &x[i * ROWS * inputs..][..rows * inputs];
        let least = least_rows(outputs);
        if rows >= least {
            affine(out, x, weight, bias);
        } else {
            let mut padded_x = x.to_vec();
            padded_x.resize(least * inputs, 0.0);
            let mut padded = vec![0.0; least * outputs];
            affine(&mut padded, &padded_x, weight, bias);
            out.copy_from_slice(&padded[..rows * outputs]);
        }
    });
    out
}

/// How many rows a product with so many columns needs for the bits of a row to depend on that row alone: the matrix library
/// takes other paths for products with one row, with at most 256 results, and with at most 64 rows and columns.
pub fn least_rows(outputs: usize) -> usize {
    if outputs <= 64 { 257usize.div_ceil(outputs).max(65) } else { 4 }
}

fn affine(out: &mut [f32], x: &[f32], weight: Matrix, bias: Option<&[f32]>) {
    let (inputs, outputs) = (weight.rows, weight.cols);
    let rows = out.len() / outputs;
    if let Some(bias) = bias {
        for row in out.chunks_exact_mut(outputs) {
            row.copy_from_slice(bias);
        }
    }
    let (x, out) = (Matrix::new(x, rows, inputs, inputs), &mut MatrixMut::new(out, rows, outputs, outputs));
    product(out, bias.is_some(), 1.0, x, weight, false);
}
