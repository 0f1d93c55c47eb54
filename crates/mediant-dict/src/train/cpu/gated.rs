//! `gated`: a gate says which latents are active, a magnitude how much (Rajamanoharan et al. 2024, arXiv:2404.16014). Its
//! auxiliary reconstruction from the gate trains the decoder too in SAELens, and does not in the paper.
//!
//! π = x' W_enc + b_gate, m = (π − b_gate) ⊙ e^r_mag + b_mag, f = max(m, 0) where π > 0. The gate learns from the L1
//! loss on max(π, 0) and from what max(π, 0) reconstructs. Only entries with π > 0 have gradients.

use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;

use super::dense_pays;
use super::pass::{Found, Frame, Pass, add_norm_gradient};
use super::sums::Sums;
use super::term::{DenseTerm, SparseTerm};
use crate::encode::{magnitude, pre_activations, sized};
use crate::product::{add_transposed_times, pieces};
use crate::train::learner::Losses;
use crate::{Extra, Weights};

/// `b_mag` and `r_mag` are the family's own parameters; with `detach_decoder` W_dec and b_dec are constant in the gate's
/// reconstruction.
pub(super) fn pass(
    frame: Frame<'_>,
    b_mag: &[f32],
    r_mag: &[f32],
    detach_decoder: bool,
    gradients: &mut Weights,
) -> Found {
    let Frame { weights, norms, inputs, errors, work, gain, rows, now, .. } = frame;
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let l1_gain = now.coefficient as f32 / rows as f32;
    let local = Local { b_gate: &weights.b_enc, b_mag, stretch: &r_mag.iter().map(|r| r.exp()).collect::<Vec<_>>() };
    // The gate's reconstruction begins where the other does.
    let mut gate_errors = errors.to_vec();
    let (mut mse, mut aux) = (0.0, 0.0);
    let mut sums = Sums::by_latent(d_sae, [true; NUMBERS]);
    let (mut main, mut gate) = (SparseTerm::default(), SparseTerm::default());
    for piece in pieces(rows, d_sae) {
        let part = piece.start * d_in..piece.end * d_in;
        let (inputs, errors, gate_errors) = (&inputs[part.clone()], &mut errors[part.clone()], &mut gate_errors[part]);
        let hidden = pre_activations(weights, inputs, &mut work.hidden);
        let open: usize = hidden.par_chunks(d_sae).map(|row| row.iter().filter(|pi| **pi > 0.0).count()).sum();
        if dense_pays(open, piece.len(), d_sae) {
            let codes = sized(&mut work.codes, hidden.len());
            codes.par_chunks_mut(d_sae).zip(hidden.par_chunks_mut(d_sae)).for_each(|(codes, hidden)| {
                for (latent, (code, pi)) in codes.iter_mut().zip(hidden).enumerate() {
                    *code = if *pi > 0.0 { local.magnitude(latent, *pi) } else { 0.0 };
                    *pi = pi.max(0.0);
                }
            });
            let w_dec = &weights.w_dec[..];
            let (of_main, of_gate) =
                (DenseTerm { codes, w_dec, d_out: d_in }, DenseTerm { codes: hidden, w_dec, d_out: d_in });
            mse += of_main.decode(errors);
            aux += of_gate.decode(gate_errors);
            add_transposed_times(&mut gradients.w_dec, gain, codes, errors, piece.len());
            if !detach_decoder {
                add_transposed_times(&mut gradients.w_dec, gain, hidden, gate_errors, piece.len());
            }
            let pulls = of_main.pulls(errors, gain, &mut work.pulls);
            let mut gate_pulls = Vec::new();
            let gate_pulls = of_gate.pulls(gate_errors, gain, &mut gate_pulls);
            sums.add(&local.dense(codes, hidden, pulls, gate_pulls, |latent| l1_gain * norms[latent]));
            add_transposed_times(&mut gradients.w_enc, 1.0, pulls, inputs, piece.len());
            main.skip_rows(piece.len());
            gate.skip_rows(piece.len());
        } else {
            let open = Codes::collect(hidden.par_chunks(d_sae), |row, (): &mut (), codes| {
                codes.push_row((0u32..).zip(row.iter().copied()).filter(|(_, pi)| *pi > 0.0));
            });
            let codes = open.mapped(|latent, pi| local.magnitude(latent as usize, pi));
            mse += main.push(&codes, &weights.w_dec, errors, gain, |_| 0.0);
            aux += gate.push(&open, &weights.w_dec, gate_errors, gain, |latent| l1_gain * norms[latent]);
        }
    }
    if !detach_decoder {
        gate.decoder_backward(&gate_errors, gain, gradients);
    }
    if let Some(by_latent) = main.decoder_backward(errors, gain, gradients) {
        let entries = main.codes().latents().iter().zip(main.codes().values()).zip(gate.codes().values());
        let entries = entries.zip(main.pulls().iter().zip(gate.pulls()));
        let mut by_entry = Sums::by_entry();
        for (((latent, code), pi), (pull, gate_pull)) in entries {
            by_entry.push(local.at(*latent as usize, *code, *pi, *pull, *gate_pull).numbers());
        }
        sums.add_entries(&by_latent, &by_entry);
        let [encoder, ..] = &by_entry.0;
        by_latent.add_sums(&by_latent.arrange(encoder), inputs, &mut gradients.w_enc);
    }
    let Sums([encoder, of_gate, b_mag, r_mag, open, active]) = sums;
    let pulls: Vec<f32> = open.iter().map(|open| l1_gain * open).collect();
    add_norm_gradient(weights, norms, &pulls, &mut gradients.w_dec);
    let l1: f64 = pulls.iter().zip(norms).map(|(pull, norm)| f64::from(*pull) * f64::from(*norm)).sum();
    let losses = Losses { mse: mse / rows as f64, others: vec![l1, aux / rows as f64] };
    let fired = active.iter().map(|count| *count > 0.0).collect();
    let active = active.iter().map(|count| *count as usize).sum::<usize>();
    gradients.b_enc.copy_from_slice(&of_gate);
    gradients.extra = Extra::Gate { b_mag, r_mag };
    let output_pull = (!detach_decoder).then(|| {
        gate_errors.iter_mut().zip(errors).for_each(|(to, x)| *to += *x);
        gate_errors
    });
    Found { pass: Pass { losses, active, fired, least: None }, output_pull, input_pull: Some(encoder) }
}

