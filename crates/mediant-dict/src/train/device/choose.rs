//! The families that keep the largest pre-activations: `topk` of a row, `batchtopk` of a batch, and `matryoshka`, whose
//! first latents reconstruct by themselves too. All with AuxK.

use mediant_tensor::{Compute, Tensor};

use super::aux::{self, Rule};
use super::fold::{along_rows, column_sums};
use super::frame::{Found, Frame, only, squares};
use super::largest::{Among, Scope, largest};
use crate::AuxLoss;

/// How the active latents are chosen.
pub(super) struct Choice<'a> {
    pub(super) scope: Scope,
    /// How many of every row, or of all.
    pub(super) entries: usize,
    /// Whether activations are compared after multiplication by decoder norms.
    pub(super) rescale: bool,
    pub(super) aux_loss_coefficient: f64,
    pub(super) aux_loss: AuxLoss,
    /// The inner widths of `matryoshka`.
    pub(super) widths: &'a [usize],
}

pub(super) fn pass<C: Compute>(frame: &Frame<'_, C>, choice: &Choice<'_>) -> Found<C> {
    let pre = frame.pre_activations();
    let hidden = if choice.rescale { pre.clone() * frame.norms.clone() } else { pre.clone() };
    let active = largest(&hidden, choice.entries, choice.scope, Among::Positive);
    let least = (choice.scope == Scope::Batch).then(|| {
        let chosen = hidden.clone().mask_fill(active.clone().bool_not(), f32::INFINITY);
        along_rows(chosen, |x| x.min_dim(1))
    });
    let codes = only(&active, pre.clone());
    let Nested { inner, errors, pulls, w_dec, output_pull } = nested(frame, &codes, choice.widths);
    let pulls = only(&active, pulls);
    let mut gradients = [frame.of_encoder(&pulls), column_sums(pulls), w_dec];
    let rule = Rule { form: choice.aux_loss, coefficient: choice.aux_loss_coefficient };
    let aux = aux::add(frame, pre, hidden, &errors, rule, &mut gradients);
    let mut others = vec![aux];
    others.extend(inner.into_iter().map(|rows| frame.mean(rows, 1.0)));
    Found { mse: squares(&errors), others, active, least, gradients, extra: Vec::new(), output_pull, input_pull: None }
}

struct Nested<C: Compute> {
    /// ‖x − x̂_w‖² of every row and inner width.
    inner: Vec<Tensor<C, 2>>,
    /// x̂ − x of all latents.
    errors: Tensor<C, 2>,
    /// ∂L/∂(code).
    pulls: Tensor<C, 2>,
    w_dec: Tensor<C, 2>,
    output_pull: Tensor<C, 2>,
}

/// Every width's reconstruction from the one before and the latents between them; a latent is pulled by the errors of
/// all widths that have it.
fn nested<C: Compute>(frame: &Frame<'_, C>, codes: &Tensor<C, 2>, widths: &[usize]) -> Nested<C> {
    let [_, d_sae] = codes.dims();
    let starts = [0].into_iter().chain(widths.iter().copied());
    let groups: Vec<(usize, usize)> = starts.zip(widths.iter().copied().chain([d_sae])).collect();
    let of_group = |(start, end): (usize, usize)| {
        let latents = frame.w_dec.clone().narrow(0, start, end - start);
        (codes.clone().narrow(1, start, end - start), latents)
    };
    let mut errors = frame.base.clone();
    let mut levels = Vec::with_capacity(groups.len());
    for group in &groups {
        let (codes, latents) = of_group(*group);
        errors = errors + frame.product(codes, latents);
        levels.push(errors.clone());
    }
    let inner = levels[..widths.len()].iter().map(squares).collect();
    let mut pull = errors.zeros_like();
    let (mut pulls, mut w_dec) = (Vec::new(), Vec::new());
    for (group, level) in groups.into_iter().zip(levels).rev() {
        let (codes, latents) = of_group(group);
        pull = pull + level;
        pulls.push(frame.product(pull.clone(), latents.transpose()));
        w_dec.push(frame.of_decoder(&codes, &pull));
    }
    pulls.reverse();
    w_dec.reverse();
    let (pulls, w_dec) = (Tensor::cat(pulls, 1), Tensor::cat(w_dec, 0));
    Nested { inner, errors, pulls, w_dec, output_pull: column_sums(pull) }
}
