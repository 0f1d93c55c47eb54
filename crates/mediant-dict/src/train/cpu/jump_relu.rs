//! `jumprelu`: f = z where z > θ, with a threshold a latent (Rajamanoharan et al. 2024, arXiv:2407.14435), as SAELens
//! and dictionary_learning have it.
//!
//! The step at θ has no useful gradient; within half a bandwidth ε of it a straight-through estimator gives one:
//! ∂f/∂θ = −θ/ε and ∂H(z − θ)/∂θ = −1/ε. So the entries that matter are those above θ − ε/2, and, where dead latents are
//! pulled up (Anthropic's pre-activation loss), all of dead latents.

use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;

use super::dense_pays;
use super::pass::{Found, Frame, Pass, add_norm_gradient};
use super::sums::Sums;
use super::term::{DenseTerm, SparseTerm};
use crate::encode::{pre_activations, sized};
use crate::product::{add_transposed_times, pieces};
use crate::train::learner::Losses;
use crate::{Extra, JumpRelu, Sparsity, Weights};

/// `thresholds` are the family's own parameters.
pub(super) fn pass(frame: Frame<'_>, options: &JumpRelu, thresholds: &[f32], gradients: &mut Weights) -> Found {
    let Frame { weights, norms, inputs, errors, work, gain, rows, now, .. } = frame;
    let (d_in, d_out, d_sae) = (weights.d_in, weights.d_out, weights.d_sae);
    let local = Local {
        thresholds,
        norms,
        dead: now.dead,
        bandwidth: options.bandwidth as f32,
        ste_to_input: options.ste_to_input,
        sparsity: options.sparsity,
        sparsity_gain: now.coefficient as f32 / rows as f32,
        pre_act_gain: options.pre_act_loss_coefficient.map_or(0.0, |c| c as f32 / rows as f32),
    };
    let mut total = local.nothing(d_sae);
    let mut mse = 0.0;
    let (mut term, mut pre) = (SparseTerm::default(), Vec::new());
    for piece in pieces(rows, d_sae) {
        let inputs = &inputs[piece.start * d_in..piece.end * d_in];
        let errors = &mut errors[piece.start * d_out..piece.end * d_out];
        let hidden = pre_activations(weights, inputs, &mut work.hidden);
        let near: usize =
            hidden.par_chunks(d_sae).map(|row| row.iter().enumerate().filter(|x| local.matters(x)).count()).sum();
        if dense_pays(near, piece.len(), d_sae) {
            let codes = sized(&mut work.codes, hidden.len());
            codes.par_chunks_mut(d_sae).zip(hidden.par_chunks(d_sae)).for_each(|(codes, z)| {
                for ((code, z), threshold) in codes.iter_mut().zip(z).zip(thresholds) {
                    *code = if z > threshold { *z } else { 0.0 };
                }
            });
            let dense = DenseTerm { codes, w_dec: &weights.w_dec, d_out };
            mse += dense.decode(errors);
            let pulls = dense.pulls(errors, gain, &mut work.pulls);
            add_transposed_times(&mut gradients.w_dec, gain, codes, errors, piece.len());
            total.add(&local.dense(hidden, pulls));
            add_transposed_times(&mut gradients.w_enc, 1.0, pulls, inputs, piece.len());
            term.skip_rows(piece.len());
        } else {
            let entries = Codes::collect(hidden.par_chunks(d_sae), |row, (): &mut (), codes| {
                codes.push_row((0u32..).zip(row.iter().copied()).filter(|(i, z)| local.matters(&(*i as usize, z))));
            });
            let codes = entries.mapped(|latent, z| if z > thresholds[latent as usize] { z } else { 0.0 });
            mse += term.push(&codes, &weights.w_dec, errors, gain, |_| 0.0);
            total.sparsity +=
                (0..codes.rows()).map(|row| f64::from(local.of_l0(active(codes.row(row).1)).1)).sum::<f64>();
            pre.extend_from_slice(entries.values());
        }
    }
    if let Some(by_latent) = term.decoder_backward(errors, gain, gradients) {
        let found = local.sparse(term.codes(), &pre, term.pulls());
        total.sums.add_entries(&by_latent, &found.sums);
        total.sparsity += found.sparsity;
        total.pre_act += found.pre_act;
        let [z, ..] = &found.sums.0;
        by_latent.add_sums(&by_latent.arrange(z), inputs, &mut gradients.w_enc);
    }
    if let Sparsity::Relative { target_l0 } = options.sparsity {
        relative(now.coefficient, target_l0, options.bandwidth, rows, thresholds, &mut total);
    }
    let Total { sums: Sums([z, threshold, norm, active, _]), sparsity, pre_act } = total;
    add_norm_gradient(weights, norms, &norm, &mut gradients.w_dec);
    gradients.b_enc.copy_from_slice(&z);
    gradients.extra = Extra::Threshold(threshold);
    let mut others = vec![sparsity];
    others.extend(options.pre_act_loss_coefficient.map(|_| pre_act));
    let losses = Losses { mse: mse / rows as f64, others };
    let fired = active.iter().map(|count| *count > 0.0).collect();
    let active = active.iter().map(|count| *count as usize).sum::<usize>();
    Found { pass: Pass { losses, active, fired, least: None }, ..Found::default() }
}

