//! `batchtopk` and `matryoshka`: the k·batch largest of a whole batch, with AuxK, and reconstructions by prefixes of the
//! latents.

use mediant_tensor::kernels::sparse::Codes;

use super::aux::{Aux, AuxBuffers, AuxRule};
use super::pass::{Found, Frame, Pass, Work};
use super::term::{SparseTerm, decode};
use crate::encode::{keep_largest, largest_of_all, pre_activations, times_columns};
use crate::product::pieces;
use crate::train::learner::Losses;
use crate::{BatchChoice, Weights};

/// `widths` are the inner ones of `matryoshka`, none for `batchtopk`. With `aux_by_width` there is an AuxK for each width, in
/// which the dead ones of the latents that the width adds reconstruct what the width leaves.
pub(super) fn pass(
    frame: Frame<'_>,
    choice: &BatchChoice,
    widths: &[usize],
    aux_by_width: bool,
    gradients: &mut Weights,
) -> Found {
    let Frame { weights, norms, inputs, errors, work, gain, rows, now, .. } = frame;
    let (d_in, d_out, d_sae) = (weights.d_in, weights.d_out, weights.d_sae);
    let scale = choice.rescale_acts_by_decoder_norm.then_some(norms);
    let entries = choice.entries(rows);
    let Work { hidden: buffer, aux: outer_aux, inner_aux, .. } = work;
    // The last are all latents.
    let ends: Vec<usize> = if aux_by_width { widths.iter().copied().chain([d_sae]).collect() } else { vec![d_sae] };
    inner_aux.resize_with(ends.len() - 1, AuxBuffers::default);
    let rule = AuxRule::of(choice.aux_loss, choice.aux_loss_coefficient, d_out);
    let mut start = 0;
    let mut auxes: Vec<Option<Aux<'_>>> = Vec::with_capacity(ends.len());
    for (&end, buffers) in ends.iter().zip(inner_aux.iter_mut().chain([outer_aux])) {
        let added = start..end;
        let dead: Vec<bool> = (0..d_sae).map(|latent| now.dead[latent] && added.contains(&latent)).collect();
        auxes.push(Aux::new(weights, rule, &dead, rows, buffers));
        start = end;
    }
    let (mut codes, mut dead) = (Codes::default(), Vec::new());
    for piece in pieces(rows, d_sae) {
        let hidden = pre_activations(weights, &inputs[piece.start * d_in..piece.end * d_in], buffer);
        if let Some(scale) = scale {
            times_columns(hidden, scale);
        }
        // What is not among the largest of a piece is not among those of the batch.
        codes.append(&largest_of_all(hidden, d_sae, entries));
        let chosen = auxes.iter().map(|aux| aux.as_ref().map(|aux| aux.choose(hidden, scale)));
        dead.push((piece, chosen.collect::<Vec<Option<Codes>>>()));
    }
    let mut codes = keep_largest(codes, entries);
    let least = codes.values().iter().copied().reduce(f32::min);
    if let Some(scale) = scale {
        codes.divide_by(scale);
    }

    let mut others = vec![0.0];
    let (mse, output_pull, fired, levels) = if widths.is_empty() {
        let mut term = SparseTerm::default();
        let mse = term.push(&codes, &weights.w_dec, errors, gain, |_| 0.0);
        term.backward(inputs, errors, gain, gradients);
        (mse, None, term.fired(d_sae), Vec::new())
    } else {
        let nested = nested(weights, &codes, widths, errors, inputs, gain, gradients);
        others.extend(nested.inner.iter().map(|squares| squares / rows as f64));
        (nested.outer, Some(nested.pull), nested.fired, nested.levels)
    };
    for (level, aux) in auxes.into_iter().enumerate() {
        let Some(mut aux) = aux else { continue };
        let errors = if level + 1 == ends.len() { &*errors } else { &levels[level][..] };
        for (piece, chosen) in &dead {
            let Some(chosen) = &chosen[level] else { continue };
            let inputs = &inputs[piece.start * d_in..piece.end * d_in];
            let errors = &errors[piece.start * d_out..piece.end * d_out];
            aux.push(chosen, &weights.w_dec, errors, inputs, None);
        }
        others[0] += aux.backward(errors, inputs, gradients);
    }
    let losses = Losses { mse: mse / rows as f64, others };
    Found { pass: Pass { losses, active: codes.entries(), fired, least }, output_pull, input_pull: None }
}

struct Nested {
    /// Σ ‖x − x̂_w‖² of each inner width, and of all latents.
    inner: Vec<f64>,
    outer: f64,
    /// x̂_w − x of each inner width.
    levels: Vec<Vec<f32>>,
    /// Σ over widths of the errors, which is what b_dec is pulled by.
    pull: Vec<f32>,
    fired: Vec<bool>,
}

/// Every width's reconstruction from the one before and the latents between them; a latent is pulled by the errors of
/// all widths that have it. `errors` becomes that of all latents.
fn nested(
    weights: &Weights,
    codes: &Codes,
    widths: &[usize],
    errors: &mut [f32],
    inputs: &[f32],
    gain: f32,
    gradients: &mut Weights,
) -> Nested {
    let ends = widths.iter().copied().chain([weights.d_sae]);
    let starts = [0].into_iter().chain(widths.iter().copied());
    let groups: Vec<Codes> = starts.zip(ends).map(|(start, end)| codes.between(start as u32, end as u32)).collect();
    let mut inner = Vec::with_capacity(widths.len());
    let mut levels: Vec<Vec<f32>> = Vec::with_capacity(widths.len());
    for group in &groups[..widths.len()] {
        inner.push(decode(group, &weights.w_dec, errors));
        levels.push(errors.to_vec());
    }
    let outer = decode(&groups[widths.len()], &weights.w_dec, errors);
    let mut pull = errors.to_vec();
    let mut fired = vec![false; weights.d_sae];
    for (index, group) in groups.into_iter().enumerate().rev() {
        if let Some(level) = levels.get(index) {
            pull.iter_mut().zip(level).for_each(|(pull, error)| *pull += error);
        }
        let term = SparseTerm::of(&group, &weights.w_dec, &pull, gain);
        term.backward(inputs, &pull, gain, gradients);
        fired.iter_mut().zip(term.fired(weights.d_sae)).for_each(|(fired, here)| *fired |= here);
    }
    Nested { inner, outer, levels, pull, fired }
}
