//! The AuxK loss: dead latents reconstruct what the living ones leave.
//!
//! Gao et al. 2024 (arXiv:2406.04093), A.2: the k_aux dead latents of the largest pre-activations reconstruct the residual
//! x − x̂ without b_dec; loss = coefficient · scale · mean_b ‖ê − (x − x̂)‖². [`AuxRule`] says how tools differ. Where the loss
//! is divided by the variance of the residuals, which the whole batch tells, everything is divided by it in the end.

use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::kernels::topk::{TopKScratch, top_k};
use rayon::prelude::*;

use super::dense_pays;
use super::term::{DenseTerm, SparseTerm};
use crate::encode::{sized, zeroed};
use crate::train::variance::variance;
use crate::{AuxLoss, Weights};

/// Buffers of the dense work.
#[derive(Debug, Default)]
pub(super) struct AuxBuffers {
    errors: Vec<f32>,
    codes: Vec<f32>,
    pulls: Vec<f32>,
    w_dec: Vec<f32>,
    gradients: [Vec<f32>; 3],
}

/// The AuxK of a tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuxRule {
    pub(super) coefficient: f64,
    /// How many dead latents of a row reconstruct, at most.
    pub(super) k: usize,
    /// scale = min(n_dead / k, 1), not 1.
    pub(super) grows: bool,
    /// Their pre-activations are cut at zero.
    pub(super) rectify: bool,
    /// The loss is divided by the variance of the residuals, summed over dimensions; without variance there is none.
    pub(super) relative: bool,
}

impl AuxRule {
    /// Half as many as there are dimensions (of a transcoder's output, as sparsify).
    pub(super) fn of(form: AuxLoss, coefficient: f64, d_out: usize) -> Self {
        let theirs = form == AuxLoss::DictionaryLearning;
        Self { coefficient, k: d_out / 2, grows: !theirs, rectify: theirs, relative: theirs }
    }
}

pub(super) struct Aux<'b> {
    d_out: usize,
    d_sae: usize,
    dead: Vec<u32>,
    /// Of every dead latent its place among them; what stands at the others does not matter.
    places: Vec<u32>,
    k: usize,
    rectify: bool,
    relative: bool,
    /// The loss of the rows so far.
    loss: f64,
    /// coefficient · scale.
    weight: f64,
    /// coefficient · scale / batch: the loss is this times the sum over the batch, its gradient twice this times the error.
    factor: f64,
    work: Work<'b>,
}

enum Work<'b> {
    /// Few of the dead latents are chosen: as the main reconstruction.
    Sparse { term: SparseTerm, errors: Vec<f32> },
    /// Many are: dense products with the rows of the dead latents alone.
    Dense(&'b mut AuxBuffers),
}

impl<'b> Aux<'b> {
    /// `None` when there is no such loss: coefficient 0, or nothing dead.
    pub(super) fn new(
        weights: &Weights,
        rule: AuxRule,
        dead: &[bool],
        batch: usize,
        buffers: &'b mut AuxBuffers,
    ) -> Option<Self> {
        let (d_in, d_out, d_sae) = (weights.d_in, weights.d_out, weights.d_sae);
        let dead: Vec<u32> = (0u32..).zip(dead).filter_map(|(latent, &dead)| dead.then_some(latent)).collect();
        let k = rule.k.min(dead.len());
        if rule.coefficient == 0.0 || k == 0 {
            return None;
        }
        let scale = if rule.grows { (dead.len() as f64 / rule.k as f64).min(1.0) } else { 1.0 };
        let weight = rule.coefficient * scale;
        // A product with a single column would take another path.
        let work = if dense_pays(k, 1, dead.len()) && dead.len() > 1 {
            gather(&weights.w_dec, &dead, d_out, &mut buffers.w_dec);
            for (gradient, width) in buffers.gradients.iter_mut().zip([d_in, 1, d_out]) {
                zeroed(gradient, dead.len() * width);
            }
            Work::Dense(buffers)
        } else {
            Work::Sparse { term: SparseTerm::default(), errors: Vec::new() }
        };
        let mut places = vec![0; d_sae];
        dead.iter().zip(0..).for_each(|(&latent, place)| places[latent as usize] = place);
        let AuxRule { rectify, relative, .. } = rule;
        let factor = weight / batch as f64;
        Some(Self { d_out, d_sae, dead, places, k, rectify, relative, loss: 0.0, weight, factor, work })
    }

