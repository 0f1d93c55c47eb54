use mediant_tensor::burn::tensor::activation::log_softmax;
use mediant_tensor::{Autodiff, Compute, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::interchange::Judge;

/// What is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// −log of the probability of the expected tokens together.
    #[default]
    CrossEntropy,
    /// The mean logit of the other tokens less that of the expected ones: what interchange-intervention accuracy compares.
    LogitDiff,
}

impl Loss {
    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::LogitDiff => "logit_diff",
        }
    }
}

/// What is expected of the prompts of a batch, on the device.
pub(super) struct Expected<C: Compute> {
    loss: Loss,
    /// Of [`Loss::CrossEntropy`] 0 at expected tokens and far below at all others, of [`Loss::LogitDiff`] the weights of the
    /// difference; `[prompts, vocabulary]`.
    tokens: Tensor<C, 2>,
}

/// A logit that counts for nothing.
const FAR_BELOW: f32 = -1e9;

impl<C: Compute> Expected<C> {
    pub(super) fn new(loss: Loss, judge: &Judge, vocabulary: usize, device: &C::Device) -> Self {
        let tokens = match loss {
            Loss::LogitDiff => judge.weights(vocabulary, device),
            Loss::CrossEntropy => {
                let mut mask = vec![FAR_BELOW; judge.expected().len() * vocabulary];
                for (row, expected) in mask.chunks_exact_mut(vocabulary).zip(judge.expected()) {
                    expected.iter().for_each(|&token| row[token as usize] = 0.0);
                }
                let shape = [judge.expected().len(), vocabulary];
                Tensor::from_data(TensorData::new(mask, shape), device)
            }
        };
        Self { loss, tokens }
    }

    /// The mean over the prompts, of logits `[prompts, vocabulary]`.
    pub(super) fn mean(&self, logits: Tensor<Autodiff<C>, 2>) -> Tensor<Autodiff<C>, 1> {
        let tokens = Tensor::from_inner(self.tokens.clone());
        let prompts = logits.dims()[0] as f32;
        match self.loss {
            Loss::LogitDiff => (logits * tokens).sum().neg() / prompts,
            Loss::CrossEntropy => {
                let log_probs = log_softmax(logits, 1) + tokens;
                // log Σ e^x less the largest x, through which no gradient needs to go.
                let largest = log_probs.clone().detach().max_dim(1);
                let sum = (log_probs - largest.clone()).exp().sum_dim(1).log() + largest;
                sum.sum().neg() / prompts
            }
        }
    }
}
