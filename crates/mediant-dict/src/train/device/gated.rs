//! `gated`: a gate π = x' W_enc + b_gate, and a magnitude m = (π − b_gate) ⊙ e^r_mag + b_mag; f = max(m, 0) where π > 0. See
//! [`super::super::cpu`]'s.

use mediant_tensor::Compute;

use super::fold::{column_sums, row_sums};
use super::frame::{Found, Frame, only, squares};

pub(super) fn pass<C: Compute>(frame: &Frame<'_, C>, detach_decoder: bool) -> Found<C> {
    let (b_mag, stretch) = (frame.extra[0].clone(), frame.extra[1].clone().exp());
    let pi = frame.pre_activations();
    let open = pi.clone().greater_elem(0.0);
    let stretched = (pi.clone() - frame.b_enc.clone()) * stretch.clone();
    let magnitude = stretched.clone() + b_mag;
    let active = magnitude.clone().greater_elem(0.0).bool_and(open.clone());
    let (codes, gate) = (only(&active, magnitude), only(&open, pi));

    let (errors, gate_errors) = (frame.errors(&codes), frame.errors(&gate));
    let penalty = frame.norms.clone() * (frame.coefficient / 2.0);
    let pulls = only(&active, frame.pulls(&errors));
    let gate_pulls = only(&open, frame.pulls(&gate_errors) + penalty);
    let encoder = pulls.clone() * stretch + gate_pulls.clone();
    let mut w_dec =
        frame.of_decoder(&codes, &errors) + frame.of_norms(column_sums(gate.clone()) * (frame.coefficient / 2.0));
    let mut output_pull = errors.clone();
    if !detach_decoder {
        w_dec = w_dec + frame.of_decoder(&gate, &gate_errors);
        output_pull = output_pull + gate_errors.clone();
    }
    Found {
        mse: squares(&errors),
        others: vec![
            frame.mean(row_sums(gate * frame.norms.clone()), frame.coefficient),
            frame.mean(squares(&gate_errors), 1.0),
        ],
        active,
        least: None,
        gradients: [frame.of_encoder(&encoder), column_sums(gate_pulls), w_dec],
        extra: vec![column_sums(pulls.clone()), column_sums(pulls * stretched)],
        output_pull,
        input_pull: Some(column_sums(encoder)),
    }
}