    /// The k largest dead latents of each row, with their pre-activations. `hidden` holds them as they are compared.
    pub(super) fn choose(&self, hidden: &[f32], scale: Option<&[f32]>) -> Codes {
        Codes::collect(hidden.par_chunks(self.d_sae), |row, (values, scratch): &mut Selection, codes| {
            values.clear();
            values.extend(self.dead.iter().map(|&latent| row[latent as usize]));
            let chosen = top_k(values, self.k, scratch).iter().filter(|(_, value)| !self.rectify || *value > 0.0);
            codes.push_row(chosen.map(|&(place, value)| {
                let latent = self.dead[place as usize];
                (latent, scale.map_or(value, |scale| value / scale[latent as usize]))
            }));
        })
    }

    /// Adds rows with these codes. `errors` holds x̂ − x. What pulls on x̂ where the residual is not held constant, in units of
    /// 2 / batch, is added to `pull` if that is given.
    pub(super) fn push(
        &mut self,
        codes: &Codes,
        w_dec: &[f32],
        errors: &[f32],
        inputs: &[f32],
        pull: Option<&mut [f32]>,
    ) {
        let gain = 2.0 * self.factor as f32;
        let weight = self.weight as f32;
        let add_to_pull = |own: &[f32]| {
            if let Some(pull) = pull {
                pull.iter_mut().zip(own).for_each(|(pull, error)| *pull += weight * error);
            }
        };
        let squares = match &mut self.work {
            Work::Sparse { term, errors: all } => {
                let start = all.len();
                all.extend_from_slice(errors);
                let squares = term.push(codes, w_dec, &mut all[start..], gain, |_| 0.0);
                add_to_pull(&all[start..]);
                squares
            }
            Work::Dense(buffers) => {
                let AuxBuffers { errors: own, codes: dense, pulls, w_dec, gradients } = &mut **buffers;
                let own = sized(own, errors.len());
                own.par_chunks_mut(self.d_out)
                    .zip(errors.par_chunks(self.d_out))
                    .for_each(|(own, x)| own.copy_from_slice(x));
                let width = self.dead.len();
                let dense = sized(dense, codes.rows() * width);
                dense.par_chunks_mut(width).enumerate().for_each(|(row, dense)| {
                    dense.fill(0.0);
                    let (latents, values) = codes.row(row);
                    for (latent, value) in latents.iter().zip(values) {
                        dense[self.places[*latent as usize] as usize] = *value;
                    }
                });
                let term = DenseTerm { codes: dense, w_dec, d_out: self.d_out };
                let squares = term.decode(own);
                add_to_pull(own);
                let gradients = gradients.each_mut().map(|gradient| &mut gradient[..]);
                term.backward(own, inputs, gain, |_| 0.0, pulls, gradients);
                squares
            }
        };
        self.loss += self.factor * squares;
    }

    /// Adds the gradients of the whole batch, and gives the loss. `residuals` holds x̂ − x of the batch.
    pub(super) fn backward(self, residuals: &[f32], inputs: &[f32], to: &mut Weights) -> f64 {
        let over = match self.relative.then(|| variance(residuals, self.d_out)) {
            None => 1.0,
            Some(0.0) => 0.0,
            Some(variance) => variance.recip(),
        };
        match self.work {
            Work::Sparse { mut term, errors } => {
                term.scale(over as f32);
                term.backward(inputs, &errors, (2.0 * self.factor * over) as f32, to);
            }
            Work::Dense(buffers) => {
                let all = [&mut to.w_enc, &mut to.b_enc, &mut to.w_dec];
                for (to, gradient) in all.into_iter().zip(&buffers.gradients) {
                    scatter_add(to, gradient, over as f32, &self.dead);
                }
            }
        }
        self.loss * over
    }
}

type Selection = (Vec<f32>, TopKScratch);

fn gather(matrix: &[f32], rows: &[u32], width: usize, out: &mut Vec<f32>) {
    let out = sized(out, rows.len() * width);
    out.par_chunks_mut(width)
        .zip(rows)
        .for_each(|(out, &row)| out.copy_from_slice(&matrix[row as usize * width..][..width]));
}

/// Adds rows times `factor` to those at `places`, which ascend.
fn scatter_add(mut to: &mut [f32], rows: &[f32], factor: f32, places: &[u32]) {
    let width = rows.len() / places.len();
    let mut passed = 0;
    let at_places = places.iter().filter_map(|&place| {
        to.split_off_mut(..(place as usize - passed) * width)?;
        passed = place as usize + 1;
        to.split_off_mut(..width)
    });
    let at_places: Vec<&mut [f32]> = at_places.collect();
    at_places.into_par_iter().zip(rows.par_chunks(width)).for_each(|(to, row)| {
        to.iter_mut().zip(row).for_each(|(to, x)| *to += factor * x);
    });
}
