//! The model's verdict on an item.

use mediant_tensor::{Compute, Tensor, TensorData};

use super::items::TaskItem;
use crate::text::Tokenizer;
use crate::{Batch, Error, Hooks, Model, Result};

/// What a model makes of an item. Log-probabilities are in nats, summed over the tokens after those that both texts begin with, so
/// their difference is that of the whole texts; for single tokens it is the difference of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Log-probability of the right continuation.
    pub right: f64,
    /// Log-probability of the wrong one.
    pub wrong: f64,
    /// Whether of all tokens the right continuation's first is the most probable.
    pub top1: bool,
}

impl Verdict {
    /// Whether the right continuation is the more probable.
    pub fn correct(&self) -> bool {
        self.right > self.wrong
    }

    /// By how much, in nats.
    pub fn logit_diff(&self) -> f64 {
        self.right - self.wrong
    }
}

/// Tokens of one forward pass, unless one item has more.
const TOKENS: usize = 4096;

/// A text as the model sees it, and where its own part begins.
struct Side {
    ids: Vec<i32>,
    prefix: usize,
}

impl Side {
    /// What goes in: the last token is only predicted.
    fn input(&self) -> &[i32] {
        &self.ids[..self.ids.len() - 1]
    }
}

/// Judges items, batch by batch. Prompt and continuation are tokenized together, after `bos` if there is one. `hooks` is asked for the
/// edits of each pass, in which both texts of an item are the same example. `progress` hears how
/// many items are done, and may stop the work with an error.
///
/// # Errors
/// [`Error::Tokens`] for an item that is longer than the model's context, that has no token before its continuations, or one of
/// whose texts is how the other begins.
pub fn judge<'e, C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokenizer: &Tokenizer,
    items: &[TaskItem],
    bos: Option<u32>,
    hooks: impl Fn() -> Hooks<'e, C>,
    mut progress: impl FnMut(u64) -> Result<(), E>,
) -> Result<Vec<Verdict>, E> {
    let mut verdicts = Vec::with_capacity(items.len());
    let mut waiting: Vec<[Side; 2]> = Vec::new();
    let mut tokens = 0;
    for (index, item) in items.iter().enumerate() {
        let pair = sides(tokenizer, item, bos).map_err(|error| Error::Tokens(format!("item {index}: {error}")))?;
        let length = pair[0].ids.len() + pair[1].ids.len();
        if tokens + length > TOKENS && !waiting.is_empty() {
            verdicts.extend(judge_batch(model, &waiting, verdicts.len(), hooks())?);
            waiting.clear();
            tokens = 0;
            progress(verdicts.len() as u64)?;
        }
        tokens += length;
        waiting.push(pair);
    }
    if !waiting.is_empty() {
        verdicts.extend(judge_batch(model, &waiting, verdicts.len(), hooks())?);
    }
    progress(verdicts.len() as u64)?;
    Ok(verdicts)
}

fn sides(tokenizer: &Tokenizer, item: &TaskItem, bos: Option<u32>) -> Result<[Side; 2]> {
    let ids = |continuation: &str| -> Result<Vec<i32>> {
        let tokens = tokenizer.encode(&format!("{}{continuation}", item.prompt))?.ids;
        Ok(bos.into_iter().chain(tokens).map(|id| id as i32).collect())
    };
    let (right, wrong) = (ids(&item.right)?, ids(&item.wrong)?);
    let prefix = right.iter().zip(&wrong).take_while(|(right, wrong)| right == wrong).count();
    if prefix == 0 {
        return Err(Error::Tokens("there is no token before the continuations".to_owned()));
    }
    if prefix == right.len().min(wrong.len()) {
        let (right, wrong) = (&item.right, &item.wrong);
        return Err(Error::Tokens(format!("of {right:?} and {wrong:?} one is how the other begins")));
    }
    Ok([right, wrong].map(|ids| Side { ids, prefix }))
}

/// The verdicts of some items, of which `item` is the number of the first.
fn judge_batch<C: Compute>(
    model: &Model<C>,
    pairs: &[[Side; 2]],
    item: usize,
    hooks: Hooks<'_, C>,
) -> Result<Vec<Verdict>> {
    // Where only the last token differs, one pass serves both sides.
    let mut inputs: Vec<&[i32]> = Vec::new();
    let mut examples = Vec::new();
    let places: Vec<[usize; 2]> = pairs
        .iter()
        .zip(item as u64..)
        .map(|([right, wrong], example)| {
            let first = inputs.len();
            inputs.push(right.input());
            if right.input() != wrong.input() {
                inputs.push(wrong.input());
            }
            examples.resize(inputs.len(), example);
            [first, inputs.len() - 1]
        })
        .collect();
    let batch = Batch::new(model.config(), &inputs, &model.device())?.with_examples(examples);
    let hidden = model.hidden(&batch, hooks)?;
    let mut verdicts = Vec::with_capacity(pairs.len());
    for ([right, wrong], [right_at, wrong_at]) in pairs.iter().zip(places) {
        let rows = |side: &Side, at: usize| {
            let start = batch.sequences()[at].start;
            start + side.prefix - 1..start + side.input().len()
        };
        let mut log_probs = Vec::with_capacity(2);
        let mut top1 = false;
        for (side, at) in [(right, right_at), (wrong, wrong_at)] {
            let rows: Vec<i32> = rows(side, at).map(|row| row as i32).collect();
            let targets = &side.ids[side.prefix..];
            let (log_prob, top) = log_prob(model, &hidden, rows, targets)?;
            top1 |= top && log_probs.is_empty();
            log_probs.push(log_prob);
        }
        verdicts.push(Verdict { right: log_probs[0], wrong: log_probs[1], top1 });
    }
    Ok(verdicts)
}

/// The summed log-probability of `targets` at `rows`, and whether the first of them is the most probable token.
fn log_prob<C: Compute>(
    model: &Model<C>,
    hidden: &Tensor<C, 2>,
    rows: Vec<i32>,
    targets: &[i32],
) -> Result<(f64, bool)> {
    let count = rows.len();
    let rows = Tensor::from_data(TensorData::new(rows, [count]), &model.device());
    let logits = model.logits(hidden.clone().select(0, rows)).into_data();
    let logits =
        logits.as_slice::<f32>().map_err(|error| Error::Tokens(format!("logits cannot be read: {error:?}")))?;
    let mut sum = 0.0;
    let mut top1 = false;
    for (index, (logits, &target)) in logits.chunks_exact(model.config().vocab_size).zip(targets).enumerate() {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        let logit = logits[target as usize];
        sum += f64::from(logit) - f64::from(largest) - total.ln();
        top1 |= index == 0 && logit == largest;
    }
    Ok((sum, top1))
}
