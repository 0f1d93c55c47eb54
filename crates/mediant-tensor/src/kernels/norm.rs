use super::math::{sum, sum2};
use super::{build, simd};
use crate::compute::NormScale;

/// Rows a task works on: about 64 KiB of them.
fn block_rows(width: usize) -> usize {
    (16_384 / width).max(1)
}

#[inline(always)]
fn mean(x: &[f32]) -> f32 {
    sum(x, |x| x) / x.len() as f32
}

/// √(mean of (x − mean)² + eps) of a row.
#[inline(always)]
fn root(x: &[f32], mean: f32, eps: f32) -> f32 {
    (sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32 + eps).sqrt()
}

/// One over what a norm divides a row by.
#[inline(always)]
fn inverse(x: &[f32], mean: f32, scale: NormScale) -> f32 {
    match scale {
        NormScale::Computed { eps } => 1.0 / root(x, mean, eps as f32),
        NormScale::Frozen(scale) => 1.0 / scale,
    }
}

pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], scale: NormScale) -> Vec<f32> {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (out, _) = build(x.len(), block, |i, out| {
        let x = &x[i * block..];
        simd(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let mean = mean(x);
                    let inverse = inverse(x, mean, scale);
                    for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * inverse * w + b;
                    }
                }
            },
        );
    });
    out
}

pub(crate) fn rms_norm(x: &[f32], weight: &[f32], scale: NormScale) -> Vec<f32> {
    let width = weight.len();
    let block = block_rows(width) * width;
    let (out, _) = build(x.len(), block, |i, out| {
        let x = &x[i * block..];
        simd(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let inverse = inverse(x, 0.0, scale);
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
pub(crate) fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    scale: NormScale,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
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
                    let mean = mean(x);
                    let inverse = inverse(x, mean, scale);
                    // `out` holds the normalised row until the gradient replaces it.
                    for (((((out, &x), &g), &w), dw), db) in
                        out.iter_mut().zip(x).zip(grad).zip(weight).zip(&mut for_weight).zip(&mut for_bias)
                    {
                        let normed = (x - mean) * inverse;
                        *dw += g * normed;
                        *db += g;
                        *out = g * w;
                    }
                    let constant = self::mean(out);
                    let along = match scale {
                        NormScale::Computed { .. } => sum2(out, x, |g, x| g * ((x - mean) * inverse)) / width as f32,
                        NormScale::Frozen(_) => 0.0,
                    };
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
pub(crate) fn rms_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], scale: NormScale) -> (Vec<f32>, Vec<f32>) {
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
                    let inverse = inverse(x, 0.0, scale);
                    for ((((out, &x), &g), &w), dw) in out.iter_mut().zip(x).zip(grad).zip(weight).zip(&mut for_weight)
                    {
                        *dw += g * (x * inverse);
                        *out = g * w;
                    }
                    let along = match scale {
                        NormScale::Computed { .. } => sum2(out, x, |g, x| g * (x * inverse)) / width as f32,
                        NormScale::Frozen(_) => 0.0,
                    };
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

/// What a norm divides each row by.
pub(crate) fn norm_scales(x: &[f32], width: usize, centered: bool, eps: f32) -> Vec<f32> {
    let rows = block_rows(width);
    let (scales, _) = build(x.len() / width, rows, |i, out| {
        let x = &x[i * rows * width..];
        simd(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out) {
                    *out = root(x, if centered { mean(x) } else { 0.0 }, eps);
                }
            },
        );
    });
    scales
}

/// Gradient of [`norm_scales`] with respect to `x`: `grad · (x − mean) / (width · scale)`.
pub(crate) fn norm_scales_backward(x: &[f32], width: usize, grad: &[f32], centered: bool, eps: f32) -> Vec<f32> {
    let rows = block_rows(width);
    let (for_x, _) = build(x.len(), rows * width, |i, out| {
        let (x, grad) = (&x[i * rows * width..], &grad[i * rows..]);
        simd(
            #[inline(always)]
            || {
                for ((x, out), grad) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(grad) {
                    let mean = if centered { mean(x) } else { 0.0 };
                    let factor = grad / (width as f32 * root(x, mean, eps));
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) * factor;
                    }
                }
            },
        );
    });
    for_x
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
