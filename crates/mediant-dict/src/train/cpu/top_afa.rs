//! `top_afa`: as many latents of each row as its norm asks for, with the AFA loss and its own AuxK.
//!
//! That AuxK takes dead latents after ReLU, and its gradient reaches the main reconstruction through the residual: with
//! e = x̂ − x and e_aux = ê + e, ∂L/∂x̂ = 2/B (e + c e_aux).

use super::aux::{Aux, AuxRule};
use super::dense_pays;
use super::pass::{Found, Frame, Pass};
use super::term::{DenseTerm, SparseTerm, add_column_sums, decode};
use crate::encode::{pre_activations, zeroed};
use crate::product::{add_transposed_times, pieces};
use crate::train::learner::Losses;
use crate::weights::sum_of_squares;
use crate::{TopAfa, Weights, afa};
use rayon::prelude::*;

pub(super) fn pass(frame: Frame<'_>, options: &TopAfa, gradients: &mut Weights) -> Found {
    let Frame { weights, norms, x, inputs, errors, work, gain, rows, now } = frame;
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let coefficient = options.aux_loss_coefficient;
    let rule = AuxRule { coefficient, k: options.k_aux, grows: false, rectify: true, relative: false };
    let mut aux = Aux::new(weights, rule, now.dead, rows, &mut work.aux);
    // ∂L/∂x̂ / gain, where it is not the errors alone.
    let mut output_pull = aux.is_some().then(|| vec![0.0; errors.len()]);
    let afa_factor = options.afa_coefficient * d_in as f64 / rows as f64;
    let (mut mse, mut afa_loss, mut active) = (0.0, 0.0, 0);
    let mut fired = vec![false; d_sae];
    let mut term = SparseTerm::default();
    for piece in pieces(rows, d_sae) {
        let part = piece.start * d_in..piece.end * d_in;
        let (inputs, errors) = (&inputs[part.clone()], &mut errors[part.clone()]);
        let hidden = pre_activations(weights, inputs, &mut work.hidden);
        let codes = afa::choose(hidden, norms, inputs);
        active += codes.entries();
        codes.latents().iter().for_each(|latent| fired[*latent as usize] = true);
        // (Loss, ∂L/∂f_i / f_i) of ‖f‖ against ‖x‖ in every row.
        let norms_of_x = x[part.clone()].par_chunks(d_in).enumerate();
        let apart: Vec<(f64, f32)> = norms_of_x
            .map(|(row, x)| {
                let (code, input) = (sum_of_squares(codes.row(row).1).sqrt(), sum_of_squares(x).sqrt());
                let apart = code - input;
                let pull = if code > 0.0 { 2.0 * afa_factor * apart / code } else { 0.0 };
                (afa_factor * apart * apart, pull as f32)
            })
            .collect();
        afa_loss += apart.iter().map(|(loss, _)| loss).sum::<f64>();

        let of_dense = if dense_pays(codes.entries(), piece.len(), d_sae) {
            let matrix = zeroed(&mut work.codes, piece.len() * d_sae);
            matrix.par_chunks_mut(d_sae).enumerate().for_each(|(row, matrix)| {
                let (latents, values) = codes.row(row);
                latents.iter().zip(values).for_each(|(latent, value)| matrix[*latent as usize] = *value);
            });
            Some(DenseTerm { codes: matrix, w_dec: &weights.w_dec, d_out: d_in })
        } else {
            None
        };
        mse += match &of_dense {
            Some(dense) => dense.decode(errors),
            None => decode(&codes, &weights.w_dec, errors),
        };
        let pull: &[f32] = match (&mut aux, &mut output_pull) {
            (Some(aux), Some(all)) => {
                let pull = &mut all[part];
                pull.copy_from_slice(errors);
                let chosen = aux.choose(hidden, None);
                aux.push(&chosen, &weights.w_dec, errors, inputs, Some(&mut *pull));
                pull
            }
            _ => errors,
        };
        if let Some(dense) = of_dense {
            add_transposed_times(&mut gradients.w_dec, gain, dense.codes, pull, piece.len());
            let pulls = dense.pulls(pull, gain, &mut work.pulls);
            let matrices = pulls.par_chunks_mut(d_sae).zip(dense.codes.par_chunks(d_sae));
            matrices.zip(&apart).for_each(|((pulls, codes), (_, afa))| {
                for (pull, code) in pulls.iter_mut().zip(codes) {
                    *pull = if *code > 0.0 { *pull + afa * code } else { 0.0 };
                }
            });
            add_column_sums(pulls, d_sae, &mut gradients.b_enc);
            add_transposed_times(&mut gradients.w_enc, 1.0, pulls, inputs, piece.len());
            term.skip_rows(piece.len());
        } else {
            term.push_decoded(&codes, &weights.w_dec, pull, gain, |row, code| apart[row].1 * code);
        }
    }
    term.backward(inputs, output_pull.as_deref().unwrap_or(errors), gain, gradients);
    let aux_loss = aux.map_or(0.0, |aux| aux.backward(errors, inputs, gradients));
    // There is no encoder bias; what it would be pulled by pulls on b_dec through the input.
    let input_pull = Some(gradients.b_enc.clone());
    gradients.b_enc.fill(0.0);
    let losses = Losses { mse: mse / rows as f64, others: vec![afa_loss, aux_loss] };
    Found { pass: Pass { losses, active, fired, least: None }, output_pull, input_pull }
}
