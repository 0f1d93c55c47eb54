use rayon::prelude::*;

use super::math::{exp, max, sum};
use super::product::{Matrix, MatrixMut, matmul_into, matmul_over};
use super::simd;
use super::softmax::LEAST;

/// log Σ exp of a row.
#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = max(row);
    largest + sum(row, |x| exp(x - largest)).ln()
}

/// NaN for a target outside the vocabulary.
#[inline(always)]
fn nll(row: &[f32], target: i32) -> f32 {
    let logit = row.get(target as usize).copied().unwrap_or(f32::NAN);
    log_sum_exp(row) - logit
}

/// Turns logits into `weight · (softmax − onehot(target))` in place and returns the cross-entropy.
#[inline(always)]
fn nll_backward(row: &mut [f32], target: i32, weight: f32) -> f32 {
    let largest = max(row);
    let logit = row.get(target as usize).copied().unwrap_or(f32::NAN);
    for x in row.iter_mut() {
        *x = exp(*x - largest);
    }
    let total = sum(row, |x| x);
    let inverse = 1.0 / total;
    for x in row.iter_mut() {
        let p = *x * inverse;
        *x = if p < LEAST { 0.0 } else { p * weight };
    }
    if let Some(x) = row.get_mut(target as usize) {
        *x -= weight;
    }
    largest + total.ln() - logit
}

pub(crate) fn token_nll(logits: &[f32], vocab: usize, targets: &[i32]) -> Vec<f32> {
    if vocab == 0 {
        return vec![f32::NAN; targets.len()];
    }
    let rows = logits.par_chunks_exact(vocab).zip(targets);
    rows.map(|(row, &target)| {
        simd(
            #[inline(always)]
            || nll(row, target),
        )
    })
    .collect()
}

pub(crate) fn token_nll_backward(mut logits: Vec<f32>, vocab: usize, targets: &[i32], grad: &[f32]) -> Vec<f32> {
    let rows = logits.par_chunks_exact_mut(vocab.max(1));
    rows.zip(targets.par_iter().zip(grad)).for_each(|(row, (&target, &weight))| {
        simd(
            #[inline(always)]
            || nll_backward(row, target, weight),
        );
    });
    logits
}

/// The loss and, if asked for, the gradients with respect to `hidden` and `unembed`.
pub(crate) struct UnembedLoss {
    pub loss: f32,
    pub gradients: Option<(Vec<f32>, Vec<f32>)>,
}

/// `Σ weightᵢ · cross-entropy(hiddenᵢ · unembedᵀ, targetᵢ)`; `hidden`: `[rows, width]`, `unembed`: `[vocab, width]`.
pub(crate) fn unembed_loss(
    hidden: &[f32],
    unembed: &[f32],
    width: usize,
    targets: &[i32],
    weights: &[f32],
    gradients: bool,
) -> UnembedLoss {
    let vocab = unembed.len() / width.max(1);
    let rows = targets.len();
    let table = Matrix::new(unembed, vocab, width, width);
    let block = block_rows(vocab).min(rows.max(1));
    let mut logits = vec![0.0; block * vocab];
    let mut for_hidden = vec![0.0; if gradients { hidden.len() } else { 0 }];
    let mut for_unembed = vec![0.0; if gradients { unembed.len() } else { 0 }];
    let mut loss = 0.0f64;
    for from in (0..rows).step_by(block) {
        let count = block.min(rows - from);
        let own = from * width..(from + count) * width;
        let x = Matrix::new(&hidden[own.clone()], count, width, width);
        let logits = &mut logits[..count * vocab];
        matmul_over(&mut MatrixMut::new(logits, count, vocab, vocab), 1.0, x, table.t(), true);
        let targets = &targets[from..from + count];
        let weights = &weights[from..from + count];
        let losses: Vec<f64> = logits
            .par_chunks_exact_mut(vocab.max(1))
            .zip(targets.par_iter().zip(weights))
            .with_min_len(8)
            .map(|(row, (&target, &weight))| {
                let nll = if gradients {
                    simd(
                        #[inline(always)]
                        || nll_backward(row, target, weight),
                    )
                } else {
                    simd(
                        #[inline(always)]
                        || nll(row, target),
                    )
                };
                f64::from(weight) * f64::from(nll)
            })
            .collect();
        loss += losses.iter().sum::<f64>();
        if gradients {
            let slopes = Matrix::new(logits, count, vocab, vocab);
            let out = &mut MatrixMut::new(&mut for_hidden[own], count, width, width);
            matmul_over(out, 1.0, slopes, table, true);
            let out = &mut MatrixMut::new(&mut for_unembed, vocab, width, width);
            matmul_into(out, 1.0, slopes.t(), x, true);
        }
    }
    UnembedLoss { loss: loss as f32, gradients: gradients.then_some((for_hidden, for_unembed)) }
}

/// Rows whose logits exist together: 8 MiB of them, at least 256.
fn block_rows(vocab: usize) -> usize {
    ((1 << 21) / vocab.max(1)).max(256)
}
