//! A reconstruction as a sum over latents, forward and backward: sparse and dense.

use mediant_tensor::kernels::sparse::{ByLatent, Codes, add_weighted, dot_with_each};
use rayon::prelude::*;

use crate::Weights;
use crate::encode::{each_row_adding, sized};
use crate::product::{add_times, add_transposed_times, times_transposed};
use crate::weights::sum_of_squares;

/// Sparse codes of the rows so far, with ∂L/∂(code) of every entry.
#[derive(Default)]
pub(super) struct SparseTerm {
    codes: Codes,
    pulls: Vec<f32>,
}

/// Adds the decoding of rows to `errors`, and gives Σ ‖error‖².
pub(super) fn decode(codes: &Codes, w_dec: &[f32], errors: &mut [f32]) -> f64 {
    let d_out = errors.len() / codes.rows();
    let rows = errors.par_chunks_mut(d_out).enumerate().map(|(row, error)| {
        let (latents, values) = codes.row(row);
        add_weighted(error, latents, values, w_dec);
        sum_of_squares(error)
    });
    rows.collect::<Vec<f64>>().iter().sum()
}

impl SparseTerm {
    /// Of codes that have been decoded, pulled by `errors`.
    pub(super) fn of(codes: &Codes, w_dec: &[f32], errors: &[f32], gain: f32) -> Self {
        let mut term = Self::default();
        term.push_decoded(codes, w_dec, errors, gain, |_, _| 0.0);
        term
    }

    /// Adds rows that have been decoded. The gradients of their entries are
    /// `gain · error · W_dec,i + penalty(row of these, code)`.
    pub(super) fn push_decoded(
        &mut self,
        codes: &Codes,
        w_dec: &[f32],
        errors: &[f32],
        gain: f32,
        penalty: impl Fn(usize, f32) -> f32 + Sync,
    ) {
        let mut pulls = vec![0.0; codes.entries()];
        let d_out = errors.len() / codes.rows();
        let rows = errors.par_chunks(d_out).zip(codes.split_rows(&mut pulls)).enumerate();
        rows.for_each(|(row, (error, pulls))| {
            let (latents, values) = codes.row(row);
            dot_with_each(error, latents, w_dec, pulls);
            pulls.iter_mut().zip(values).for_each(|(pull, code)| *pull = *pull * gain + penalty(row, *code));
        });
        self.codes.append(codes);
        self.pulls.append(&mut pulls);
    }

    /// The codes.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// ∂L/∂(code) of every entry.
    pub(super) fn pulls(&self) -> &[f32] {
        &self.pulls
    }

    /// Which latents are active in any row.
    pub(super) fn fired(&self, d_sae: usize) -> Vec<bool> {
        let mut fired = vec![false; d_sae];
        for (&latent, &value) in self.codes.latents().iter().zip(self.codes.values()) {
            fired[latent as usize] |= value > 0.0;
        }
        fired
    }

    /// Adds rows: their decoding is added to `errors` (which starts as minus the target), and the gradients of the entries
    /// are noted, `gain · error · W_dec,i + penalty(i)`. Returns Σ ‖error‖².
    pub(super) fn push(
        &mut self,
        codes: &Codes,
        w_dec: &[f32],
        errors: &mut [f32],
        gain: f32,
        penalty: impl Fn(usize) -> f32 + Sync,
    ) -> f64 {
        let mut pulls = vec![0.0; codes.entries()];
        let d_out = errors.len() / codes.rows();
        let rows = errors.par_chunks_mut(d_out).zip(codes.split_rows(&mut pulls)).enumerate();
        let squares: Vec<f64> = rows
            .map(|(row, (error, pulls))| {
                let (latents, values) = codes.row(row);
                add_weighted(error, latents, values, w_dec);
                dot_with_each(error, latents, w_dec, pulls);
                for (pull, &latent) in pulls.iter_mut().zip(latents) {
                    *pull = *pull * gain + penalty(latent as usize);
                }
                sum_of_squares(error)
            })
            .collect();
        self.codes.append(codes);
        self.pulls.append(&mut pulls);
        squares.iter().sum()
    }

    /// Multiplies what was noted of the entries' gradients.
    pub(super) fn scale(&mut self, factor: f32) {
        self.pulls.iter_mut().for_each(|pull| *pull *= factor);
    }

