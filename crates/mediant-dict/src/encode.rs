//! From inputs to codes: what training and inference share.

use mediant_tensor::kernels::simd;
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::kernels::topk::{TopKScratch, top_k};
use rayon::prelude::*;

use crate::Weights;
use crate::product::add_times_transposed;

/// `a · x + b · row` for every row of `x`, in the buffer.
pub(crate) fn scaled_plus_rows<'a>(a: f32, x: &[f32], b: f32, row: &[f32], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
    let out = sized(buffer, x.len());
    out.par_chunks_mut(row.len()).zip(x.par_chunks(row.len())).for_each(|(out, x)| {
        out.iter_mut().zip(x).zip(row).for_each(|((out, x), row)| *out = a * x + b * row);
    });
    out
}

/// A buffer as a slice of exactly this length, whatever it holds.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// A buffer as a slice of this many zeros.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let out = sized(buffer, len);
    out.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
    out
}

/// `inputs · W_enc + b_enc`, in the buffer.
pub(crate) fn pre_activations<'a>(weights: &Weights, inputs: &[f32], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
    let hidden = sized(buffer, inputs.len() / weights.d_in * weights.d_sae);
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
