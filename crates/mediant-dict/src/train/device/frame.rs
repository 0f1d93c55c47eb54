//! What all families share: what a family's function is given, and what it gives.

use mediant_tensor::burn::tensor::{Bool, FloatDType};
use mediant_tensor::ops::matmul_rounded;
use mediant_tensor::{Compute, Tensor};

use super::fold::{column_sums, row_counts, row_sums};

/// What a family's function is given. Matrices of parameters are as [`crate::Weights`] has them, vectors are rows `[1, n]`.
pub(super) struct Frame<'a, C: Compute> {
    pub(super) w_enc: &'a Tensor<C, 2>,
    pub(super) b_enc: &'a Tensor<C, 2>,
    pub(super) w_dec: &'a Tensor<C, 2>,
    /// The family's own.
    pub(super) extra: &'a [Tensor<C, 2>],
    /// ‖W_dec,i‖₂, `[1, d_sae]`.
    pub(super) norms: Tensor<C, 2>,
    /// What the encoder reads, `[batch, d_in]`.
    pub(super) inputs: Tensor<C, 2>,
    /// b_dec − x, of a skip transcoder plus what skips the latents, to which these add their part: x̂ − x, `[batch, d_out]`.
    pub(super) base: Tensor<C, 2>,
    /// The sparsity coefficient.
    pub(super) coefficient: f64,
    /// `[d_sae]`.
    pub(super) dead: &'a [bool],
    /// What numbers are rounded to before they are multiplied.
    pub(super) rounding: FloatDType,
}

/// A loss: `factor` times the sum of `rows`, `[batch, 1]`.
pub(super) struct Loss<C: Compute> {
    pub(super) rows: Tensor<C, 2>,
    pub(super) factor: f64,
}

impl<C: Compute> Loss<C> {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { rows: self.rows * self.factor + other.rows * other.factor, factor: 1.0 }
    }
}

/// What a family's function gives. Gradients are of batch / 2 times the loss.
pub(super) struct Found<C: Compute> {
    /// ‖x̂ − x‖² of every row, `[batch, 1]`.
    pub(super) mse: Tensor<C, 2>,
    /// The family's own losses.
    pub(super) others: Vec<Loss<C>>,
    /// Which latents are active, `[batch, d_sae]`.
    pub(super) active: Tensor<C, 2, Bool>,
    /// The smallest activation that was chosen of every row, `[batch, 1]`, of families that choose over a batch.
    pub(super) least: Option<Tensor<C, 2>>,
    /// Gradients of W_enc, b_enc, W_dec.
    pub(super) gradients: [Tensor<C, 2>; 3],
    /// Those of the family's own parameters.
    pub(super) extra: Vec<Tensor<C, 2>>,
    /// ∂L/∂x̂, `[batch, d_out]`.
    pub(super) output_pull: Tensor<C, 2>,
    /// Σ_b ∂L/∂(x' W_enc), `[1, d_sae]`, where that is not the gradient of b_enc.
    pub(super) input_pull: Option<Tensor<C, 2>>,
}

impl<C: Compute> Frame<'_, C> {
    /// Rows of the batch.
    pub(super) fn rows(&self) -> usize {
        self.inputs.dims()[0]
    }

    /// A dense product.
    pub(super) fn product(&self, a: Tensor<C, 2>, b: Tensor<C, 2>) -> Tensor<C, 2> {
        matmul_rounded(a, b, self.rounding)
    }

    /// `x' W_enc + b_enc`, `[batch, d_sae]`.
    pub(super) fn pre_activations(&self) -> Tensor<C, 2> {
        self.product(self.inputs.clone(), self.w_enc.clone().transpose()) + self.b_enc.clone()
    }

    /// x̂ − x of these codes.
    pub(super) fn errors(&self, codes: &Tensor<C, 2>) -> Tensor<C, 2> {
        self.product(codes.clone(), self.w_dec.clone()) + self.base.clone()
    }

    /// ∂L/∂(code) of every latent, from ∂L/∂x̂.
    pub(super) fn pulls(&self, errors: &Tensor<C, 2>) -> Tensor<C, 2> {
        self.product(errors.clone(), self.w_dec.clone().transpose())
    }

    /// The gradient of W_dec.
    pub(super) fn of_decoder(&self, codes: &Tensor<C, 2>, errors: &Tensor<C, 2>) -> Tensor<C, 2> {
        self.product(codes.clone().transpose(), errors.clone())
    }

    /// The gradient of W_enc, from ∂L/∂(x' W_enc).
    pub(super) fn of_encoder(&self, pulls: &Tensor<C, 2>) -> Tensor<C, 2> {
        self.product(pulls.clone().transpose(), self.inputs.clone())
    }

    /// ∂/∂W_dec,i of p_i ‖W_dec,i‖ for `[1, d_sae]` numbers p: p_i W_dec,i / ‖W_dec,i‖, and 0 where the norm is 0, as in
    /// PyTorch.
    pub(super) fn of_norms(&self, pulls: Tensor<C, 2>) -> Tensor<C, 2> {
        let none = self.norms.clone().equal_elem(0.0);
        let factors = (pulls / self.norms.clone()).mask_fill(none, 0.0);
        self.w_dec.clone() * factors.transpose()
    }

    /// A loss that is a mean over the batch.
    pub(super) fn mean(&self, rows: Tensor<C, 2>, coefficient: f64) -> Loss<C> {
        Loss { rows, factor: coefficient / self.rows() as f64 }
    }
}

/// Σ x² of every row, `[rows, 1]`.
pub(super) fn squares<C: Compute>(x: &Tensor<C, 2>) -> Tensor<C, 2> {
    row_sums(x.clone() * x.clone())
}

/// Where not marked, zero.
pub(super) fn only<C: Compute>(marked: &Tensor<C, 2, Bool>, x: Tensor<C, 2>) -> Tensor<C, 2> {
    x.mask_fill(marked.clone().bool_not(), 0.0)
}

/// How many latents every row has, `[batch, 1]`, and how many rows every latent, `[1, d_sae]`.
pub(super) fn activity<C: Compute>(
    active: Tensor<C, 2, Bool>,
) -> (Tensor<C, 2, mediant_tensor::Int>, Tensor<C, 2, mediant_tensor::Int>) {
    (row_counts(active.clone()), column_sums(active.int()))
}
