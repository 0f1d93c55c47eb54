//! One forward and backward pass over a batch.

use mediant_tensor::kernels::sparse::add_weighted;
use rayon::prelude::*;

use super::aux::{Aux, AuxBuffers};
use super::dense_pays;
use super::term::{DenseTerm, SparseTerm, add_column_sums};
use crate::Weights;
use crate::config::Objective;
use crate::encode::{choose, positive_entries, pre_activations, rectify, scaled_plus_rows};
use crate::product::pieces;
use crate::train::learner::{Losses, Now};

/// The gradients of all parameters, in the layout of [`Weights`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// `[d_sae, d_in]`.
    pub w_enc: Vec<f32>,
    /// `[d_sae]`.
    pub b_enc: Vec<f32>,
    /// `[d_sae, d_in]`.
    pub w_dec: Vec<f32>,
    /// `[d_in]`.
    pub b_dec: Vec<f32>,
}

impl Gradients {
    /// Zeros for parameters of these sizes.
    pub fn zeros(d_in: usize, d_sae: usize) -> Self {
        Self {
            w_enc: vec![0.0; d_sae * d_in],
            b_enc: vec![0.0; d_sae],
            w_dec: vec![0.0; d_sae * d_in],
            b_dec: vec![0.0; d_in],
        }
    }

    /// W_enc, b_enc, W_dec, b_dec.
    pub fn each(&self) -> [&[f32]; 4] {
        [&self.w_enc, &self.b_enc, &self.w_dec, &self.b_dec]
    }

    fn clear(&mut self) {
        for gradient in [&mut self.w_enc, &mut self.b_enc, &mut self.w_dec, &mut self.b_dec] {
            gradient.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
        }
    }
}

/// What a pass found.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The losses.
    pub losses: Losses,
    /// Active latents of all rows together.
    pub active: usize,
    /// `[d_sae]`: whether a latent was active in any row.
    pub fired: Vec<bool>,
}

/// Large intermediate results, kept from step to step: fresh memory costs a page fault every 4 KiB.
#[derive(Debug, Default)]
pub struct Buffers {
    inputs: Vec<f32>,
    errors: Vec<f32>,
    hidden: Vec<f32>,
    pulls: Vec<f32>,
    aux: AuxBuffers,
}

impl Buffers {
    /// x̂ − x of the last pass, `[batch, d_in]`.
    pub fn errors(&self) -> &[f32] {
        &self.errors
    }
}

