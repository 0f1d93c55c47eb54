//! Cross-entropy of a model on token sequences.

use std::ops::Range;

use mediant_artifact::Tokens;
use mediant_tensor::Compute;

use crate::{Batch, Error, Hooks, LmConfig, Model, Result};

/// The tokens of some sequences that a model predicts and that count: their mask is set, and they are not the first of their
/// sequence. Each by its index in [`Tokens::ids`] and its position in the sequence.
pub fn predicted(tokens: &Tokens, sequences: Range<usize>) -> impl Iterator<Item = (usize, usize)> + '_ {
    sequences
        .flat_map(move |i| {
            let start = tokens.offsets[i];
            (start + 1..tokens.offsets[i + 1]).map(move |token| (token, token - start))
        })
        .filter(|(token, _)| tokens.mask[*token])
}

/// The losses in nats of [`predicted`] tokens, in their order, batch by batch: beside the result, memory is that of a batch.
/// `hooks` is asked for the edits of each batch, `progress` hears how many tokens of how many are done.
///
/// # Errors
/// [`Error::Tokens`] for sequences that the model cannot take, and what the edits give.
pub fn losses<'a, C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    hooks: impl Fn() -> Hooks<'a, C>,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Vec<f32>, E> {
    let mut all = Vec::new();
    for range in batches(tokens, model.config(), 0) {
        let batch = batch_of(model, tokens, range.clone())?;
        all.extend(batch_losses(model, tokens, range.clone(), &batch, hooks())?);
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(all)
}

/// The losses in nats of the [`predicted`] tokens of some sequences, in their order; `batch` is of these sequences.
///
/// # Errors
/// As [`Model::losses`].
pub fn batch_losses<C: Compute>(
    model: &Model<C>,
    tokens: &Tokens,
    sequences: Range<usize>,
    batch: &Batch<C>,
    hooks: Hooks<'_, C>,
) -> Result<Vec<f32>> {
    let losses = model.losses(batch, hooks)?;
    let counts = sequences.flat_map(|i| &tokens.mask_of(i)[1..]);
    Ok(losses.into_iter().zip(counts).filter(|(_, counts)| **counts).map(|(loss, _)| loss).collect())
}

/// Some sequences as a batch of a model.
///
/// # Errors
/// As [`Batch::new`].
pub fn batch_of<C: Compute>(model: &Model<C>, tokens: &Tokens, sequences: Range<usize>) -> Result<Batch<C>> {
    let ids: Vec<&[i32]> = sequences.clone().map(|i| tokens.sequence(i)).collect();
    let batch = Batch::new(model.config(), &ids, &model.device())?;
    Ok(batch.with_examples(sequences.map(|example| example as u64).collect()))
}

/// Neighbouring sequences that make up one forward pass: as many tokens as keep its activations, and `kept` more numbers a
/// token, in a few tens of megabytes. The division changes no result.
pub fn batches<'t>(tokens: &'t Tokens, config: &LmConfig, kept: usize) -> impl Iterator<Item = Range<usize>> + 't {
    const BYTES: usize = 64 << 20;
    // The widest moment of a block: the MLP's hidden layer around its activation function, beside the residual stream.
    let row = 4 * (3 * config.d_mlp + 2 * config.qkv_width() + 2 * config.d_model + kept);
    let most = (BYTES / row).clamp(256, 8192);
    let mut start = 0;
    std::iter::from_fn(move || {
        let limit = tokens.offsets[start] + most;
        let fitting = tokens.offsets.partition_point(|end| *end <= limit) - 1;
        let range = start..fitting.max(start + 1);
        start = range.end;
        (range.end <= tokens.len()).then_some(range)
    })
    .fuse()
}
