//! One forward and backward pass over a batch: what all families share.

use mediant_tensor::kernels::sparse::add_weighted;
use rayon::prelude::*;

use super::aux::{AuxBuffers, AuxRule};
use super::{batch_topk, gated, jump_relu, matching_pursuit, relu, top_afa, topk};
use crate::encode::scaled_plus_rows;
use crate::product::{add_times_transposed, add_transposed_times};
use crate::train::learner::{Losses, Now, Samples};
use crate::{Extra, Objective, Weights};

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// The losses.
    pub losses: Losses,
    /// Active latents of all rows together.
    pub active: usize,
    /// `[d_sae]`: whether a latent was active in any row.
    pub fired: Vec<bool>,
    /// The smallest activation that was chosen, of families that choose over a batch, as activations are compared.
    pub least: Option<f32>,
}

/// Large intermediate results, kept from step to step: fresh memory costs a page fault every 4 KiB.
#[derive(Debug, Default)]
pub struct Buffers {
    inputs: Vec<f32>,
    errors: Vec<f32>,
    pub(super) work: Work,
}

/// Those that families use as they like.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) hidden: Vec<f32>,
    pub(super) codes: Vec<f32>,
    pub(super) pulls: Vec<f32>,
    pub(super) aux: AuxBuffers,
    /// Of the inner widths.
    pub(super) inner_aux: Vec<AuxBuffers>,
}

impl Buffers {
    /// x̂ − x of the last pass, `[batch, d_out]`.
    pub fn errors(&self) -> &[f32] {
        &self.errors
    }
}

/// What a family's pass is given.
pub(super) struct Frame<'a> {
    pub(super) weights: &'a Weights,
    /// ‖W_dec,i‖₂.
    pub(super) norms: &'a [f32],
    /// The batch, `[batch, d_in]`.
    pub(super) x: &'a [f32],
    /// What the encoder reads, `[batch, d_in]`.
    pub(super) inputs: &'a [f32],
    /// b_dec − x, of a skip transcoder plus what skips the latents, to which the pass adds the latents' part: x̂ − x,
    /// `[batch, d_out]`.
    pub(super) errors: &'a mut [f32],
    pub(super) work: &'a mut Work,
    /// 2 / batch: ∂L/∂x̂ is this times the error.
    pub(super) gain: f32,
    pub(super) rows: usize,
    pub(super) now: &'a Now<'a>,
}

/// What a family's pass gives, besides the gradients of everything but b_dec.
#[derive(Default)]
pub(super) struct Found {
    pub(super) pass: Pass,
    /// ∂L/∂x̂ / gain where there are several reconstructions, `[batch, d_out]`; the errors otherwise.
    pub(super) output_pull: Option<Vec<f32>>,
    /// Σ_b ∂L/∂(x' W_enc), `[d_sae]`, where that is not the gradient of b_enc.
    pub(super) input_pull: Option<Vec<f32>>,
}

/// A caller's mistake, which must not train silently.
const NOT_EXTENDED: &str = "`Objective::extend` gives weights the family's own parameters";

