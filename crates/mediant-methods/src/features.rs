//! What each latent of an autoencoder responds to and promotes: its top activating contexts, and what its direction does to the
//! logits.

use std::ops::Range;

use mediant_artifact::Tokens;
use mediant_dict::Sae;
use mediant_lm::{Capture, HookPoint, Model, Positions, batches};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor, TensorData};
use rayon::prelude::*;

use crate::{Error, Result};

/// Which contexts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// How many of each latent.
    pub count: usize,
    /// Positions before the one where it is largest.
    pub before: usize,
    /// Positions after it.
    pub after: usize,
}

/// What is known of the latents of an autoencoder. It grows with the number of latents, not with the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Positions seen.
    pub positions: u64,
    /// By latent.
    pub latents: Vec<Latent>,
}

/// What is known of a latent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latent {
    /// Positions at which it is active.
    pub active: u64,
    /// Sum of its activations.
    pub sum: f64,
    /// The largest of them.
    pub max: f32,
    /// Where it is largest, the largest first; of one sequence one position at most.
    pub top: Vec<Context>,
}

/// A position at which a latent is active, and what it is around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The activation there.
    pub value: f32,
    /// The sequence.
    pub example: u32,
    /// The position in it.
    pub position: u32,
    /// The first position of the context.
    pub first: u32,
    /// The activation at every position of the context; 0 where the mask is not set.
    pub values: Vec<f32>,
}

/// Looks at all positions whose mask is set, batch by batch. `progress` hears how many tokens of how many are done.
///
/// # Errors
/// If the model refuses the tokens or no position's mask is set; whatever `progress` gives.
pub fn features<C: Compute, E: From<Error>>(
    model: &Model<C>,
    sae: &Sae,
    hook: HookPoint,
    tokens: &Tokens,
    contexts: Contexts,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Features, E> {
    let capture = Capture { hooks: vec![hook], positions: Positions::All };
    let d_sae = sae.weights().d_sae;
    let mut found = Features { positions: 0, latents: vec![Latent::default(); d_sae] };
    let mut best = Best { value: vec![0.0; d_sae], row: vec![0; d_sae], latents: Vec::new() };
    for range in batches(tokens, model.config(), 4 * sae.weights().d_in) {
        let sequences: Vec<usize> = range.clone().collect();
        let x = capture.vectors(model, tokens, &sequences, tokens.meta.context).map_err(Error::from)?;
        let codes = sae.encode(&x[0]);
        let mut first = 0;
        for example in range.clone() {
            let kept: Vec<usize> = capture.kept(tokens, example).collect();
            let part = Part {
                codes: &codes,
                rows: first..first + kept.len(),
                kept,
                example,
                len: tokens.sequence(example).len(),
            };
            first = part.rows.end;
            found.add(&part, contexts, &mut best);
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    if found.positions == 0 {
        return Err(Error::Data("the tokens have no position whose mask is set".to_owned()).into());
    }
    Ok(found)
}

/// The codes of a sequence.
struct Part<'c> {
    codes: &'c Codes,
    /// Those of this sequence.
    rows: Range<usize>,
    /// The position of each of them.
    kept: Vec<usize>,
    example: usize,
    len: usize,
}

/// Where each latent is largest in a sequence.
struct Best {
    value: Vec<f32>,
    row: Vec<usize>,
    /// Those that are active in it.
    latents: Vec<u32>,
}

impl Features {
    fn add(&mut self, part: &Part<'_>, contexts: Contexts, best: &mut Best) {
        self.positions += part.kept.len() as u64;
        for row in part.rows.clone() {
            let (latents, values) = part.codes.row(row);
            for (&latent, &value) in latents.iter().zip(values).filter(|(_, value)| **value > 0.0) {
                let at = latent as usize;
                let known = &mut self.latents[at];
                known.active += 1;
                known.sum += f64::from(value);
                known.max = known.max.max(value);
                if best.value[at] == 0.0 {
                    best.latents.push(latent);
                }
                if value > best.value[at] {
                    (best.value[at], best.row[at]) = (value, row);
                }
            }
        }
        for latent in best.latents.drain(..) {
            let at = latent as usize;
            let value = std::mem::take(&mut best.value[at]);
            let top = &mut self.latents[at].top;
            // Sequences come in order: of equal activations the first stays.
            if top.len() < contexts.count || top.last().is_some_and(|last| value > last.value) {
                let place = top.partition_point(|other| other.value >= value);
                top.insert(place, part.context(latent, best.row[at], value, contexts));
                top.truncate(contexts.count);
            }
        }
    }
}

impl Part<'_> {
    fn context(&self, latent: u32, row: usize, value: f32, contexts: Contexts) -> Context {
        let position = self.kept[row - self.rows.start];
        let first = position.saturating_sub(contexts.before);
        let at = |position: usize| {
            let Ok(place) = self.kept.binary_search(&position) else { return 0.0 };
            let (latents, values) = self.codes.row(self.rows.start + place);
            latents.binary_search(&latent).map_or(0.0, |entry| values[entry])
        };
        Context {
            value,
            example: self.example as u32,
            position: position as u32,
            first: first as u32,
            values: (first..self.len.min(position + contexts.after + 1)).map(at).collect(),
        }
    }
}

/// The tokens whose logits a latent raises and lowers most, with the weights: rows of `W_dec W_U`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitWeights {
    /// The largest weights first.
    pub promoted: Vec<(u32, f32)>,
    /// The least first.
    pub suppressed: Vec<(u32, f32)>,
}