/// How many of a row's values are active, where thresholds are not below zero.
fn active(values: &[f32]) -> usize {
    values.iter().filter(|value| **value > 0.0).count()
}

/// dictionary_learning's loss, of the mean L0 of the batch, and its pull on thresholds. It counts activations above the
/// threshold and not pre-activations, so that the zeros of a latent that is not active lie near a threshold that is, or count
/// where it is below zero.
fn relative(coefficient: f64, target: f64, bandwidth: f64, rows: usize, thresholds: &[f32], total: &mut Total) {
    let rows = rows as f64;
    let Sums([_, of_thresholds, _, active, near]) = &mut total.sums;
    let counted = thresholds.iter().zip(&*active);
    let counted: f64 =
        counted.map(|(threshold, active)| if *threshold < 0.0 { rows } else { f64::from(*active) }).sum();
    let off = counted / rows / target - 1.0;
    total.sparsity = coefficient * off * off;
    let step = 2.0 * coefficient * off / (target * rows * bandwidth);
    let entries = active.iter().zip(near).zip(thresholds);
    for (pull, ((active, near), threshold)) in of_thresholds.iter_mut().zip(entries) {
        let zeros = if f64::from(threshold.abs()) < 0.5 * bandwidth { rows - f64::from(*active) } else { 0.0 };
        *pull -= (step * (f64::from(*near) + zeros)) as f32;
    }
}

/// What an entry gives, and is pulled by.
struct Local<'a> {
    thresholds: &'a [f32],
    norms: &'a [f32],
    dead: &'a [bool],
    bandwidth: f32,
    ste_to_input: bool,
    sparsity: Sparsity,
    /// λ / batch.
    sparsity_gain: f32,
    /// Coefficient of the pre-activation loss / batch.
    pre_act_gain: f32,
}

/// The numbers of an entry that are summed by latent.
const NUMBERS: usize = 5;

/// Sums of entries by latent, or the entries, and their losses.
struct Total {
    /// ∂L/∂z, ∂L/∂θ, ∂L/∂‖W_dec‖, how many are active, and how many of these are near, where that is asked for.
    sums: Sums<NUMBERS>,
    sparsity: f64,
    pre_act: f64,
}

impl Total {
    fn add(&mut self, other: &Self) {
        self.sums.add(&other.sums);
        self.sparsity += other.sparsity;
        self.pre_act += other.pre_act;
    }
}

/// Of one entry: its part of the losses, ∂L/∂z, ∂L/∂θ and ∂L/∂‖W_dec‖.
#[derive(Default)]
struct Entry {
    active: bool,
    sparsity: f32,
    pre_act: f32,
    z: f32,
    threshold: f32,
    norm: f32,
    /// Active, and within half a bandwidth of the threshold.
    near: bool,
}

impl Entry {
    fn numbers(&self) -> [f32; NUMBERS] {
        let one = |is: bool| f32::from(u8::from(is));
        [self.z, self.threshold, self.norm, one(self.active), one(self.near)]
    }
}