/// Losses of a batch and their gradients.
///
/// # Panics
/// When the weights lack the family's own parameters.
pub fn pass(
    weights: &Weights,
    objective: &Objective,
    apply_b_dec_to_input: bool,
    batch: Samples<'_>,
    now: &Now<'_>,
    gradients: &mut Weights,
    buffers: &mut Buffers,
) -> Pass {
    let Samples { input: x, target } = batch;
    let rows = x.len() / weights.d_in;
    let norms = weights.decoder_norms();
    let Buffers { inputs, errors, work } = buffers;
    let inputs = if apply_b_dec_to_input { scaled_plus_rows(1.0, x, -1.0, &weights.b_dec, inputs) } else { x };
    let errors = scaled_plus_rows(-1.0, target, 1.0, &weights.b_dec, errors);
    if let Some(w_skip) = &weights.w_skip {
        add_times_transposed(errors, 1.0, x, w_skip, weights.d_in);
    }
    let gain = 2.0 / rows as f32;
    gradients.clear();
    let frame = Frame { weights, norms: &norms, x, inputs, errors, work, gain, rows, now };
    let found = match objective {
        Objective::Relu { .. } => relu::pass(frame, gradients),
        Objective::Gated { detach_decoder, .. } => {
            let Extra::Gate { b_mag, r_mag } = &weights.extra else { unreachable!("{NOT_EXTENDED}") };
            gated::pass(frame, b_mag, r_mag, *detach_decoder, gradients)
        }
        Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient, aux_loss } => {
            let rule = AuxRule::of(*aux_loss, *aux_loss_coefficient, weights.d_out);
            topk::pass(frame, *k, *rescale_acts_by_decoder_norm, rule, gradients)
        }
        Objective::BatchTopK { choice } => batch_topk::pass(frame, choice, &[], false, gradients),
        Objective::Matryoshka { choice, widths, aux_by_width } => {
            batch_topk::pass(frame, choice, widths, *aux_by_width, gradients)
        }
        Objective::JumpRelu(options) => {
            let Extra::Threshold(thresholds) = &weights.extra else { unreachable!("{NOT_EXTENDED}") };
            jump_relu::pass(frame, options, thresholds, gradients)
        }
        Objective::MatchingPursuit(rule) => matching_pursuit::pass(frame, rule, gradients),
        Objective::TopAfa(options) => top_afa::pass(frame, options, gradients),
    };
    let output_pull = found.output_pull.as_deref().unwrap_or(&buffers.errors);
    let input_pull = apply_b_dec_to_input.then(|| found.input_pull.as_deref().unwrap_or(&gradients.b_enc));
    if let Some(gradient) = &mut gradients.w_skip {
        add_transposed_times(gradient, gain, output_pull, x, rows);
    }
    let gradient = b_dec_gradient(weights, output_pull, gain, input_pull);
    gradients.b_dec.copy_from_slice(&gradient);
    found.pass
}

/// Adds ∂/∂W_dec,i of p_i ‖W_dec,i‖: p_i W_dec,i / ‖W_dec,i‖, and 0 where the norm is 0, as in PyTorch.
pub(super) fn add_norm_gradient(weights: &Weights, norms: &[f32], pulls: &[f32], gradient: &mut [f32]) {
    let rows = gradient.par_chunks_mut(weights.d_out).zip(weights.w_dec.par_chunks(weights.d_out));
    rows.zip(pulls.par_iter().zip(norms)).for_each(|((gradient, w_dec), (pull, norm))| {
        if *norm > 0.0 && *pull != 0.0 {
            let factor = pull / norm;
            gradient.iter_mut().zip(w_dec).for_each(|(g, w)| *g += factor * w);
        }
    });
}

/// Σ_b ∂L/∂x̂ − W_enc Σ_b ∂L/∂z; the second part only if b_dec is subtracted from the input.
fn b_dec_gradient(weights: &Weights, output_pull: &[f32], gain: f32, input_pull: Option<&[f32]>) -> Vec<f32> {
    const ROWS: usize = 64;
    const LATENTS: usize = 256;
    let (d_in, d_out) = (weights.d_in, weights.d_out);
    let mut total = vec![0.0f64; d_out];
    let sums: Vec<Vec<f32>> = output_pull.par_chunks(ROWS * d_out).map(|rows| sum_of_rows(rows, d_out)).collect();
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(total, x)| *total += f64::from(x) * f64::from(gain));
    }
    if let Some(pull) = input_pull {
        let latents: Vec<u32> = (0..LATENTS as u32).collect();
        let rows = weights.w_enc.par_chunks(LATENTS * d_in).zip(pull.par_chunks(LATENTS));
        let sums: Vec<Vec<f32>> = rows
            .map(|(w_enc, pull)| {
                let mut sum = vec![0.0; d_in];
                add_weighted(&mut sum, &latents[..pull.len()], pull, w_enc);
                sum
            })
            .collect();
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(total, x)| *total -= f64::from(x));
        }
    }
    total.into_iter().map(|total| total as f32).collect()
}

fn sum_of_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sum
}