/// The logit weights of some latents, `count` to each side. Of equal weights the lower token comes first.
///
/// # Errors
/// If decoder rows are not of the residual stream's width.
pub fn logit_weights<C: Compute>(
    model: &Model<C>,
    sae: &Sae,
    latents: Range<usize>,
    count: usize,
) -> Result<Vec<LogitWeights>> {
    let weights = sae.weights();
    let (d_model, vocabulary) = (model.config().d_model, model.config().vocab_size);
    if weights.d_out != d_model {
        let why = format!("the unembedding reads vectors of {d_model}, the decoder writes {}", weights.d_out);
        return Err(Error::Data(why));
    }
    let (first, rows) = (latents.start, latents.len());
    let mut decoder = weights.w_dec[first * d_model..latents.end * d_model].to_vec();
    // A product of few numbers takes another path through the matrix library, with other last bits.
    let padded = rows.max(256 / vocabulary + 2);
    decoder.resize(padded * d_model, 0.0);
    let decoder = Tensor::<C, 2>::from_data(TensorData::new(decoder, [padded, d_model]), &model.device());
    let logits = decoder.matmul(model.unembedding().transpose());
    // `Compute` fixes the float element to f32, so the conversion cannot fail.
    let logits = logits.into_data().into_vec::<f32>().unwrap_or_default();
    let of_row = |row: &[f32]| LogitWeights {
        promoted: first_of(row, count, |a, b| b.total_cmp(a)),
        suppressed: first_of(row, count, f32::total_cmp),
    };
    Ok(logits.par_chunks(vocabulary).take(rows).map(of_row).collect())
}

/// The first `count` in an order.
fn first_of(row: &[f32], count: usize, order: impl Fn(&f32, &f32) -> std::cmp::Ordering) -> Vec<(u32, f32)> {
    let mut places: Vec<u32> = (0..row.len() as u32).collect();
    let count = count.min(places.len());
    let by = |a: &u32, b: &u32| order(&row[*a as usize], &row[*b as usize]).then(a.cmp(b));
    if count > 0 && count < places.len() {
        places.select_nth_unstable_by(count - 1, by);
    }
    places.truncate(count);
    places.sort_unstable_by(by);
    places.into_iter().map(|token| (token, row[token as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::first_of;

    #[test]
    fn the_first_come_in_order() {
        let row = [0.5, -1.0, 2.0, 0.5, 2.0];
        assert_eq!(first_of(&row, 3, |a, b| b.total_cmp(a)), [(2, 2.0), (4, 2.0), (0, 0.5)]);
        assert_eq!(first_of(&row, 9, f32::total_cmp).len(), 5);
        assert_eq!(first_of(&row, 1, f32::total_cmp), [(1, -1.0)]);
        assert!(first_of(&row, 0, f32::total_cmp).is_empty());
    }
}
