use super::math::{sum, sum2};
use super::{build, simd};

/// Rows a task works on: about 64 KiB of them.
fn block_rows(width: usize) -> usize {
    (16_384 / width).max(1)
}

/// Mean and 1 / √(variance + eps) of a row.
#[inline(always)]
fn layer_moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// 1 / √(mean of squares + eps) of a row.
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt()
}

pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (out, _) = build(x.len(), block, |i, out| {
        let x = &x[i * block..];
        simd(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let (mean, inverse) = layer_moments(x, eps);
                    for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * inverse * w + b;
                    }
                }
            },
        );
    });
    out
}

pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (out, _) = build(x.len(), block, |i, out| {
        let x = &x[i * block..];
        simd(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let inverse = inverse_rms(x, eps);
                    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * inverse * w;
                    }
                }
            },
        );
    });
    out
}

/// Gradients with respect to `x`, `weight` and `bias`.
pub(crate) fn layer_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (for_x, partial) = build(x.len(), block, |i, out| {
        let (x, grad) = (&x[i * block..], &grad[i * block..]);
        let (mut for_weight, mut for_bias) = (vec![0.0; width], vec![0.0; width]);
        simd(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                for ((x, grad), out) in rows.zip(out.chunks_exact_mut(width)) {
                    let (mean, inverse) = layer_moments(x, eps);
                    // `out` holds the normalised row until the gradient replaces it.
                    for (((((out, &x), &g), &w), dw), db) in
                        out.iter_mut().zip(x).zip(grad).zip(weight).zip(&mut for_weight).zip(&mut for_bias)
                    {
                        let normed = (x - mean) * inverse;
                        *dw += g * normed;
                        *db += g;
                        *out = g * w;
                    }
                    let n = width as f32;
                    let constant = sum(out, |g| g) / n;
                    let along = sum2(out, x, |g, x| g * ((x - mean) * inverse)) / n;
                    for (out, &x) in out.iter_mut().zip(x) {
                        *out = inverse * (*out - constant - (x - mean) * inverse * along);
                    }
                }
            },
        );
        (for_weight, for_bias)
    });
    let (for_weight, for_bias): (Vec<_>, Vec<_>) = partial.into_iter().unzip();
    (for_x, add_all(&for_weight, width), add_all(&for_bias, width))
}

/// Gradients with respect to `x` and `weight`.
pub(crate) fn rms_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (for_x, for_weight) = build(x.len(), block, |i, out| {
        let (x, grad) = (&x[i * block..], &grad[i * block..]);
        let mut for_weight = vec![0.0; width];
        simd(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                for ((x, grad), out) in rows.zip(out.chunks_exact_mut(width)) {
                    let inverse = inverse_rms(x, eps);
                    for ((((out, &x), &g), &w), dw) in out.iter_mut().zip(x).zip(grad).zip(weight).zip(&mut for_weight)
                    {
                        *dw += g * (x * inverse);
                        *out = g * w;
                    }
                    let along = sum2(out, x, |g, x| g * (x * inverse)) / width as f32;
                    for (out, &x) in out.iter_mut().zip(x) {
                        *out = inverse * (*out - x * inverse * along);
                    }
                }
            },
        );
        for_weight
    });
    (for_x, add_all(&for_weight, width))
}

/// Sum over the rows of `[rows, width]`.
pub(crate) fn sum_rows(x: &[f32], width: usize) -> Vec<f32> {
    use rayon::prelude::*;
    let partial: Vec<Vec<f32>> = x
        .par_chunks((block_rows(width) * width).max(1))
        .map(|rows| {
            let mut total = vec![0.0; width];
            simd(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(width) {
                        add(&mut total, row);
                    }
                },
            );
            total
        })
        .collect();
    add_all(&partial, width)
}

fn add_all(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in parts {
        add(&mut total, part);
    }
    total
}

#[inline(always)]
fn add(total: &mut [f32], x: &[f32]) {
    for (total, &x) in total.iter_mut().zip(x) {
        *total += x;
    }
}
