//! `matching_pursuit`: latents chosen one after another, with gradients through all choices.
//!
//! As SAELens has it, x̂ = Σ_t v_t W_dec,i_t + b_dec with v_t = r_t · W_dec,i_t and r_{t+1} = r_t − v_t W_dec,i_t, and only which
//! latents are chosen is constant. With g = ∂L/∂x̂ and ρ_t = ∂L/∂r_t, from ρ = 0 after the last choice backwards:
//! ∂L/∂v_t = (g − ρ_{t+1}) · W_dec,i_t, ∂L/∂W_dec,i_t += v_t (g − ρ_{t+1}) + ∂L/∂v_t r_t, ρ_t = ρ_{t+1} + ∂L/∂v_t W_dec,i_t.

use mediant_tensor::kernels::sparse::{ByLatent, Codes, dot_with_each};
use rayon::prelude::*;

use super::pass::{Found, Frame, Pass};
use super::term::decode;
use crate::product::pieces;
use crate::pursuit::{codes, subtract};
use crate::train::learner::Losses;
use crate::{MatchingPursuit, Weights};

/// Numbers of a block of gradients by choice.
const BLOCK: usize = 1 << 23;

pub(super) fn pass(frame: Frame<'_>, rule: &MatchingPursuit, gradients: &mut Weights) -> Found {
    let Frame { weights, inputs, errors, work, gain, rows, .. } = frame;
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let (mut mse, mut active) = (0.0, 0);
    let mut fired = vec![false; d_sae];
    // ∂L/∂x̂ − ρ_0, in units of gain: b_dec is added to x̂ and subtracted from r_0.
    let mut output_pull = Vec::with_capacity(errors.len());
    for piece in pieces(rows, d_sae) {
        let part = piece.start * d_in..piece.end * d_in;
        let (inputs, errors) = (&inputs[part.clone()], &mut errors[part]);
        let choices = rule.pursue(inputs, &weights.w_dec, d_in, &mut work.hidden);
        let codes = codes(&choices);
        mse += decode(&codes, &weights.w_dec, errors);
        active += codes.entries();
        codes.latents().iter().for_each(|latent| fired[*latent as usize] = true);

        let mut start = 0;
        while start < choices.len() {
            let mut entries = choices[start].len();
            let mut end = start + 1;
            while end < choices.len() && (entries + choices[end].len()) * d_in <= BLOCK {
                entries += choices[end].len();
                end += 1;
            }
            let (choices, part) = (&choices[start..end], start * d_in..end * d_in);
            let rows = choices.par_iter().zip(inputs[part.clone()].par_chunks(d_in).zip(errors[part].par_chunks(d_in)));
            let by_row = rows.map(|(choices, (input, error))| backward(choices, input, error, gain, &weights.w_dec));
            let mut by_choice = Vec::with_capacity(entries * d_in);
            let mut latents = Codes::default();
            for (choices, (gradients, pull)) in choices.iter().zip(by_row.collect::<Vec<_>>()) {
                by_choice.extend(gradients);
                output_pull.extend(pull);
                choices.iter().for_each(|(latent, _)| latents.push_row([(*latent, 1.0)]));
            }
            if entries > 0 {
                let by_latent = ByLatent::new(&latents, d_sae);
                by_latent.add_sums(&by_latent.arrange(latents.values()), &by_choice, &mut gradients.w_dec);
            }
            start = end;
        }
    }
    let losses = Losses { mse: mse / rows as f64, others: Vec::new() };
    let pass = Pass { losses, active, fired, least: None };
    Found { pass, output_pull: Some(output_pull), input_pull: Some(Vec::new()) }
}

/// Of one row: ∂L/∂W_dec,i_t of every choice, `[choices, d_in]`, and (g − ρ_0) / gain.
fn backward(choices: &[(u32, f32)], input: &[f32], error: &[f32], gain: f32, w_dec: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let d_in = input.len();
    // The residuals, in whose place the gradients come.
    let mut all = Vec::with_capacity(choices.len() * d_in);
    let mut residual = input.to_vec();
    for (latent, value) in choices {
        all.extend_from_slice(&residual);
        subtract(&mut residual, *value, *latent, w_dec);
    }
    // (g − ρ) / gain.
    let mut pull = error.to_vec();
    for ((latent, value), gradient) in choices.iter().zip(all.chunks_exact_mut(d_in)).rev() {
        let mut along = [0.0];
        dot_with_each(&pull, &[*latent], w_dec, &mut along);
        let row = &w_dec[*latent as usize * d_in..][..d_in];
        for ((gradient, pull), w) in gradient.iter_mut().zip(&mut pull).zip(row) {
            *gradient = gain * (value * *pull + along[0] * *gradient);
            *pull -= along[0] * w;
        }
    }
    (all, pull)
}
