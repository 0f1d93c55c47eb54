//! What is asked of a model's answer to a prompt, as one number.

use mediant_artifact::Version;
use mediant_tensor::burn::tensor::activation::softmax;
use mediant_tensor::{Compute, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A number from the logits at a prompt's last position. Right and wrong answers are sets of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The mean logit of the right tokens less that of the wrong ones (Wang et al. 2022, arXiv:2211.00593; MIB's metric).
    #[default]
    LogitDiff,
    /// The probability of the right tokens together less that of the wrong ones (Hanna et al. 2023, arXiv:2305.00586).
    ProbDiff,
    /// The probability of the right tokens together (Meng et al. 2022, arXiv:2202.05262).
    Prob,
    /// Its natural logarithm.
    LogProb,
}

impl Metric {
    /// The name in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogitDiff => "logit_diff",
            Self::ProbDiff => "prob_diff",
            Self::Prob => "prob",
            Self::LogProb => "log_prob",
        }
    }

    /// Its unit: nats for logits and logarithms, 1 for probabilities.
    pub fn unit(self) -> &'static str {
        match self {
            Self::LogitDiff | Self::LogProb => "nats",
            Self::ProbDiff | Self::Prob => "1",
        }
    }

    /// Whether it looks at the wrong answers.
    pub fn needs_wrong(self) -> bool {
        matches!(self, Self::LogitDiff | Self::ProbDiff)
    }

    /// The metric of each prompt: logits `[prompts, vocabulary]` to `[prompts]`. It can be differentiated.
    pub fn of<C: Compute>(self, logits: Tensor<C, 2>, answers: &Answers) -> Tensor<C, 1> {
        let [prompts, vocabulary] = logits.dims();
        let weights = answers.weights(self, vocabulary);
        let weights = Tensor::<C, 2>::from_data(TensorData::new(weights, [prompts, vocabulary]), &logits.device());
        let scores = match self {
            Self::LogitDiff => logits,
            Self::ProbDiff | Self::Prob | Self::LogProb => softmax(logits, 1),
        };
        let value = (scores * weights).sum_dim(1).reshape([prompts]);
        if self == Self::LogProb { value.log() } else { value }
    }

    /// [`Self::of`], on the host.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn values<C: Compute>(self, logits: Tensor<C, 2>, answers: &Answers) -> Result<Vec<f64>> {
        let values = self.of(logits, answers).into_data().into_vec::<f32>();
        let values = values.map_err(|error| Error::Data(format!("the metric cannot be read: {error:?}")))?;
        Ok(values.into_iter().map(f64::from).collect())
    }
}

/// Right and wrong tokens of some prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    right: Vec<Vec<i32>>,
    wrong: Vec<Vec<i32>>,
}

impl Answers {
    /// Those of these prompts.
    pub fn of<'v>(versions: impl Iterator<Item = &'v Version> + Clone) -> Self {
        Self {
            right: versions.clone().map(|version| version.right.clone()).collect(),
            wrong: versions.map(|version| version.wrong.clone()).collect(),
        }
    }

    /// Right tokens of each prompt.
    pub fn right(&self) -> &[Vec<i32>] {
        &self.right
    }

    /// Wrong tokens of each prompt.
    pub fn wrong(&self) -> &[Vec<i32>] {
        &self.wrong
    }

    /// What each token counts for, `[prompts, vocabulary]`.
    pub fn weights(&self, metric: Metric, vocabulary: usize) -> Vec<f32> {
        let mut weights = vec![0.0; self.right.len() * vocabulary];
        let share = |tokens: &[i32]| if metric == Metric::LogitDiff { 1.0 / tokens.len() as f32 } else { 1.0 };
        for ((row, right), wrong) in weights.chunks_exact_mut(vocabulary).zip(&self.right).zip(&self.wrong) {
            right.iter().for_each(|&token| row[token as usize] += share(right));
            if metric.needs_wrong() {
                wrong.iter().for_each(|&token| row[token as usize] -= share(wrong));
            }
        }
        weights
    }
}
