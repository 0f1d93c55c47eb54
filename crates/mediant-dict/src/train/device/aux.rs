//! The AuxK loss: dead latents reconstruct what the living ones leave. See [`super::super::cpu`]'s.

use std::ops::Range;

use mediant_tensor::burn::tensor::TensorData;
use mediant_tensor::{Compute, Int, Tensor};

use super::fold::column_sums;
use super::frame::{Frame, Loss, only, squares};
use super::largest::{Among, Scope, largest};
use crate::AuxLoss;

/// The form of a tool, and the coefficient.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) form: AuxLoss,
    pub(super) coefficient: f64,
}

/// Adds its gradients and gives the loss: dead ones of some latents reconstruct what `errors` leave. `hidden` holds the
/// pre-activations `pre` as they are compared.
pub(super) fn add<C: Compute>(
    frame: &Frame<'_, C>,
    pre: &Tensor<C, 2>,
    hidden: &Tensor<C, 2>,
    (latents, errors): (Range<usize>, &Tensor<C, 2>),
    Rule { form, coefficient }: Rule,
    gradients: &mut [Tensor<C, 2>; 3],
) -> Loss<C> {
    let half = errors.dims()[1] / 2;
    let dead: Vec<usize> = latents.filter(|latent| frame.dead[*latent]).collect();
    let k = half.min(dead.len());
    if coefficient == 0.0 || k == 0 {
        return frame.mean(errors.clone().narrow(1, 0, 1), 0.0);
    }
    let (among, coefficient, over) = match form {
        AuxLoss::Saelens => (Among::All, coefficient * (dead.len() as f64 / half as f64).min(1.0), None),
        AuxLoss::DictionaryLearning => (Among::Positive, coefficient, Some(over_variance(errors))),
    };
    let latents = Latents::new(&dead, frame.dead.len(), &errors.device());
    let chosen = largest(&latents.columns(hidden), k, Scope::Row, among);
    let codes = only(&chosen, latents.columns(pre));
    let w_dec = latents.rows(frame.w_dec);
    // ê − (x − x̂)
    let errors = frame.product(codes.clone(), w_dec.clone()) + errors.clone();
    let mut rows = squares(&errors);
    let pull = match over {
        None => errors,
        Some(over) => {
            rows = rows * over.clone();
            errors * over
        }
    };
    let pulls = only(&chosen, frame.product(pull.clone(), w_dec.transpose()));
    let own = [frame.of_encoder(&pulls), column_sums(pulls).transpose(), frame.of_decoder(&codes, &pull)];
    let [w_enc, b_enc, w_dec] = own.map(|gradient| latents.spread(gradient * coefficient));
    for (to, own) in gradients.iter_mut().zip([w_enc, b_enc.transpose(), w_dec]) {
        *to = to.clone() + own;
    }
    frame.mean(rows, coefficient)
}

/// 1 over the variance of the rows, summed over dimensions, `[1, 1]`; 0 where there is none.
fn over_variance<C: Compute>(errors: &Tensor<C, 2>) -> Tensor<C, 2> {
    let rows = errors.dims()[0] as f64;
    let apart = errors.clone() - column_sums(errors.clone()) / rows;
    let variance = column_sums(squares(&apart)) / rows;
    let none = variance.clone().equal_elem(0.0);
    variance.recip().mask_fill(none, 0.0)
}

/// Some of the latents.
struct Latents<C: Compute> {
    some: Tensor<C, 1, Int>,
    /// Of every latent its place among them, or one behind the last.
    places: Tensor<C, 1, Int>,
}

impl<C: Compute> Latents<C> {
    fn new(some: &[usize], d_sae: usize, device: &C::Device) -> Self {
        let mut places = vec![some.len() as i32; d_sae];
        some.iter().zip(0..).for_each(|(latent, place)| places[*latent] = place);
        let list = |latents: Vec<i32>| {
            let length = latents.len();
            Tensor::from_data(TensorData::new(latents, [length]), device)
        };
        Self { some: list(some.iter().map(|latent| *latent as i32).collect()), places: list(places) }
    }

    /// Their columns of `[batch, d_sae]`.
    fn columns(&self, x: &Tensor<C, 2>) -> Tensor<C, 2> {
        x.clone().select(1, self.some.clone())
    }

    /// Their rows of `[d_sae, n]`.
    fn rows(&self, x: &Tensor<C, 2>) -> Tensor<C, 2> {
        x.clone().select(0, self.some.clone())
    }

    /// A matrix of all latents that has these rows, and zeros elsewhere: gathered, since that is one read a number and
    /// scattering is not.
    fn spread(&self, rows: Tensor<C, 2>) -> Tensor<C, 2> {
        let zeros = Tensor::zeros([1, rows.dims()[1]], &rows.device());
        Tensor::cat(vec![rows, zeros], 0).select(0, self.places.clone())
    }
}