struct Local<'a> {
    b_gate: &'a [f32],
    b_mag: &'a [f32],
    /// e^r_mag.
    stretch: &'a [f32],
}

/// The numbers of an entry.
const NUMBERS: usize = 6;

/// What an entry with an open gate is pulled by.
struct Entry {
    encoder: f32,
    gate: f32,
    magnitude: f32,
    stretch: f32,
    open: f32,
    active: f32,
}

impl Entry {
    fn numbers(&self) -> [f32; NUMBERS] {
        [self.encoder, self.gate, self.magnitude, self.stretch, self.open, self.active]
    }
}

impl Local<'_> {
    fn magnitude(&self, latent: usize, pi: f32) -> f32 {
        magnitude(pi, self.b_gate[latent], self.stretch[latent], self.b_mag[latent])
    }

    fn at(&self, latent: usize, code: f32, pi: f32, pull: f32, gate_pull: f32) -> Entry {
        let stretch = self.stretch[latent];
        let magnitude = if code > 0.0 { pull } else { 0.0 };
        Entry {
            encoder: magnitude * stretch + gate_pull,
            gate: gate_pull,
            magnitude,
            stretch: magnitude * (pi - self.b_gate[latent]) * stretch,
            open: pi,
            active: f32::from(u8::from(code > 0.0)),
        }
    }

    /// All entries of some rows; `pulls` becomes what pulls on x' W_enc.
    fn dense(
        &self,
        codes: &[f32],
        open: &[f32],
        pulls: &mut [f32],
        gate_pulls: &[f32],
        penalty: impl Fn(usize) -> f32 + Sync,
    ) -> Sums<NUMBERS> {
        // Sums are over blocks of rows and then over blocks, so that threads change nothing.
        const ROWS: usize = 64;
        let d_sae = self.b_gate.len();
        let block = ROWS * d_sae;
        let blocks = pulls.par_chunks_mut(block).zip(gate_pulls.par_chunks(block));
        let blocks = blocks.zip(codes.par_chunks(block).zip(open.par_chunks(block)));
        let sums = blocks.map(|((pulls, gate_pulls), (codes, open))| {
            let mut sums = Sums::by_latent(d_sae, [true; NUMBERS]);
            for (index, (pull, (code, pi))) in pulls.iter_mut().zip(codes.iter().zip(open)).enumerate() {
                let latent = index % d_sae;
                if *pi > 0.0 {
                    let entry = self.at(latent, *code, *pi, *pull, gate_pulls[index] + penalty(latent));
                    *pull = entry.encoder;
                    sums.add_at(latent, entry.numbers());
                } else {
                    *pull = 0.0;
                }
            }
            sums
        });
        let mut total = Sums::by_latent(d_sae, [true; NUMBERS]);
        sums.collect::<Vec<_>>().iter().for_each(|sums| total.add(sums));
        total
    }
}
