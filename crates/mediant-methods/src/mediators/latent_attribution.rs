//! Attribution patching over a dictionary's latents and its error (Marks et al. 2024, arXiv:2403.19647).

use std::collections::BTreeSet;

use mediant_artifact::{Contrast, Mediator};
use mediant_lm::{Differentiable, HookPoint, Model};
use mediant_tensor::Compute;
use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;

use super::family::Spliced;
use super::latents::{Decoded, flat};
use crate::attribution::{Runs, Slope, slopes};
use crate::{Error, Metric, Pairs, Result, Sink, layer};

/// The items of a dictionary: its latents, `sae[7]`, and then its error, `sae.error`.
pub fn latent_mediators(spliced: &Spliced) -> Vec<Mediator> {
    let at = |name: String, kind: &str, unit: Option<u32>| Mediator {
        name,
        kind: kind.to_owned(),
        hook: Some(spliced.writes.to_string()),
        layer: layer(spliced.writes),
        unit,
        ..Mediator::default()
    };
    let latents = 0..spliced.sae.weights().d_sae as u32;
    let latents = latents.map(|latent| at(format!("sae[{latent}]"), "latent", Some(latent)));
    latents.chain([at("sae.error".to_owned(), "error", None)]).collect()
}

/// Attributes the difference between each prompt and its counterfactual to [`latent_mediators`]: Σ over positions of what the item writes
/// in the clean run less what it writes in the counterfactual run, times the slope there. The patched value recorded is the one
/// predicted. `progress` hears how many prompts of how many are done.
///
/// # Errors
/// [`Error::Data`] without counterfactuals or if the dictionary does not fit the model, and whatever the passes and the recorder give.
pub fn attribute_latents<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    spliced: &Spliced,
    slope: Slope,
    metric: Metric,
    recorder: &mut impl Sink,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let d_sae = spliced.sae.weights().d_sae;
    let points = BTreeSet::from([spliced.writes]);
    let mut read = BTreeSet::from([spliced.reads, spliced.writes]);
    if matches!(slope, Slope::OverEmbeddings(..)) {
        read.insert(HookPoint::Embed);
    }
    let differentiable = Differentiable::new(model).map_err(Error::from)?;
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let runs = Runs::new(model, &pair, &read, metric)?;
        let (slopes, passes) = slopes(&differentiable, model, &pair, &runs, &points, slope, metric)?;
        recorder.count(range.len(), 2.0 + passes);
        let slope_at = slopes.get(&spliced.writes);
        let slope_at = slope_at.ok_or_else(|| Error::Data(format!("no slope came to `{}`", spliced.writes)))?;
        let slope_at = flat(slope_at)?;
        let clean = Decoded::of_run(spliced, &runs.clean.activations)?;
        let other = Decoded::of_run(spliced, &runs.corrupted.activations)?;
        // By item and sequence.
        let sequences = pair.clean.sequences();
        let mut sums = vec![vec![0.0f64; sequences.len()]; d_sae + 1];
        let width = slope_at.len() / pair.clean.rows();
        for (place, sequence) in sequences.iter().enumerate() {
            let rows: Vec<usize> = sequence.rows().collect();
            let by_row: Vec<Vec<(u32, f64)>> = rows
                .par_iter()
                .map(|&row| {
                    let slope = &slope_at[row * width..][..width];
                    let mut along = clean.along(spliced, row, slope);
                    along.extend(other.along(spliced, row, slope).into_iter().map(|(latent, value)| (latent, -value)));
                    along
                })
                .collect();
            by_row.into_iter().flatten().for_each(|(latent, value)| sums[latent as usize][place] += value);
            for row in rows {
                let (from, to) = (row * width, (row + 1) * width);
                let rest = clean.rest[from..to].iter().zip(&other.rest[from..to]).zip(&slope_at[from..to]);
                sums[d_sae][place] +=
                    rest.map(|((clean, other), slope)| f64::from(clean - other) * f64::from(*slope)).sum::<f64>();
            }
        }
        let (clean, corrupted) = (&runs.clean.values, &runs.corrupted.values);
        for (item, sums) in sums.iter().enumerate() {
            let predicted: Vec<f64> = match slope.contrast() {
                Contrast::Lost => clean.iter().zip(sums).map(|(clean, sum)| clean - sum).collect(),
                _ => corrupted.iter().zip(sums).map(|(corrupted, sum)| corrupted + sum).collect(),
            };
            recorder.record_where(item, pair.first, clean, Some(corrupted), &predicted, |_| true)?;
        }
        progress(range.end, pairs.prompts().len())?;
    }
    Ok(())
}

impl Decoded {
    /// What each active latent of a row writes, times `slope`.
    fn along(&self, spliced: &Spliced, row: usize, slope: &[f32]) -> Vec<(u32, f64)> {
        let (latents, values) = self.codes.row(row);
        let d_in = spliced.sae.weights().d_in;
        let x = &self.x[row * d_in..][..d_in];
        // One row for each latent by itself, and one for none.
        let mut alone = Codes::default();
        latents.iter().zip(values).for_each(|(latent, value)| alone.push_row([(*latent, *value)]));
        alone.push_row([]);
        let written = spliced.sae.decode(&alone, &x.repeat(latents.len() + 1));
        let width = slope.len();
        let (each, none) = written.split_at(latents.len() * width);
        let along = |written: &[f32]| -> f64 {
            let parts = written.iter().zip(none).zip(slope);
            parts.map(|((own, none), slope)| f64::from(own - none) * f64::from(*slope)).sum()
        };
        latents.iter().copied().zip(each.chunks_exact(width).map(along)).collect()
    }
}
