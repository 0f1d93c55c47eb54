//! The first pass: what has to be known of all activations before they are measured.

use mediant_artifact::Tokens;
use mediant_dict::evaluate::{ByBatch, Density, Largest, Quantised, Zf};
use mediant_lm::{Batch, Hooks, Model, batches};
use mediant_tensor::Compute;

use super::{Options, Part, Read, Spliced, hooks, numbers_kept, places};
use crate::{Error, Result};

/// Runs the model as far as the last hook. At each hook that gives the mean, the largest activation of each latent, and the
/// batches where latents are chosen by batch.
pub(super) fn survey<C: Compute, E: From<Error>>(
    model: &Model<C>,
    spliced: Vec<Spliced>,
    tokens: &Tokens,
    options: &Options,
    mut progress: impl FnMut(u64) -> Result<(), E>,
) -> Result<Vec<Part>, E> {
    let mut largest: Vec<Largest> = spliced.iter().map(|one| Largest::new(one.sae.weights().d_sae)).collect();
    let mut parts = spliced.into_iter().map(part).collect::<Result<Vec<_>>>()?;
    let mut measured = 0;
    for range in batches(tokens, model.config(), numbers_kept(model, &parts)) {
        let ids: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &ids, &model.device()).map_err(Error::from)?;
        let mut read = Read::default();
        let mut reader = |point, x| {
            read.take(point, x);
            Ok(())
        };
        model.read(&batch, Hooks::none().read(hooks(&parts), &mut reader)).map_err(Error::from)?;
        let first = tokens.offsets[range.start];
        let rows = places(tokens, options.special_tokens, range.clone());
        let rows: Vec<usize> = rows.map(|(sequence, position)| tokens.offsets[sequence] + position - first).collect();
        measured += rows.len();
        for (part, largest) in parts.iter_mut().zip(&mut largest) {
            part.look(&read.at(part.hook, part.width_in(), &rows)?, largest);
            part.sum(&read.at(part.out, part.width_out(), &rows)?);
        }
        progress(tokens.offsets[range.end] as u64)?;
    }
    for (part, largest) in parts.iter_mut().zip(largest) {
        part.mean.iter_mut().for_each(|sum| *sum /= measured as f64);
        if let Some(by_batch) = &mut part.by_batch {
            by_batch.end();
        }
        part.quantised = Quantised::new(largest, options.mdl_bins);
    }
    Ok(parts)
}

/// Before any activation.
fn part(Spliced { name, sae, hook, out, batch }: Spliced) -> Result<Part> {
    let by_batch = batch.map(|(k, batch)| ByBatch::new(&sae, k, batch)).transpose()?;
    let (d_out, d_sae) = (sae.weights().d_out, sae.weights().d_sae);
    Ok(Part {
        name,
        hook,
        out,
        by_batch,
        mean: vec![0.0; d_out],
        density: Density::new(d_sae),
        quantised: Quantised::new(Largest::new(d_sae), 1),
        norms: Zf::new(&sae),
        eps_lbo: Vec::new(),
        zf: Vec::new(),
        sae,
    })
}

impl Part {
    /// Adds the next activations that are reconstructed, `[rows, d_out]`, to what is to be their mean.
    fn sum(&mut self, y: &[f32]) {
        for row in y.chunks_exact(self.width_out()) {
            self.mean.iter_mut().zip(row).for_each(|(sum, y)| *sum += f64::from(*y));
        }
    }

    /// Looks at the next activations that are read, `[rows, d_in]`.
    fn look(&mut self, x: &[f32], largest: &mut Largest) {
        match &mut self.by_batch {
            Some(by_batch) => by_batch.look(x, largest),
            None => largest.add(&self.sae.encode(x)),
        }
    }
}
