//! `topk`: the k largest of each row, with AuxK.

use super::aux::{Aux, AuxRule};
use super::pass::{Found, Frame, Pass};
use super::term::SparseTerm;
use crate::Weights;
use crate::encode::{choose, pre_activations};
use crate::product::pieces;
use crate::train::learner::Losses;

pub(super) fn pass(
    frame: Frame<'_>,
    k: usize,
    rescale_acts_by_decoder_norm: bool,
    aux_rule: AuxRule,
    gradients: &mut Weights,
) -> Found {
    let Frame { weights, norms, inputs, errors, work, gain, rows, now, .. } = frame;
    let (d_in, d_out, d_sae) = (weights.d_in, weights.d_out, weights.d_sae);
    let scale = rescale_acts_by_decoder_norm.then_some(norms);
    let mut mse = 0.0;
    let mut term = SparseTerm::default();
    let mut aux = Aux::new(weights, aux_rule, now.dead, rows, &mut work.aux);
    for piece in pieces(rows, d_sae) {
        let inputs = &inputs[piece.start * d_in..piece.end * d_in];
        let errors = &mut errors[piece.start * d_out..piece.end * d_out];
        let hidden = pre_activations(weights, inputs, &mut work.hidden);
        let mut codes = choose(hidden, d_sae, scale, k);
        if let Some(scale) = scale {
            codes.divide_by(scale);
        }
        mse += term.push(&codes, &weights.w_dec, errors, gain, |_| 0.0);
        if let Some(aux) = &mut aux {
            let chosen = aux.choose(hidden, scale);
            aux.push(&chosen, &weights.w_dec, errors, inputs, None);
        }
    }
    term.backward(inputs, errors, gain, gradients);
    let aux_loss = aux.map_or(0.0, |aux| aux.backward(errors, inputs, gradients));
    let losses = Losses { mse: mse / rows as f64, others: vec![aux_loss] };
    let pass = Pass { losses, active: term.codes().entries(), fired: term.fired(d_sae), least: None };
    Found { pass, ..Found::default() }
}
