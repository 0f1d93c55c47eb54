//! `relu`: max(z, 0), with an L1 loss on activations times decoder norms.

use mediant_tensor::Compute;

use super::fold::{column_sums, row_sums};
use super::frame::{Found, Frame, only, squares};

pub(super) fn pass<C: Compute>(frame: &Frame<'_, C>) -> Found<C> {
    let pre = frame.pre_activations();
    let active = pre.clone().greater_elem(0.0);
    let codes = only(&active, pre);
    let errors = frame.errors(&codes);
    let penalty = frame.norms.clone() * (frame.coefficient / 2.0);
    let pulls = only(&active, frame.pulls(&errors) + penalty);
    let w_dec =
        frame.of_decoder(&codes, &errors) + frame.of_norms(column_sums(codes.clone()) * (frame.coefficient / 2.0));
    Found {
        mse: squares(&errors),
        others: vec![frame.mean(row_sums(codes * frame.norms.clone()), frame.coefficient)],
        active,
        least: None,
        gradients: [frame.of_encoder(&pulls), column_sums(pulls), w_dec],
        extra: Vec::new(),
        output_pull: errors,
        input_pull: None,
    }
}
