//! `relu`: max(z, 0), with an L1 loss on activations times decoder norms.

use super::dense_pays;
use super::pass::{Found, Frame, Pass, add_norm_gradient};
use super::term::{DenseTerm, SparseTerm};
use crate::Weights;
use crate::encode::{positive_entries, pre_activations, rectify_adding};
use crate::product::pieces;
use crate::train::learner::Losses;

pub(super) fn pass(frame: Frame<'_>, gradients: &mut Weights) -> Found {
    let Frame { weights, norms, inputs, errors, work, gain, rows, now, .. } = frame;
    let (d_in, d_out, d_sae) = (weights.d_in, weights.d_out, weights.d_sae);
    let l1_gain = now.coefficient as f32 / rows as f32;
    let penalty = |latent: usize| l1_gain * norms[latent];
    let (mut mse, mut active) = (0.0, 0);
    // Σ_b f, which the L1 loss and the question who fired need.
    let mut activity = vec![0.0f32; d_sae];
    let mut term = SparseTerm::default();
    for piece in pieces(rows, d_sae) {
        let inputs = &inputs[piece.start * d_in..piece.end * d_in];
        let errors = &mut errors[piece.start * d_out..piece.end * d_out];
        let hidden = pre_activations(weights, inputs, &mut work.hidden);
        let count = rectify_adding(hidden, &mut activity);
        active += count;
        if dense_pays(count, piece.len(), d_sae) {
            let dense = DenseTerm { codes: hidden, w_dec: &weights.w_dec, d_out };
            mse += dense.decode(errors);
            let into = [&mut gradients.w_enc[..], &mut gradients.b_enc, &mut gradients.w_dec];
            dense.backward(errors, inputs, gain, penalty, &mut work.pulls, into);
            term.skip_rows(piece.len());
        } else {
            let codes = positive_entries(hidden, d_sae);
            mse += term.push(&codes, &weights.w_dec, errors, gain, penalty);
        }
    }
    term.backward(inputs, errors, gain, gradients);
    let l1: f64 = activity.iter().zip(norms).map(|(f, norm)| f64::from(*f) * f64::from(*norm)).sum();
    if now.coefficient != 0.0 {
        let pulls: Vec<f32> = activity.iter().map(|f| l1_gain * f).collect();
        add_norm_gradient(weights, norms, &pulls, &mut gradients.w_dec);
    }
    let losses = Losses { mse: mse / rows as f64, others: vec![now.coefficient * l1 / rows as f64] };
    let fired = activity.iter().map(|sum| *sum > 0.0).collect();
    Found { pass: Pass { losses, active, fired, least: None }, ..Found::default() }
}
