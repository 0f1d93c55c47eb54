//! Prompts, each beside one of its counterfactuals, in batches that fit a forward pass.

use std::collections::BTreeSet;
use std::ops::Range;

use mediant_artifact::{Example, Prompt, Version};
use mediant_lm::{Batch, LmConfig, Positions};
use mediant_tensor::Compute;
use mediant_tensor::random::{permutation, stream};

use crate::{Answers, Error, Result};

/// Most tokens of a batch. Larger batches are no faster and hold more.
const TOKENS: usize = 2048;

/// Prompts and which of their counterfactuals is meant.
pub struct Pairs {
    prompts: Vec<Prompt>,
    counterfactual: Option<usize>,
}

impl Pairs {
    /// `counterfactual` is the index of the one that is meant; none for methods that need none.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no prompts, or a prompt and its counterfactual have different numbers of tokens.
    pub fn new(prompts: Vec<Prompt>, counterfactual: Option<usize>) -> Result<Self> {
        if prompts.is_empty() {
            return Err(Error::Data("there are no prompts".to_owned()));
        }
        if let Some(index) = counterfactual {
            for (example, prompt) in prompts.iter().enumerate() {
                let other = prompt.counterfactuals.get(index).map(|version| version.ids.len());
                if other != Some(prompt.clean.ids.len()) {
                    let clean = prompt.clean.ids.len();
                    let other = other.map_or_else(|| "none".to_owned(), |tokens| format!("one of {tokens} tokens"));
                    return Err(Error::Data(format!(
                        "prompt {example} has {clean} tokens and {other} as its counterfactual"
                    )));
                }
            }
        }
        Ok(Self { prompts, counterfactual })
    }

    /// The same prompts, each with the right and wrong answers of another, drawn by the seed: what a search makes of these is the control of
    /// shuffled labels. Exchanging right for wrong would not do: it changes the sign of an effect and of what it is divided by.
    ///
    /// # Errors
    /// [`Error::Data`] of a single prompt.
    pub fn with_shuffled_answers(mut self, seed: u64) -> Result<Self> {
        let others = others(self.prompts.len(), seed, "shuffled_answers")?;
        let answers: Vec<_> =
            self.prompts.iter().map(|prompt| (prompt.clean.right.clone(), prompt.clean.wrong.clone())).collect();
        for (prompt, other) in self.prompts.iter_mut().zip(others) {
            (prompt.clean.right, prompt.clean.wrong) = answers[other].clone();
        }
        Ok(self)
    }

    /// Some of the prompts, in another order.
    #[must_use]
    pub fn rearranged(&self, order: &[usize]) -> Self {
        let prompts = order.iter().map(|&index| self.prompts[index].clone()).collect();
        Self { prompts, counterfactual: self.counterfactual }
    }

    /// All prompts.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The counterfactual of a prompt, if one is meant.
    pub fn counterfactual<'p>(&self, prompt: &'p Prompt) -> Option<&'p Version> {
        self.counterfactual.and_then(|index| prompt.counterfactuals.get(index))
    }

    /// What effects are recorded by.
    pub fn examples(&self) -> Vec<Example> {
        let example = |prompt: &Prompt| Example {
            task: prompt.task.clone(),
            template: prompt.template.clone(),
            group: prompt.group.clone(),
        };
        self.prompts.iter().map(example).collect()
    }

    /// Names of the spans that some prompt has.
    pub fn spans(&self) -> Vec<String> {
        let names = self.prompts.iter().flat_map(|prompt| prompt.clean.spans.keys().cloned());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether a prompt has any of these positions, so that what is done there is done to it.
    pub fn reaches(&self, example: usize, positions: &Positions) -> bool {
        let Version { ids, spans, .. } = &self.prompts[example].clean;
        (0..ids.len()).any(|position| positions.includes_in(position, ids.len(), spans))
    }

    /// Tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.clean.ids.len()).max().unwrap_or(0)
    }

    /// Neighbouring prompts that make up one forward pass. The division changes no result.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let (mut start, mut tokens) = (0, 0);
        for (index, prompt) in self.prompts.iter().enumerate() {
            if tokens + prompt.clean.ids.len() > TOKENS && index > start {
                ranges.push(start..index);
                (start, tokens) = (index, 0);
            }
            tokens += prompt.clean.ids.len();
        }
        ranges.push(start..self.prompts.len());
        ranges
    }

    /// The batch of a range of [`Self::ranges`].
    ///
    /// # Errors
    /// If the model cannot take the tokens.
    pub fn batch<C: Compute>(&self, range: Range<usize>, config: &LmConfig, device: &C::Device) -> Result<Pair<C>> {
        let prompts = &self.prompts[range.clone()];
        let batch = |versions: Vec<&Version>| -> Result<Batch<C>> {
            let ids: Vec<&[i32]> = versions.iter().map(|version| version.ids.as_slice()).collect();
            let batch = Batch::new(config, &ids, device)?;
            let spans = versions.iter().map(|version| version.spans.clone()).collect();
            Ok(batch.with_spans(spans).with_examples(range.clone().map(|example| example as u64).collect()))
        };
        let counterfactuals: Option<Vec<&Version>> = prompts.iter().map(|prompt| self.counterfactual(prompt)).collect();
        Ok(Pair {
            first: range.start as u32,
            clean: batch(prompts.iter().map(|prompt| &prompt.clean).collect())?,
            counterfactual: counterfactuals.map(batch).transpose()?,
            answers: Answers::of(prompts.iter().map(|prompt| &prompt.clean)),
        })
    }
}

/// Some prompts, beside their counterfactuals if one is meant.
pub struct Pair<C: Compute> {
    /// Number of the first prompt.
    pub first: u32,
    /// The prompts.
    pub clean: Batch<C>,
    /// Their counterfactuals, of the same lengths.
    pub counterfactual: Option<Batch<C>>,
    /// The answers of the prompts, by which both are judged.
    pub answers: Answers,
}

impl<C: Compute> Pair<C> {
    /// The counterfactuals.
    ///
    /// # Errors
    /// [`Error::Data`] if none is meant.
    pub fn corrupted(&self) -> Result<&Batch<C>> {
        self.counterfactual.as_ref().ok_or_else(|| Error::Data("this method needs a counterfactual".to_owned()))
    }
}

/// For every prompt another one, whose labels it gets where labels are shuffled: around a random circle, so that nobody keeps his own.
pub(crate) fn others(prompts: usize, seed: u64, purpose: &str) -> Result<Vec<usize>> {
    if prompts < 2 {
        let why = "labels are shuffled among prompts, and there is one alone to search on (besides those held out)";
        return Err(Error::Data(why.to_owned()));
    }
    let order = permutation(&mut stream(seed, purpose), prompts);
    let mut others = vec![0; prompts];
    for (place, other) in order.iter().zip(order.iter().cycle().skip(1)) {
        others[*place] = *other;
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::others;

    #[test]
    fn nobody_keeps_a_label_that_is_shuffled() {
        for (prompts, seed) in (2..9).flat_map(|prompts| (0..20).map(move |seed| (prompts, seed))) {
            let mut found = others(prompts, seed, "labels").unwrap();
            assert!(found.iter().enumerate().all(|(place, other)| place != *other), "{found:?}");
            found.sort_unstable();
            assert!(found.into_iter().eq(0..prompts));
        }
        assert!(others(1, 0, "labels").is_err());
    }
}
