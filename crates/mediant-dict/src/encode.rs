//! From inputs to codes: what training and inference share.

use mediant_tensor::kernels::simd;
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::kernels::topk::{TopKScratch, top_k};
use rayon::prelude::*;

use crate::Weights;
use crate::product::add_times_transposed;

/// `x + sign · bias` for every row.
pub(crate) fn add_to_rows(x: &[f32], bias: &[f32], sign: f32) -> Vec<f32> {
    let mut out = x.to_vec();
    out.par_chunks_mut(bias.len()).for_each(|row| {
        row.iter_mut().zip(bias).for_each(|(x, bias)| *x += sign * bias);
    });
    out
}

/// `inputs · W_enc + b_enc`, in the buffer.
pub(crate) fn pre_activations<'a>(weights: &Weights, inputs: &[f32], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
    let len = inputs.len() / weights.d_in * weights.d_sae;
    buffer.resize(len.max(buffer.len()), 0.0);
    let hidden = &mut buffer[..len];
    hidden.par_chunks_mut(weights.d_sae).for_each(|row| row.copy_from_slice(&weights.b_enc));
    add_times_transposed(hidden, 1.0, inputs, &weights.w_enc, weights.d_in);
    hidden
}

/// Cuts at zero; how many entries stay above it.
pub(crate) fn rectify(hidden: &mut [f32], width: usize) -> usize {
    let rows = hidden.par_chunks_mut(width);
    rows.map(|row| {
        simd(|| {
            let mut active = 0u32;
            for x in row {
                *x = if *x > 0.0 { *x } else { 0.0 };
                active += u32::from(*x > 0.0);
            }
            active as usize
        })
    })
    .sum()
}

/// The entries above zero.
pub(crate) fn positive_entries(hidden: &[f32], width: usize) -> Codes {
    Codes::collect(hidden.par_chunks(width), |row, (): &mut (), codes| {
        codes.push_row((0u32..).zip(row.iter().copied()).filter(|(_, value)| *value > 0.0));
    })
}

/// Multiplies every row by `scale`, if there is one, and keeps the k largest of each row where they are above zero.
pub(crate) fn choose(hidden: &mut [f32], width: usize, scale: Option<&[f32]>, k: usize) -> Codes {
    Codes::collect(hidden.par_chunks_mut(width), |row, scratch: &mut TopKScratch, codes| {
        if let Some(scale) = scale {
            simd(|| row.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale));
        }
        codes.push_row(top_k(row, k, scratch).iter().copied().filter(|(_, value)| *value > 0.0));
    })
}
