//! Dense products of row-major matrices in slices.

use mediant_tensor::kernels::{Matrix, MatrixMut, matmul_into, matmul_over};

/// `out += scale · a · bᵀ`: `a` is `[rows, inner]`, `b` `[cols, inner]`.
pub(crate) fn add_times_transposed(out: &mut [f32], scale: f32, a: &[f32], b: &[f32], inner: usize) {
    let (rows, cols) = (a.len() / inner, b.len() / inner);
    let (a, b) = (Matrix::new(a, rows, inner, inner), Matrix::new(b, cols, inner, inner).t());
    matmul_into(&mut MatrixMut::new(out, rows, cols, cols), scale, a, b, true);
}

/// `out = scale · a · bᵀ`: `a` is `[rows, inner]`, `b` `[cols, inner]`.
pub(crate) fn times_transposed(out: &mut [f32], scale: f32, a: &[f32], b: &[f32], inner: usize) {
    let (rows, cols) = (a.len() / inner, b.len() / inner);
    let (a, b) = (Matrix::new(a, rows, inner, inner), Matrix::new(b, cols, inner, inner).t());
    matmul_over(&mut MatrixMut::new(out, rows, cols, cols), scale, a, b, true);
}

/// `out += scale · a · b`: `a` is `[rows, inner]`, `b` `[inner, cols]`.
pub(crate) fn add_times(out: &mut [f32], scale: f32, a: &[f32], b: &[f32], inner: usize) {
    let (rows, cols) = (a.len() / inner, b.len() / inner);
    let (a, b) = (Matrix::new(a, rows, inner, inner), Matrix::new(b, inner, cols, cols));
    matmul_into(&mut MatrixMut::new(out, rows, cols, cols), scale, a, b, true);
}

/// `out += scale · aᵀ · b`: `a` is `[inner, rows]`, `b` `[inner, cols]`.
pub(crate) fn add_transposed_times(out: &mut [f32], scale: f32, a: &[f32], b: &[f32], inner: usize) {
    let (rows, cols) = (a.len() / inner, b.len() / inner);
    let (a, b) = (Matrix::new(a, inner, rows, rows).t(), Matrix::new(b, inner, cols, cols));
    matmul_into(&mut MatrixMut::new(out, rows, cols, cols), scale, a, b, true);
}

/// A `[rows, cols]` matrix with rows and columns exchanged.
pub(crate) fn transposed(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    // Tiles keep both sides in the cache.
    const TILE: usize = 32;
    let mut out = vec![0.0; data.len()];
    for row_tile in (0..rows).step_by(TILE) {
        for col_tile in (0..cols).step_by(TILE) {
            for row in row_tile..rows.min(row_tile + TILE) {
                for col in col_tile..cols.min(col_tile + TILE) {
                    out[col * rows + row] = data[row * cols + col];
                }
            }
        }
    }
    out
}

/// Cuts `rows` rows into pieces for which a `[rows, width]` matrix holds at most 2^24 numbers, or 64 rows.
///
/// Pieces are of nearly equal size and depend on the two numbers alone. None has a single row unless there is just one.
pub(crate) fn pieces(rows: usize, width: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    const ENTRIES: usize = 1 << 24;
    let count = rows.div_ceil((ENTRIES / width.max(1)).max(64));
    (0..count).map(move |i| rows * i / count..rows * (i + 1) / count)
}

#[cfg(test)]
mod tests {
    use super::{add_times, add_times_transposed, add_transposed_times, pieces, transposed};

    #[test]
    fn products_of_every_orientation_are_added() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 0.0, 1.0, 2.0, -1.0];
        let expected = [15.0, -1.0, 33.0, -1.0];
        let run = |product: fn(&mut [f32], f32, &[f32], &[f32], usize), a: &[f32], b: &[f32]| {
            let mut out = [1.0; 4];
            product(&mut out, 2.0, a, b, 3);
            out
        };
        assert_eq!(run(add_times, &a, &b), expected);
        assert_eq!(run(add_times_transposed, &a, &transposed(&b, 3, 2)), expected);
        assert_eq!(run(add_transposed_times, &transposed(&a, 2, 3), &b), expected);
    }

    #[test]
    fn pieces_cover_the_rows_and_none_is_a_single_row() {
        for (rows, width) in [(0, 10), (1, 10), (4096, 12_288), (4097, 65_536), (65, 1 << 24)] {
            let pieces: Vec<_> = pieces(rows, width).collect();
            assert!(pieces.iter().flat_map(Clone::clone).eq(0..rows));
            assert!(rows < 2 || pieces.iter().all(|piece| piece.len() >= 2));
        }
    }
}
