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

/// A logit that counts for nothing.
const FAR_BELOW: f32 = -1e9;

impl Loss {
    /// The mean over the prompts, of logits `[prompts, vocabulary]`.
    pub(super) fn mean<C: Compute>(self, logits: Tensor<Autodiff<C>, 2>, judge: &Judge) -> Tensor<Autodiff<C>, 1> {
        let [prompts, vocabulary] = logits.dims();
        let device = logits.device();
        match self {
            Self::LogitDiff => {
                let weights = Tensor::from_inner(judge.weights::<C>(vocabulary, &device));
                (logits * weights).sum().neg() / prompts as f32
            }
            Self::CrossEntropy => {
                let mut others = vec![FAR_BELOW; prompts * vocabulary];
                for (row, expected) in others.chunks_exact_mut(vocabulary).zip(judge.expected()) {
                    expected.iter().for_each(|&token| row[token as usize] = 0.0);
                }
                let others = Tensor::from_data(TensorData::new(others, [prompts, vocabulary]), &device);
                let log_probs = log_softmax(logits, 1) + others;
                // log Σ e^x less the largest x, through which no gradient needs to go.
                let largest = log_probs.clone().detach().max_dim(1);
                let sum = (log_probs - largest.clone()).exp().sum_dim(1).log() + largest;
                sum.sum().neg() / prompts as f32
            }
        }
    }
}
