//! The second pass: every measurement of one batch of sequences.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use mediant_artifact::Tokens;
use mediant_dict::evaluate::Sums as Reconstruction;
use mediant_lm::{Batch, Edit, HookPoint, Hooks, Model, Positions, Replace};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor, TensorData};
use rayon::prelude::*;

use super::divergence::predictions;
use super::{Part, Read, SaeEvaluation, Sums, ZfRow, gathered, hooks, places};
use crate::Result;

/// From rows, one below the other, to what comes in their place.
type Change<'a> = Box<dyn Fn(&[f32]) -> mediant_lm::Result<Vec<f32>> + Send + Sync + 'a>;

/// Changes some rows of an activation and leaves the others as they come.
struct OnRows<'a> {
    rows: &'a [usize],
    change: Change<'a>,
}

impl<C: Compute> Edit<C> for OnRows<'_> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        let (shape, device) = (activation.dims(), activation.device());
        let width = shape[1] * shape[2];
        let mut x = activation.into_data().into_vec::<f32>().unwrap_or_default();
        let changed = (self.change)(&gathered(&x, width, self.rows))?;
        if changed.len() != self.rows.len() * width {
            return Err(mediant_lm::Error::Hook(format!("a dictionary does not fit `{point}`")));
        }
        for (row, changed) in self.rows.iter().zip(changed.chunks_exact(width)) {
            x[row * width..][..width].copy_from_slice(changed);
        }
        Ok(Tensor::from_data(TensorData::new(x, shape), &device))
    }
}

impl SaeEvaluation {
    /// The sums of each sequence of a batch. `number` counts the measured positions before it.
    pub(super) fn batch<C: Compute>(
        &mut self,
        model: &Model<C>,
        tokens: &Tokens,
        range: Range<usize>,
        number: &mut usize,
    ) -> Result<Vec<Sums>> {
        let ids: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &ids, &model.device())?;
        let mut read = Read::default();
        let mut reader = |point, x| {
            read.take(point, x);
            Ok(())
        };
        let clean = model.hidden(&batch, Hooks::none().read(hooks(&self.parts), &mut reader))?;

        let first = tokens.offsets[range.start];
        let places: Vec<(usize, usize)> = places(tokens, self.options.special_tokens, range.clone()).collect();
        let rows: Vec<usize> =
            places.iter().map(|(sequence, position)| tokens.offsets[*sequence] + position - first).collect();
        let numbers: Vec<usize> = (*number..*number + rows.len()).collect();
        *number += rows.len();
        let mut sums = vec![Sums::default(); range.len()];
        let mut reconstructions = Vec::new();
        for part in &mut self.parts {
            let x = read.at(part.hook, part.width_in(), &rows)?;
            let y = read.at(part.out, part.width_out(), &rows)?;
            let codes = part.encode(&x, &numbers);
            let output = part.output(&x, &codes);
            for (sums, part) in sums.iter_mut().zip(part.sums(&y, &output, &codes, &places, range.clone())) {
                sums.reconstruction.push(part);
            }
            // What is left for the latents.
            let mut z = part.normalised(y);
            part.sae.add_skipped(-1.0, &x, &mut z);
            part.count(&z, &codes, &places, &numbers, (self.options.zf_rows, self.measured));
            reconstructions.push(output);
        }

