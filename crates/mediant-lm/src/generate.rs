//! Continuing texts token by token.

use mediant_tensor::Compute;
use mediant_tensor::random::{stream, unit_f64};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Batch, Error, Hooks, KvCache, Model, Result};

/// How the next token is chosen from the logits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits before the softmax; 0 takes the largest logit (greedy), the lowest id among equals.
    #[serde(default)]
    pub temperature: f64,
    /// Draw only from this many tokens with the largest logits; among equal logits the lower ids come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw only from the fewest tokens, by falling probability, whose probabilities reach this sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
}

/// When a continuation ends, besides at the model's context.
#[derive(Clone, Debug)]
pub struct Until {
    /// Most tokens to add.
    pub tokens: usize,
    /// Ends after this token.
    pub stop: Option<i32>,
}

/// Most prompts that go through the model together.
const TOGETHER: usize = 16;

/// Continues each prompt; returns the added tokens. The draws for prompt i come from its own stream of `seed`, and a prompt's
/// continuation does not depend on the others. `hooks` is asked for the edits of each pass; positions that they count from the end
/// move with the text. `progress` hears how many prompts are done, and may stop the work with an error.
///
/// # Errors
/// [`Error::Tokens`] for a prompt that is empty, too long, or outside the vocabulary, and of a model that sees what comes next.
pub fn generate<'e, C: Compute, E: From<Error>>(
    model: &Model<C>,
    prompts: &[Vec<i32>],
    sampling: &Sampling,
    until: &Until,
    seed: u64,
    hooks: impl Fn() -> Hooks<'e, C>,
    mut progress: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<Vec<i32>>, E> {
    model.config().check_causal()?;
    let mut all = Vec::with_capacity(prompts.len());
    for prompts in prompts.chunks(TOGETHER) {
        let first = all.len();
        let texts = prompts.iter().enumerate().map(|(i, prompt)| Text {
            place: i,
            example: (first + i) as u64,
            fresh: prompt.clone(),
            past: 0,
            added: Vec::new(),
            draws: stream(seed, &format!("generate/{}", first + i)),
        });
        let mut done = continue_all(model, texts.collect(), sampling, until, &hooks)?;
        done.sort_by_key(|text| text.place);
        all.extend(done.into_iter().map(|text| text.added));
        progress(all.len())?;
    }
    Ok(all)
}

/// A text under way.
struct Text {
    /// Which prompt of the batch it continues.
    place: usize,
    /// Which of all prompts that is.
    example: u64,
    /// Tokens that have not been through the model.
    fresh: Vec<i32>,
    /// Number of tokens that have.
    past: usize,
    added: Vec<i32>,
    draws: ChaCha8Rng,
}

impl Text {
    fn ended(&self, until: &Until, context: usize) -> bool {
        let stopped = self.added.last().is_some_and(|last| until.stop == Some(*last));
        stopped || self.added.len() >= until.tokens || self.past + self.fresh.len() >= context
    }
}

fn continue_all<'e, C: Compute>(
    model: &Model<C>,
    mut texts: Vec<Text>,
    sampling: &Sampling,
    until: &Until,
    hooks: &impl Fn() -> Hooks<'e, C>,
) -> Result<Vec<Text>> {
    let config = model.config();
    let mut cache = KvCache::new(config.n_layers, texts.len());
    let mut done = Vec::new();
    loop {
        let (ended, going): (Vec<_>, Vec<_>) =
            texts.into_iter().enumerate().partition(|(_, text)| text.ended(until, config.context));
        cache.keep(&going.iter().map(|(index, _)| *index).collect::<Vec<_>>());
        done.extend(ended.into_iter().map(|(_, text)| text));
        texts = going.into_iter().map(|(_, text)| text).collect();
        if texts.is_empty() {
            return Ok(done);
        }
        let fresh: Vec<&[i32]> = texts.iter().map(|text| &text.fresh[..]).collect();
        let past: Vec<usize> = texts.iter().map(|text| text.past).collect();
        let batch = Batch::after(config, &fresh, &past, &model.device())?;
        let batch = batch.with_examples(texts.iter().map(|text| text.example).collect());
        let hidden = model.hidden_after(&batch, &mut cache, hooks())?;
        let logits = model.logits(hidden).into_data();
        let logits = logits.as_slice::<f32>().map_err(|e| Error::Tokens(format!("logits cannot be read: {e:?}")))?;
        for (text, logits) in texts.iter_mut().zip(logits.chunks_exact(config.vocab_size)) {
            let next = choose(logits, sampling, &mut text.draws);
            text.past += text.fresh.len();
            text.fresh = vec![next];
            text.added.push(next);
        }
    }
}

/// The next token.
fn choose(logits: &[f32], sampling: &Sampling, draws: &mut ChaCha8Rng) -> i32 {
    if sampling.temperature == 0.0 {
        let best = logits.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        return best.map_or(0, |(id, _)| id as i32);
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if let Some(k) = sampling.top_k.filter(|&k| k < order.len()) {
        order.select_nth_unstable_by(k - 1, falling);
        order.truncate(k);
    }
    order.sort_unstable_by(falling);
    let largest = f64::from(logits[order[0] as usize]);
    let weights: Vec<f64> =
        order.iter().map(|&id| ((f64::from(logits[id as usize]) - largest) / sampling.temperature).exp()).collect();
    let mut sums: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let total = |sums: &[f64]| sums[sums.len() - 1];
    if let Some(p) = sampling.top_p {
        let enough = p * total(&sums);
        let kept = sums.partition_point(|sum| *sum < enough) + 1;
        sums.truncate(kept);
    }
    let draw = unit_f64(draws) * total(&sums);
    let chosen = sums.partition_point(|sum| *sum <= draw).min(sums.len() - 1);
    order[chosen] as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut draws = stream(0, "test");
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[choose(logits, sampling, &mut draws) as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_equal_logits() {
        let mut draws = stream(0, "test");
        assert_eq!(choose(&[1.0, 3.0, 3.0, -1.0], &Sampling::default(), &mut draws), 1);
    }

    #[test]
    fn sampling_follows_the_softmax_within_its_limits() {
        let logits = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()]; // probabilities 1/8, 2/8, 1/8, 4/8
        let all = counts(&Sampling { temperature: 1.0, ..Sampling::default() }, &logits);
        for (count, expected) in all.iter().zip([500.0, 1000.0, 500.0, 2000.0]) {
            // Five standard deviations of a binomial count.
            let deviation = 5.0 * (expected * (1.0 - expected / 4000.0_f64)).sqrt();
            assert!((*count as f64 - expected).abs() < deviation, "{all:?}");
        }
        let top_k = counts(&Sampling { temperature: 1.0, top_k: Some(3), top_p: None }, &logits);
        assert!(top_k[0] > 0 && top_k[2] == 0, "of two equal logits the lower id is kept: {top_k:?}");
        let top_p = counts(&Sampling { temperature: 1.0, top_k: None, top_p: Some(0.7) }, &logits);
        assert!(top_p[1] > 0 && top_p[0] == 0 && top_p[2] == 0, "{top_p:?}");
        let cold = counts(&Sampling { temperature: 0.01, ..Sampling::default() }, &logits);
        assert_eq!(cold, [0, 0, 0, 4000]);
    }
}
