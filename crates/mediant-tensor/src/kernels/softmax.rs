use super::math::{exp, max, sum, sum2};
use super::{build, simd};

/// Smaller probabilities become 0: they change no sum, and products with them would fall below the normal numbers, which
/// processors multiply a hundred times slower.
pub(super) const LEAST: f32 = 1e-30;

/// Softmax of a row in place. A row whose largest entry is −∞ becomes NaN, as in PyTorch.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let largest = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - largest);
    }
    let inverse = 1.0 / sum(row, |x| x);
    for x in row.iter_mut() {
        let p = *x * inverse;
        *x = if p < LEAST { 0.0 } else { p };
    }
}

/// Turns the gradient of a softmax's result into that of its input, in place: `p (g − Σ p g)`.
#[inline(always)]
pub(super) fn softmax_row_backward(pattern: &[f32], grad: &mut [f32]) {
    let along = sum2(pattern, grad, |p, g| p * g);
    for (grad, &p) in grad.iter_mut().zip(pattern) {
        *grad = p * (*grad - along);
    }
}

/// Keys that query `i` of `queries` sees among `keys`.
pub(super) fn visible(i: usize, queries: usize, keys: usize) -> usize {
    (i + 1 + keys).saturating_sub(queries).min(keys)
}

/// `scores` is a stack of `[queries, keys]` matrices.
pub(crate) fn causal_softmax(scores: &[f32], queries: usize, keys: usize) -> Vec<f32> {
    if scores.is_empty() {
        return Vec::new();
    }
    let (out, _) = build(scores.len(), queries * keys, |i, out| {
        let scores = &scores[i * queries * keys..];
        simd(
            #[inline(always)]
            || {
                let rows = scores.chunks_exact(keys).zip(out.chunks_exact_mut(keys));
                for (query, (scores, out)) in rows.take(queries).enumerate() {
                    let seen = visible(query, queries, keys);
                    out[..seen].copy_from_slice(&scores[..seen]);
                    softmax_row(&mut out[..seen]);
                }
            },
        );
    });
    out
}

/// Rows of `keys`; entries that are 0 in the pattern get the gradient 0.
pub(crate) fn causal_softmax_backward(pattern: &[f32], grad: &[f32], keys: usize) -> Vec<f32> {
    if pattern.is_empty() {
        return Vec::new();
    }
    let block = keys * (16_384 / keys).max(1);
    let (out, _) = build(pattern.len(), block, |i, out| {
        let (pattern, grad) = (&pattern[i * block..], &grad[i * block..]);
        out.copy_from_slice(&grad[..out.len()]);
        simd(
            #[inline(always)]
            || {
                for (pattern, out) in pattern.chunks_exact(keys).zip(out.chunks_exact_mut(keys)) {
                    softmax_row_backward(pattern, out);
                }
            },
        );
    });
    out
}