        let seen = Mutex::new(Read::default());
        let earliest = self.parts.iter().map(|part| part.out).min();
        let as_seen = self.parts.iter().zip(&reconstructions).map(|(part, reconstruction)| {
            let (rows, numbers, seen) = (&rows[..], &numbers[..], &seen);
            // What comes before the first splice is as it was; what comes after is what splices leave.
            let change: Change<'_> = if Some(part.out) == earliest {
                Box::new(move |_| Ok(reconstruction.clone()))
            } else if part.transcodes() {
                Box::new(move |_| {
                    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let x = seen
                        .at(part.hook, part.width_in(), rows)
                        .map_err(|e| mediant_lm::Error::Hook(e.to_string()))?;
                    Ok(part.output(&x, &part.encode(&x, numbers)))
                })
            } else {
                Box::new(move |x| Ok(part.output(x, &part.encode(x, numbers))))
            };
            OnRows { rows, change }
        });
        let spliced: Vec<OnRows<'_>> = as_seen.collect();
        let means = self.parts.iter().map(|part| {
            let mean: Vec<f32> = part.mean.iter().map(|x| *x as f32).collect();
            OnRows { rows: &rows, change: Box::new(move |x| Ok(mean.repeat(x.len() / mean.len()))) }
        });
        let means: Vec<OnRows<'_>> = means.collect();
        let zero = Replace::<C>::zero(Positions::All);
        let mut reader = |point, x| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).take(point, x);
            Ok(())
        };
        let of_transcoders = self.parts.iter().filter(|part| part.transcodes()).map(|part| part.hook);
        let spliced = self.edits(&spliced).read(of_transcoders, &mut reader);
        let zeros = self.parts.iter().fold(Hooks::none(), |all, part| all.edit(part.out, &zero));
        let hidden = [
            clean,
            model.hidden(&batch, spliced)?,
            model.hidden(&batch, zeros)?,
            model.hidden(&batch, self.edits(&means))?,
        ];

        let predicted = batch.sequences().iter().enumerate().flat_map(|(place, sequence)| {
            let counts = move |row: &usize| tokens.mask[first + row + 1];
            (sequence.start..sequence.start + sequence.len - 1).filter(counts).map(move |row| (place, row))
        });
        let predicted: Vec<(usize, usize)> = predicted.collect();
        let rows: Vec<usize> = predicted.iter().map(|(_, row)| *row).collect();
        let targets: Vec<i32> = rows.iter().map(|row| tokens.ids[first + row + 1]).collect();
        for ((place, _), found) in predicted.iter().zip(predictions(model, &hidden, &rows, &targets)?) {
            let sums = &mut sums[*place];
            sums.predicted += 1;
            sums.loss.iter_mut().zip(found.loss).for_each(|(sum, loss)| *sum += loss);
            sums.kl.iter_mut().zip(found.kl).for_each(|(sum, kl)| *sum += kl);
        }
        Ok(sums)
    }

    /// An edit for each dictionary.
    fn edits<'a, C: Compute>(&self, edits: &'a [OnRows<'a>]) -> Hooks<'a, C> {
        self.parts.iter().zip(edits).fold(Hooks::none(), |all, (part, edit)| all.edit(part.out, edit))
    }
}

impl Part {
    /// The sums of each sequence of what is to be made and what is made of it; `places` says where the rows are from.
    fn sums(
        &self,
        y: &[f32],
        output: &[f32],
        codes: &Codes,
        places: &[(usize, usize)],
        range: Range<usize>,
    ) -> Vec<Reconstruction> {
        let width = self.width_out();
        let of_sequence = |sequence: usize| {
            let start = places.partition_point(|(before, _)| *before < sequence);
            let own = places[start..].iter().take_while(|(own, _)| *own == sequence).count();
            let mut sums = Reconstruction::default();
            for row in start..start + own {
                let at = row * width..(row + 1) * width;
                sums.add(&y[at.clone()], &output[at], codes.row(row).1, &self.mean);
            }
            sums
        };
        range.into_par_iter().map(of_sequence).collect()
    }

    /// Counts what is counted by latent or kept by position; `z` is what the latents are to make. `zf_rows` positions of all
    /// that are `measured` are kept.
    fn count(
        &mut self,
        z: &[f32],
        codes: &Codes,
        places: &[(usize, usize)],
        numbers: &[usize],
        (zf_rows, measured): (usize, usize),
    ) {
        let points = (0..places.len()).into_par_iter();
        let points: Vec<_> =
            points.map(|row| self.norms.point(&z[row * self.width_out()..][..self.width_out()], codes, row)).collect();
        for (row, point) in points.into_iter().enumerate() {
            self.density.add_row(codes, row);
            self.quantised.add_row(codes, row);
            self.eps_lbo.push(point.eps_lbo as f32);
            let up_to = |number: usize| number * zf_rows / measured;
            if up_to(numbers[row] + 1) > up_to(numbers[row]) {
                let (example, position) = places[row];
                self.zf.push(ZfRow { example: example as u32, position: position as u32, point });
            }
        }
    }
}
