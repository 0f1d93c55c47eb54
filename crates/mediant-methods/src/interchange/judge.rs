use mediant_artifact::{Prompt, Version};
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::{Error, Pairs, Result};

/// What is expected of a prompt after an interchange (Huang et al. 2024, RAVEL, arXiv:2402.17700).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Prompt and counterfactual have different right answers: that of the counterfactual.
    Cause,
    /// They have the same: that it stays.
    Isolate,
}

/// What is expected of some prompts.
///
/// Of [`Side::Cause`] the counterfactual's right answers are expected, against the prompt's own right ones. Of [`Side::Isolate`] the
/// prompt's right answers are expected, against its wrong ones. An answer is as expected where the mean logit of the expected
/// tokens exceeds that of the others; where there are no others, where the largest logit of all is that of an expected token.
pub struct Judge {
    expected: Vec<Vec<i32>>,
    others: Vec<Vec<i32>>,
    sides: Vec<Side>,
}

impl Judge {
    /// Of these prompts.
    ///
    /// # Errors
    /// [`Error::Data`] without counterfactuals.
    pub fn of(pairs: &Pairs, prompts: &[Prompt]) -> Result<Self> {
        let mut judge = Self { expected: Vec::new(), others: Vec::new(), sides: Vec::new() };
        for prompt in prompts {
            let other = pairs.counterfactual(prompt);
            judge.push(
                &prompt.clean,
                other.ok_or_else(|| Error::Data("this method needs a counterfactual".to_owned()))?,
            );
        }
        Ok(judge)
    }

    fn push(&mut self, clean: &Version, counterfactual: &Version) {
        let set = |tokens: &[i32]| {
            let mut tokens = tokens.to_vec();
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        let (own, other) = (set(&clean.right), set(&counterfactual.right));
        if own == other {
            self.expected.push(own);
            self.others.push(set(&clean.wrong));
            self.sides.push(Side::Isolate);
        } else {
            self.expected.push(other);
            self.others.push(own);
            self.sides.push(Side::Cause);
        }
    }

    /// The side of each prompt.
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// The expected tokens of each prompt.
    pub fn expected(&self) -> &[Vec<i32>] {
        &self.expected
    }

    /// Expects of each prompt what is expected of another: `order` says of which.
    pub fn rearranged(&mut self, order: &[usize]) {
        self.expected = order.iter().map(|&index| self.expected[index].clone()).collect();
        self.others = order.iter().map(|&index| self.others[index].clone()).collect();
        self.sides = order.iter().map(|&index| self.sides[index]).collect();
    }

    /// Weights whose sum with logits is the mean of expected ones less that of others, `[prompts, vocabulary]`.
    pub fn weights<C: Compute>(&self, vocabulary: usize, device: &C::Device) -> Tensor<C, 2> {
        let prompts = self.sides.len();
        let mut weights = vec![0f32; prompts * vocabulary];
        for ((row, expected), others) in weights.chunks_exact_mut(vocabulary).zip(&self.expected).zip(&self.others) {
            expected.iter().for_each(|&token| row[token as usize] += 1.0 / expected.len() as f32);
            others.iter().for_each(|&token| row[token as usize] -= 1.0 / others.len() as f32);
        }
        Tensor::from_data(TensorData::new(weights, [prompts, vocabulary]), device)
    }

    /// For each prompt the mean logit of expected tokens less that of others, whether its answer is as expected, and whether
    /// the largest logit is that of an expected token. `weights` are [`Self::weights`], `logits` `[prompts, vocabulary]`.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn judged<C: Compute>(&self, weights: &Tensor<C, 2>, logits: Tensor<C, 2>) -> Result<Vec<(f64, bool, bool)>> {
        let unreadable = |error: String| Error::Data(format!("logits cannot be read: {error}"));
        let margins = (logits.clone() * weights.clone()).sum_dim(1).into_data().into_vec::<f32>();
        let margins = margins.map_err(|error| unreadable(format!("{error:?}")))?;
        let top = logits.argmax(1).into_data().into_vec::<i32>().map_err(|error| unreadable(format!("{error:?}")))?;
        let judged = |(index, (margin, top)): (usize, (f32, i32))| {
            let is_top = self.expected[index].contains(&top);
            let none = self.others[index].is_empty();
            (if none { f64::NAN } else { f64::from(margin) }, if none { is_top } else { margin > 0.0 }, is_top)
        };
        Ok(margins.into_iter().zip(top).enumerate().map(judged).collect())
    }
}
