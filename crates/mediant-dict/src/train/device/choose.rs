//! The families that keep the largest pre-activations: `topk` of a row, `batchtopk` of a batch, and `matryoshka`, whose
//! first latents reconstruct by themselves too. All with AuxK.

use std::ops::Range;

use mediant_tensor::{Compute, Tensor};

use super::aux::{self, Rule};
use super::fold::{along_rows, column_sums};
use super::frame::{Found, Frame, Loss, only, squares};
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
    /// Whether each width has an AuxK, of the latents that it adds.
    pub(super) aux_by_width: bool,
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
    let groups = groups(choice.widths, frame.dead.len());
    let Nested { inner, errors, pulls, w_dec, output_pull } = nested(frame, &codes, &groups);
    let pulls = only(&active, pulls);
    let mut gradients = [frame.of_encoder(&pulls), column_sums(pulls), w_dec];
    let rule = Rule { form: choice.aux_loss, coefficient: choice.aux_loss_coefficient };
    let levels = inner.iter().chain([&errors]);
    let aux = match choice.aux_by_width {
        false => vec![(0..frame.dead.len(), &errors)],
        true => groups.into_iter().zip(levels).collect::<Vec<_>>(),
    };
    let aux = aux
        .into_iter()
        .map(|(latents, errors)| aux::add(frame, &pre, &hidden, (latents, errors), rule, &mut gradients));
    let mut others: Vec<Loss<C>> = aux.reduce(Loss::plus).into_iter().collect();
    others.extend(inner.iter().map(|errors| frame.mean(squares(errors), 1.0)));
    Found { mse: squares(&errors), others, active, least, gradients, extra: Vec::new(), output_pull, input_pull: None }
}

/// The latents that each width adds, from the least, all `d_sae` the last.
fn groups(widths: &[usize], d_sae: usize) -> Vec<Range<usize>> {
    let starts = [0].into_iter().chain(widths.iter().copied());
    starts.zip(widths.iter().copied().chain([d_sae])).map(|(start, end)| start..end).collect()
}

struct Nested<C: Compute> {
    /// x̂_w − x of every inner width.
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
fn nested<C: Compute>(frame: &Frame<'_, C>, codes: &Tensor<C, 2>, groups: &[Range<usize>]) -> Nested<C> {
    let of_group = |group: &Range<usize>| {
        let latents = frame.w_dec.clone().narrow(0, group.start, group.len());
        (codes.clone().narrow(1, group.start, group.len()), latents)
    };
    let mut errors = frame.base.clone();
    let mut inner = Vec::with_capacity(groups.len());
    for group in groups {
        let (codes, latents) = of_group(group);
        errors = errors + frame.product(codes, latents);
        inner.push(errors.clone());
    }
    let mut pull = errors.zeros_like();
    let (mut pulls, mut w_dec) = (Vec::new(), Vec::new());
    for (group, level) in groups.iter().zip(&inner).rev() {
        let (codes, latents) = of_group(group);
        pull = pull + level.clone();
        pulls.push(frame.product(pull.clone(), latents.transpose()));
        w_dec.push(frame.of_decoder(&codes, &pull));
    }
    // That of all latents.
    inner.pop();
    pulls.reverse();
    w_dec.reverse();
    let (pulls, w_dec) = (Tensor::cat(pulls, 1), Tensor::cat(w_dec, 0));
    Nested { inner, errors, pulls, w_dec, output_pull: pull }
}
