//! Activations of spans, each made one vector.

use mediant_artifact::Tokens;
use mediant_dict::Sae;
use mediant_lm::{Capture, HookPoint, Model, Positions};
use mediant_tensor::Compute;
use mediant_tensor::kernels::sparse::Codes;

use super::Pool;
use super::examples::Span;
use crate::{Error, Result};

/// Tokens of a forward pass.
const TOKENS: usize = 2048;

/// One vector a span.
pub(super) enum Pooled {
    /// `[spans, width]`.
    Dense { width: usize, values: Vec<f32> },
    /// Few of `width` numbers are not 0.
    Sparse { width: usize, codes: Codes },
}

impl Pooled {
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Dense { width, .. } | Self::Sparse { width, .. } => *width,
        }
    }

    /// Adds a multiple of a span's vector.
    pub(super) fn add_to(&self, sum: &mut [f64], span: usize, times: f64) {
        match self {
            Self::Dense { width, values } => {
                let row = &values[span * width..][..*width];
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += times * f64::from(*x));
            }
            Self::Sparse { codes, .. } => {
                let (latents, values) = codes.row(span);
                latents.iter().zip(values).for_each(|(i, x)| sum[*i as usize] += times * f64::from(*x));
            }
        }
    }

    /// One number of a span's vector.
    pub(super) fn get(&self, span: usize, index: usize) -> f64 {
        f64::from(match self {
            Self::Dense { width, values } => values[span * width + index],
            Self::Sparse { codes, .. } => {
                let (latents, values) = codes.row(span);
                latents.binary_search(&(index as u32)).map_or(0.0, |entry| values[entry])
            }
        })
    }
}

/// The latents of an autoencoder, the numbers that it reads, and, if wanted, the neurons at another hook point, each pooled over
/// every span. Spans come in the order of the sequences; sequences without one are not run.
pub(super) fn pooled<C: Compute, E: From<Error>>(
    model: &Model<C>,
    sae: &Sae,
    hooks: &[HookPoint],
    tokens: &Tokens,
    spans: &[Span],
    pool: Pool,
    progress: &mut impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Vec<Pooled>, E> {
    let capture = Capture { hooks: hooks.to_vec(), positions: Positions::All };
    let context = tokens.meta.context;
    let widths = hooks.iter().map(|hook| hook.shape(model.config(), context).iter().product());
    let widths: Vec<usize> = widths.collect();
    let mut codes = Codes::default();
    let mut dense: Vec<Vec<f32>> = widths.iter().map(|width| Vec::with_capacity(spans.len() * width)).collect();
    let mut rest = spans;
    while let Some(first) = rest.first() {
        // Sequences up to so many tokens, one at least.
        let mut sequences = vec![first.sequence];
        let mut length = tokens.sequence(first.sequence).len();
        for span in rest {
            if sequences.last() != Some(&span.sequence) {
                length += tokens.sequence(span.sequence).len();
                if length > TOKENS {
                    break;
                }
                sequences.push(span.sequence);
            }
        }
        let last = sequences[sequences.len() - 1];
        let (now, later) = rest.split_at(rest.partition_point(|span| span.sequence <= last));
        let read = capture.vectors(model, tokens, &sequences, context).map_err(Error::from)?;
        let encoded = sae.encode(&read[0]);
        // Where the rows of each sequence begin, and the positions that they are of.
        let (mut row, mut kept) = (0, Vec::new());
        for &sequence in &sequences {
            let positions: Vec<usize> = capture.kept(tokens, sequence).collect();
            kept.push((row, positions));
            row += kept[kept.len() - 1].1.len();
        }
        for span in now {
            let (start, positions) = &kept[sequences.partition_point(|sequence| *sequence < span.sequence)];
            // All tokens of a span have their masks set, so that its rows are neighbours.
            let from = start + positions.partition_point(|position| *position < span.start);
            let rows = from..from + (span.end - span.start);
            for ((all, read), width) in dense.iter_mut().zip(&read).zip(&widths) {
                pool.dense(&read[rows.start * width..rows.end * width], *width, all);
            }
            codes.push_row(pool.sparse(&encoded, rows));
        }
        rest = later;
        progress((spans.len() - rest.len()) as u64, spans.len() as u64)?;
    }
    let mut all = vec![Pooled::Sparse { width: sae.weights().d_sae, codes }];
    all.extend(widths.into_iter().zip(dense).map(|(width, values)| Pooled::Dense { width, values }));
    Ok(all)
}

impl Pool {
    fn dense(self, rows: &[f32], width: usize, out: &mut Vec<f32>) {
        let tokens = rows.len() / width;
        let column = |i: usize| rows.iter().skip(i).step_by(width).copied();
        out.extend((0..width).map(|i| match self {
            Self::Mean => (column(i).map(f64::from).sum::<f64>() / tokens as f64) as f32,
            Self::Max => column(i).fold(f32::NEG_INFINITY, f32::max),
            Self::Last => rows[(tokens - 1) * width + i],
        }));
    }

    fn sparse(self, codes: &Codes, rows: std::ops::Range<usize>) -> Vec<(u32, f32)> {
        let tokens = rows.len() as f64;
        let last = rows.end - 1;
        let rows = if self == Self::Last { last..last + 1 } else { rows };
        let entries = rows.flat_map(|row| {
            let (latents, values) = codes.row(row);
            latents.iter().copied().zip(values.iter().copied())
        });
        let mut entries: Vec<(u32, f32)> = entries.collect();
        // Stable: values of one latent stay in the order of the tokens.
        entries.sort_by_key(|(latent, _)| *latent);
        let pooled = entries.chunk_by(|a, b| a.0 == b.0).map(|same| {
            let values = same.iter().map(|(_, value)| *value);
            let value = match self {
                Self::Mean => (values.map(f64::from).sum::<f64>() / tokens) as f32,
                // Where a latent is not active it is 0, and codes are not negative.
                Self::Max | Self::Last => values.fold(0.0, f32::max),
            };
            (same[0].0, value)
        });
        pooled.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use mediant_tensor::kernels::sparse::Codes;

    #[test]
    fn both_forms_pool_alike() {
        let dense = [1.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.5, 0.0, 1.0];
        let mut codes = Codes::default();
        for row in dense.chunks(3) {
            codes.push_row((0u32..).zip(row.iter().copied()).filter(|(_, x)| *x > 0.0));
        }
        for (pool, expected) in
            [(Pool::Mean, [1.5, 0.0, 1.0]), (Pool::Max, [3.0, 0.0, 2.0]), (Pool::Last, [0.5, 0.0, 1.0])]
        {
            let mut pooled = Vec::new();
            pool.dense(&dense, 3, &mut pooled);
            assert_eq!(pooled, expected);
            let mut sparse = Codes::default();
            sparse.push_row(pool.sparse(&codes, 0..3));
            assert_eq!(sparse.to_dense(3), expected);
        }
    }
}
