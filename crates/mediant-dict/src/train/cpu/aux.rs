//! The AuxK loss: dead latents reconstruct what the living ones leave.
//!
//! Gao et al. 2024 (arXiv:2406.04093), A.2, as SAELens has it: k_aux = d_in / 2; the k_aux dead latents of the largest
//! pre-activations, without ReLU, reconstruct the residual x − x̂ (held constant) without b_dec;
//! loss = coefficient · min(n_dead / k_aux, 1) · mean_b ‖ê − (x − x̂)‖².

use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::kernels::topk::{TopKScratch, top_k};
use rayon::prelude::*;

use super::dense_pays;
use super::pass::Gradients;
use super::term::{DenseTerm, SparseTerm};
use crate::Weights;
use crate::config::Objective;

pub(super) struct Aux {
    d_in: usize,
    d_sae: usize,
    dead: Vec<u32>,
    k: usize,
    /// coefficient · scale / batch: the loss is this times the sum over the batch, its gradient twice this times the error.
    factor: f64,
    work: Work,
}

enum Work {
    /// Few of the dead latents are chosen: as the main reconstruction.
    Sparse { term: SparseTerm, errors: Vec<f32> },
    /// Many are: dense products with the rows of the dead latents alone.
    Dense { w_dec: Vec<f32>, gradients: Gradients },
}

impl Aux {
    /// `None` when there is no such loss: another architecture, coefficient 0, or nothing dead.
    pub(super) fn new(weights: &Weights, objective: &Objective, dead: &[bool], batch: usize) -> Option<Self> {
        let Objective::TopK { aux_loss_coefficient: coefficient, .. } = *objective else { return None };
        let (d_in, d_sae) = (weights.d_in, weights.d_sae);
        let dead: Vec<u32> = (0u32..).zip(dead).filter_map(|(latent, &dead)| dead.then_some(latent)).collect();
        let half = d_in / 2;
        let k = half.min(dead.len());
        if coefficient == 0.0 || k == 0 {
            return None;
        }
        let scale = (dead.len() as f64 / half as f64).min(1.0);
        // A product with a single column would take another path.
        let work = if dense_pays(k, 1, dead.len()) && dead.len() > 1 {
            Work::Dense { w_dec: gather(&weights.w_dec, &dead, d_in), gradients: Gradients::zeros(d_in, dead.len()) }
        } else {
            Work::Sparse { term: SparseTerm::default(), errors: Vec::new() }
        };
        Some(Self { d_in, d_sae, dead, k, factor: coefficient * scale / batch as f64, work })
    }

    /// Adds rows. `hidden` holds the pre-activations as they are compared, `errors` x̂ − x. Returns their part of the loss.
    pub(super) fn push(&mut self, hidden: &[f32], scale: Option<&[f32]>, w_dec: &[f32], errors: &[f32], inputs: &[f32]) -> f64 {
        let gain = 2.0 * self.factor as f32;
        let mut errors = errors.to_vec();
        let rows = hidden.par_chunks(self.d_sae);
        let squares = match &mut self.work {
            Work::Sparse { term, errors: all } => {
                let codes = Codes::collect(rows, |row, buffers: &mut Buffers, codes| {
                    let chosen = top_dead(row, &self.dead, self.k, scale, buffers);
                    codes.push_row(chosen.map(|(place, value)| (self.dead[place], value)));
                });
                let squares = term.push(&codes, w_dec, &mut errors, gain, |_| 0.0);
                all.append(&mut errors);
                squares
            }
            Work::Dense { w_dec, gradients } => {
                let width = self.dead.len();
                let mut codes = vec![0.0; rows.len() * width];
                codes.par_chunks_mut(width).zip(rows).for_each_init(Buffers::default, |buffers, (codes, row)| {
                    for (place, value) in top_dead(row, &self.dead, self.k, scale, buffers) {
                        codes[place] = value;
                    }
                });
                let term = DenseTerm { codes: &codes, w_dec, d_in: self.d_in };
                let squares = term.decode(&mut errors);
                let into = [&mut gradients.w_enc[..], &mut gradients.b_enc, &mut gradients.w_dec];
                term.backward(&errors, inputs, gain, |_| 0.0, into);
                squares
            }
        };
        self.factor * squares
    }

    /// Adds the gradients of the whole batch.
    pub(super) fn backward(self, inputs: &[f32], to: &mut Gradients) {
        match self.work {
            Work::Sparse { term, errors } => term.backward(inputs, &errors, 2.0 * self.factor as f32, to),
            Work::Dense { gradients, .. } => {
                scatter_add(&mut to.w_enc, &gradients.w_enc, &self.dead);
                scatter_add(&mut to.w_dec, &gradients.w_dec, &self.dead);
                scatter_add(&mut to.b_enc, &gradients.b_enc, &self.dead);
            }
        }
    }
}

type Buffers = (Vec<f32>, TopKScratch);

/// The k largest dead latents of a row: place among the dead, and pre-activation without the scale.
fn top_dead<'a>(
    row: &[f32],
    dead: &'a [u32],
    k: usize,
    scale: Option<&'a [f32]>,
    (values, scratch): &'a mut Buffers,
) -> impl Iterator<Item = (usize, f32)> + 'a {
    values.clear();
    values.extend(dead.iter().map(|&latent| row[latent as usize]));
    top_k(values, k, scratch).iter().map(move |&(place, value)| {
        let place = place as usize;
        (place, scale.map_or(value, |scale| value / scale[dead[place] as usize]))
    })
}

fn gather(matrix: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|&row| &matrix[row as usize * width..][..width]).copied().collect()
}

/// Adds rows to those at `places`.
fn scatter_add(to: &mut [f32], rows: &[f32], places: &[u32]) {
    let width = rows.len() / places.len();
    for (row, &place) in rows.chunks_exact(width).zip(places) {
        to[place as usize * width..][..width].iter_mut().zip(row).for_each(|(to, x)| *to += x);
    }
}
