//! Decoder rows kept at norm 1, as [`super::super::cpu`] keeps them.

use mediant_tensor::{Compute, Tensor};

use super::fold::row_sums;
use super::frame::squares;

/// Removes from the gradient of each row its component along the row.
pub(super) fn remove_parallel<C: Compute>(w_dec: &Tensor<C, 2>, gradient: Tensor<C, 2>) -> Tensor<C, 2> {
    let square = squares(w_dec);
    let none = square.clone().equal_elem(0.0);
    let along = row_sums(gradient.clone() * w_dec.clone());
    gradient - w_dec.clone() * (along / square).mask_fill(none, 0.0)
}

/// Divides each row by its norm; a row of zeros stays.
pub(super) fn normalise<C: Compute>(w_dec: Tensor<C, 2>) -> Tensor<C, 2> {
    let norm = squares(&w_dec).sqrt();
    let none = norm.clone().equal_elem(0.0);
    w_dec / norm.mask_fill(none, 1.0)
}