    /// Adds rows without active latents.
    pub(super) fn skip_rows(&mut self, rows: usize) {
        (0..rows).for_each(|_| self.codes.push_row([]));
    }

    /// Adds the gradients of W_dec, W_enc and b_enc, from the encoder's inputs and the errors of the whole batch, where the
    /// pull on a code is that on its pre-activation.
    pub(super) fn backward(&self, inputs: &[f32], errors: &[f32], gain: f32, gradients: &mut Weights) {
        let Some(by_latent) = self.decoder_backward(errors, gain, gradients) else { return };
        let pulls = by_latent.arrange(&self.pulls);
        by_latent.add_sums(&pulls, inputs, &mut gradients.w_enc);
        by_latent.add_totals(&pulls, &mut gradients.b_enc);
    }

    /// Adds the gradient of W_dec, and gives the entries by latent, if there are any.
    pub(super) fn decoder_backward(&self, errors: &[f32], gain: f32, gradients: &mut Weights) -> Option<ByLatent> {
        if self.codes.entries() == 0 {
            return None;
        }
        let by_latent = ByLatent::new(&self.codes, gradients.d_sae);
        let mut values = by_latent.arrange(self.codes.values());
        values.iter_mut().for_each(|value| *value *= gain);
        by_latent.add_sums(&values, errors, &mut gradients.w_dec);
        Some(by_latent)
    }
}

/// Codes of some rows as a matrix `[rows, latents]`, with the decoder rows of those latents, `[latents, d_out]`.
#[derive(Clone, Copy)]
pub(super) struct DenseTerm<'a> {
    pub(super) codes: &'a [f32],
    pub(super) w_dec: &'a [f32],
    pub(super) d_out: usize,
}

impl DenseTerm<'_> {
    fn latents(&self) -> usize {
        self.w_dec.len() / self.d_out
    }

    /// Adds the decoding to `errors` and returns Σ ‖error‖².
    pub(super) fn decode(&self, errors: &mut [f32]) -> f64 {
        add_times(errors, 1.0, self.codes, self.w_dec, self.latents());
        let rows: Vec<f64> = errors.par_chunks(self.d_out).map(sum_of_squares).collect();
        rows.iter().sum()
    }

    /// `gain · errors · W_decᵀ`: ∂L/∂(code) of every latent, in the buffer.
    pub(super) fn pulls<'p>(&self, errors: &[f32], gain: f32, buffer: &'p mut Vec<f32>) -> &'p mut [f32] {
        let pulls = sized(buffer, errors.len() / self.d_out * self.latents());
        times_transposed(pulls, gain, errors, self.w_dec, self.d_out);
        pulls
    }

    /// Adds the gradients of W_enc, b_enc and W_dec of these latents, from the errors and the encoder's inputs of these
    /// rows. A code of 0 takes no part. `pulls` is a buffer.
    pub(super) fn backward(
        &self,
        errors: &[f32],
        inputs: &[f32],
        gain: f32,
        penalty: impl Fn(usize) -> f32 + Sync,
        pulls: &mut Vec<f32>,
        [w_enc, b_enc, w_dec]: [&mut [f32]; 3],
    ) {
        let latents = self.latents();
        let rows = errors.len() / self.d_out;
        add_transposed_times(w_dec, gain, self.codes, errors, rows);
        let pulls = self.pulls(errors, gain, pulls);
        each_row_adding(pulls, b_enc, |row, pulls, sums| {
            let codes = &self.codes[row * latents..][..latents];
            for (latent, ((pull, code), sum)) in pulls.iter_mut().zip(codes).zip(sums).enumerate() {
                *pull = if *code == 0.0 { 0.0 } else { *pull + penalty(latent) };
                *sum += *pull;
            }
            0
        });
        add_transposed_times(w_enc, 1.0, pulls, inputs, rows);
    }
}

/// Adds the sum of every column of a matrix with `width` columns.
pub(super) fn add_column_sums(matrix: &[f32], width: usize, sums: &mut [f32]) {
    // Columns are shared out in fixed groups; each column is summed from the first row to the last.
    const COLUMNS: usize = 256;
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(group, sums)| {
        for row in matrix.chunks_exact(width) {
            sums.iter_mut().zip(&row[group * COLUMNS..]).for_each(|(sum, x)| *sum += x);
        }
    });
}