/// Losses of a batch `x`, `[batch, d_in]`, and their gradients.
pub fn pass(
    weights: &Weights,
    objective: &Objective,
    apply_b_dec_to_input: bool,
    x: &[f32],
    now: &Now<'_>,
    gradients: &mut Gradients,
    buffers: &mut Buffers,
) -> Pass {
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let rows = x.len() / d_in;
    let gain = 2.0 / rows as f32;
    let l1_gain = now.l1 as f32 / rows as f32;
    let norms = weights.decoder_norms();
    let Buffers { inputs, errors, hidden, pulls, aux: aux_buffers } = buffers;
    let inputs = if apply_b_dec_to_input { scaled_plus_rows(1.0, x, -1.0, &weights.b_dec, inputs) } else { x };
    // Minus the target plus b_dec; the latents' part is added below.
    let errors = scaled_plus_rows(-1.0, x, 1.0, &weights.b_dec, errors);
    gradients.clear();

    let mut losses = Losses::default();
    let mut active = 0;
    // Σ_b f, which the L1 loss and the question who fired need.
    let mut activity = vec![0.0f32; d_sae];
    let mut main = SparseTerm::default();
    let mut aux = Aux::new(weights, objective, now.dead, rows, aux_buffers);

    for piece in pieces(rows, d_sae) {
        let part = piece.start * d_in..piece.end * d_in;
        let (inputs, errors) = (&inputs[part.clone()], &mut errors[part]);
        let hidden = pre_activations(weights, inputs, hidden);
        match *objective {
            Objective::Relu { .. } => {
                let count = rectify(hidden, d_sae);
                active += count;
                let penalty = |latent: usize| l1_gain * norms[latent];
                if dense_pays(count, piece.len(), d_sae) {
                    let term = DenseTerm { codes: hidden, w_dec: &weights.w_dec, d_in };
                    losses.mse += term.decode(errors);
                    add_column_sums(hidden, d_sae, &mut activity);
                    let into = [&mut gradients.w_enc[..], &mut gradients.b_enc, &mut gradients.w_dec];
                    term.backward(errors, inputs, gain, penalty, pulls, into);
                    main.skip_rows(piece.len());
                } else {
                    let codes = positive_entries(hidden, d_sae);
                    losses.mse += main.push(&codes, &weights.w_dec, errors, gain, penalty);
                }
            }
            Objective::TopK { k, rescale_acts_by_decoder_norm, .. } => {
                let scale = rescale_acts_by_decoder_norm.then_some(norms.as_slice());
                let mut codes = choose(hidden, d_sae, scale, k);
                if let Some(scale) = scale {
                    codes.divide_by(scale);
                }
                active += codes.entries();
                losses.mse += main.push(&codes, &weights.w_dec, errors, gain, |_| 0.0);
                if let Some(aux) = &mut aux {
                    losses.aux += aux.push(hidden, scale, &weights.w_dec, errors, inputs);
                }
            }
        }
    }

    main.add_activity(&mut activity);
    main.backward(inputs, errors, gain, gradients);
    if let Some(aux) = aux {
        aux.backward(inputs, gradients);
    }
    if now.l1 != 0.0 {
        losses.l1 = now.l1 * activity.iter().zip(&norms).map(|(f, norm)| f64::from(*f) * f64::from(*norm)).sum::<f64>();
        add_l1_gradient(weights, &activity, &norms, l1_gain, &mut gradients.w_dec);
    }
    add_b_dec_gradient(weights, apply_b_dec_to_input, errors, gain, gradients);
    losses.mse /= rows as f64;
    losses.l1 /= rows as f64;
    Pass { losses, active, fired: activity.iter().map(|sum| *sum > 0.0).collect() }
}

/// ∂/∂W_dec,i of λ/B Σ_b f_i ‖W_dec,i‖ = λ/B (Σ_b f_i) W_dec,i / ‖W_dec,i‖, and 0 where the norm is 0, as in PyTorch.
fn add_l1_gradient(weights: &Weights, activity: &[f32], norms: &[f32], l1_gain: f32, gradient: &mut [f32]) {
    let rows = gradient.par_chunks_mut(weights.d_in).zip(weights.w_dec.par_chunks(weights.d_in));
    rows.zip(activity.par_iter().zip(norms)).for_each(|((gradient, w_dec), (activity, norm))| {
        if *norm > 0.0 && *activity > 0.0 {
            let factor = l1_gain * activity / norm;
            gradient.iter_mut().zip(w_dec).for_each(|(g, w)| *g += factor * w);
        }
    });
}

/// Σ_b ∂L/∂x̂ − W_enc Σ_b ∂L/∂z; the second part only if b_dec is subtracted from the input.
fn add_b_dec_gradient(weights: &Weights, through_input: bool, errors: &[f32], gain: f32, gradients: &mut Gradients) {
    const ROWS: usize = 64;
    const LATENTS: usize = 256;
    let d_in = weights.d_in;
    let mut total = vec![0.0f64; d_in];
    let sums: Vec<Vec<f32>> = errors.par_chunks(ROWS * d_in).map(|rows| sum_of_rows(rows, d_in)).collect();
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(total, x)| *total += f64::from(x) * f64::from(gain));
    }
    if through_input {
        let latents: Vec<u32> = (0..LATENTS as u32).collect();
        let rows = weights.w_enc.par_chunks(LATENTS * d_in).zip(gradients.b_enc.par_chunks(LATENTS));
        let sums: Vec<Vec<f32>> = rows
            .map(|(w_enc, gradient)| {
                let mut sum = vec![0.0; d_in];
                add_weighted(&mut sum, &latents[..gradient.len()], gradient, w_enc);
                sum
            })
            .collect();
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(total, x)| *total -= f64::from(x));
        }
    }
    gradients.b_dec.iter_mut().zip(total).for_each(|(gradient, total)| *gradient = total as f32);
}

fn sum_of_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sum
}