impl Local<'_> {
    /// No entry of any latent yet.
    fn nothing(&self, d_sae: usize) -> Total {
        let near = matches!(self.sparsity, Sparsity::Relative { .. });
        Total { sums: Sums::by_latent(d_sae, [true, true, true, true, near]), sparsity: 0.0, pre_act: 0.0 }
    }

    /// Whether an entry can have a gradient.
    fn matters(&self, &(latent, z): &(usize, &f32)) -> bool {
        (z - self.thresholds[latent]) / self.bandwidth > -0.5 || (self.pre_act_gain > 0.0 && self.dead[latent])
    }

    /// `pull` is ∂mse/∂f, `step` ∂L/∂L0 of its row.
    fn at(&self, latent: usize, z: f32, pull: f32, step: f32) -> Entry {
        let (threshold, norm) = (self.thresholds[latent], self.norms[latent]);
        let active = z > threshold;
        let mut entry = Entry { active, ..Entry::default() };
        let mut pull = pull;
        if let Sparsity::Tanh { scale } = self.sparsity {
            let f = if active { z } else { 0.0 };
            let scale = scale as f32;
            let tanh = (scale * f * norm).tanh();
            let slope = self.sparsity_gain * scale * (1.0 - tanh * tanh);
            entry.sparsity = self.sparsity_gain * tanh;
            entry.norm = slope * f;
            pull += slope * norm;
        }
        entry.z = if active { pull } else { 0.0 };
        let distance = (z - threshold) / self.bandwidth;
        if distance > -0.5 && distance < 0.5 {
            entry.near = active;
            let estimate = (threshold * pull + step) / self.bandwidth;
            entry.threshold = -estimate;
            if self.ste_to_input {
                entry.z += estimate;
            }
        }
        if self.pre_act_gain > 0.0 && self.dead[latent] && z < threshold {
            let weight = self.pre_act_gain * norm;
            entry.pre_act = weight * (threshold - z);
            entry.norm += self.pre_act_gain * (threshold - z);
            entry.z -= weight;
            entry.threshold += weight;
        }
        entry
    }

    /// ∂L/∂L0 of a row, and the row's part of the loss, where L0 itself is penalised.
    fn of_l0(&self, l0: usize) -> (f32, f32) {
        let l0 = l0 as f32;
        match self.sparsity {
            Sparsity::Step => (self.sparsity_gain, self.sparsity_gain * l0),
            Sparsity::Quadratic { target_l0 } => {
                let (target, off) = (target_l0 as f32, l0 - target_l0 as f32);
                (self.sparsity_gain * 4.0 / target * off, self.sparsity_gain * 2.0 / target * off * off)
            }
            // The batch's mean is.
            Sparsity::Tanh { .. } | Sparsity::Relative { .. } => (0.0, 0.0),
        }
    }

    /// All entries of some rows; `pulls` becomes ∂L/∂z.
    fn dense(&self, hidden: &[f32], pulls: &mut [f32]) -> Total {
        // Sums are over blocks of rows and then over blocks, so that threads change nothing.
        const ROWS: usize = 64;
        let d_sae = self.thresholds.len();
        let blocks = pulls.par_chunks_mut(ROWS * d_sae).zip(hidden.par_chunks(ROWS * d_sae));
        let blocks = blocks.map(|(pulls, hidden)| {
            let mut total = self.nothing(d_sae);
            for (pulls, hidden) in pulls.chunks_exact_mut(d_sae).zip(hidden.chunks_exact(d_sae)) {
                let l0 = hidden.iter().zip(self.thresholds).filter(|(z, threshold)| z > threshold).count();
                let (step, loss) = self.of_l0(l0);
                total.sparsity += f64::from(loss);
                for (latent, (pull, &z)) in pulls.iter_mut().zip(hidden).enumerate() {
                    let entry = self.at(latent, z, *pull, step);
                    *pull = entry.z;
                    total.sums.add_at(latent, entry.numbers());
                    total.sparsity += f64::from(entry.sparsity);
                    total.pre_act += f64::from(entry.pre_act);
                }
            }
            total
        });
        let mut total = self.nothing(d_sae);
        blocks.collect::<Vec<_>>().iter().for_each(|block| total.add(block));
        total
    }

    /// The entries that matter, of all rows: numbers by entry, and losses but for that of L0, which rows without
    /// entries have too.
    fn sparse(&self, codes: &Codes, pre: &[f32], pulls: &[f32]) -> Total {
        let none = || Total { sums: Sums::by_entry(), sparsity: 0.0, pre_act: 0.0 };
        let rows = (0..codes.rows()).into_par_iter().map(|row| {
            let (latents, values) = codes.row(row);
            let (step, _) = self.of_l0(active(values));
            let mut found = none();
            for (place, &latent) in codes.range(row).zip(latents) {
                let entry = self.at(latent as usize, pre[place], pulls[place], step);
                found.sums.push(entry.numbers());
                found.sparsity += f64::from(entry.sparsity);
                found.pre_act += f64::from(entry.pre_act);
            }
            found
        });
        let mut all = none();
        for row in rows.collect::<Vec<_>>() {
            all.sums.append(row.sums);
            all.sparsity += row.sparsity;
            all.pre_act += row.pre_act;
        }
        all
    }
}
