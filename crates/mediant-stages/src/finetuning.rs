//! What the stages that train a given model further share: presets, options, checks.

use mediant_artifact::{Artifact, Kind, ModelFacts, ModelReader, NormFacts, Processing, Tokens};
use mediant_engine::{InputFacts, Port, Problems, Resources, RunContext, StageError};
use mediant_lm::train::Training;
use mediant_tensor::optim::Adam;
use mediant_tensor::schedule::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lm_training::{Course, SavedWith, check_length, check_step, training_memory};
use crate::model_input::check_tokens;

pub(crate) const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model to begin with."),
    Port::one("tokens", &[Kind::Tokens], "Rows to learn from."),
    Port::optional("test", &[Kind::Tokens], "Rows whose loss is measured now and then."),
];

/// Where defaults come from.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    /// Fitted to the model's depth and the number of steps.
    #[default]
    Scaled,
    /// As published for GPT-2 small (124 million parameters).
    Gpt2Small,
    /// As published for GPT-2 medium (355 million).
    Gpt2Medium,
    /// As published for GPT-2 large (774 million).
    Gpt2Large,
    /// As published for GPT-2 XL (1.5 billion).
    Gpt2Xl,
}

/// The training of a published model.
pub(crate) struct Published {
    pub(crate) steps: u64,
    pub(crate) batch: usize,
    pub(crate) accumulate: usize,
    pub(crate) lr: f64,
    pub(crate) min_lr: f64,
    pub(crate) warmup: u64,
}

impl Preset {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Baroni et al. 2025's `config.py`, by the number of layers of the model.
    pub(crate) fn published(self) -> Option<(usize, Published)> {
        let (layers, steps, batch, accumulate, lr, min_lr, warmup) = match self {
            Self::Scaled => return None,
            Self::Gpt2Small => (12, 300, 32, 16, 6e-4, 3e-4, 25),
            Self::Gpt2Medium => (24, 500, 22, 23, 6e-4, 3e-4, 10),
            Self::Gpt2Large => (36, 1200, 28, 18, 3e-4, 4e-5, 15),
            Self::Gpt2Xl => (48, 1200, 18, 28, 1e-4, 2e-5, 20),
        };
        Some((layers, Published { steps, batch, accumulate, lr, min_lr, warmup }))
    }
}

/// Length, batch and optimiser of a training. What is absent comes from `preset`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrainingOptions {
    /// Optimiser steps. Give `steps` or `tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    /// Tokens to train on, in full rows: rounded up to whole steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    /// Rows in a forward pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    /// Forward passes in a step: a step sees `batch` · `accumulate` rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    accumulate: Option<usize>,
    /// Highest learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// Learning rate at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_lr: Option<f64>,
    /// Steps in which the learning rate rises.
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup: Option<u64>,
    /// AdamW's weight decay, on matrices alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_decay: Option<f64>,
    /// Decay of Adam's two moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    betas: Option<[f64; 2]>,
    /// Largest 2-norm of all gradients together; 0 for no clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    clip: Option<f64>,
    /// Dropout on the embeddings and on what attention and MLP add to the residual stream, at least 0 and below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
}

/// A training with nothing left open.
pub(crate) struct Recipe {
    pub(crate) steps: u64,
    pub(crate) training: Training,
}

impl TrainingOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self, preset: Preset) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let mut wrong =
            |option: &str, message: &str| problems.push(Problems::config(format!("training.{option}"), message));
        match (self.steps, self.tokens) {
            (Some(_), Some(_)) => wrong("tokens", "`steps` is given too; one of them says how long to train"),
            (Some(0), _) => wrong("steps", "must be at least 1"),
            (_, Some(0)) => wrong("tokens", "must be at least 1"),
            _ => {}
        }
        problems.check(check_length("training.", self.steps, self.tokens));
        let mut wrong =
            |option: &str, message: &str| problems.push(Problems::config(format!("training.{option}"), message));
        if self.batch == Some(0) {
            wrong("batch", "must be at least 1");
        }
        if self.accumulate == Some(0) {
            wrong("accumulate", "must be at least 1");
        }
        // Conditions that NaN does not meet.
        if self.lr.is_some_and(|lr| !(lr > 0.0 && lr.is_finite())) {
            wrong("lr", "must be a positive number");
        }
        if self.min_lr.is_some_and(|min| !(0.0..=self.rates(preset).0).contains(&min)) {
            wrong("min_lr", "must be at least 0 and at most `lr`");
        }
        if self.weight_decay.is_some_and(|decay| !(decay >= 0.0 && decay.is_finite())) {
            wrong("weight_decay", "must not be negative");
        }
        for (i, beta) in self.betas.iter().flatten().enumerate() {
            if !(0.0..1.0).contains(beta) {
                wrong(&format!("betas[{i}]"), "must be at least 0 and below 1");
            }
        }
        if self.clip.is_some_and(|clip| !(clip >= 0.0 && clip.is_finite())) {
            wrong("clip", "must not be negative");
        }
        if self.dropout.is_some_and(|dropout| !(0.0..1.0).contains(&dropout)) {
            wrong("dropout", "must be at least 0 and below 1");
        }
        if preset.published().is_none() {
            let mut needed = |given: bool, message: &str| {
                if !given {
                    problems.push(Problems::config("training", message));
                }
            };
            needed(
                self.steps.is_some() || self.tokens.is_some(),
                "neither `steps` nor `tokens` says how long to train",
            );
            needed(self.batch.is_some(), "`batch` is missing: how many rows are in a forward pass");
        }
        problems.finish()
    }

    /// Highest and last learning rate. A highest one of the user's takes the last along.
    fn rates(&self, preset: Preset) -> (f64, f64) {
        let (highest, last) = preset.published().map_or((6e-4, 3e-4), |(_, of)| (of.lr, of.min_lr));
        let lr = self.lr.unwrap_or(highest);
        (lr, self.min_lr.unwrap_or(lr * last / highest))
    }

    /// The whole training, for rows of `context` tokens.
    pub(crate) fn recipe(&self, preset: Preset, context: usize, seed: u64) -> Recipe {
        let published = preset.published().map(|(_, of)| of);
        let batch = self.batch.or(published.as_ref().map(|of| of.batch)).unwrap_or(1);
        let accumulate = self.accumulate.or(published.as_ref().map(|of| of.accumulate)).unwrap_or(1);
        let per_step = (batch.saturating_mul(accumulate).saturating_mul(context)).max(1) as u64;
        let steps = match (self.steps, self.tokens) {
            (Some(steps), _) => steps,
            (None, Some(tokens)) => tokens.div_ceil(per_step),
            (None, None) => published.as_ref().map_or(1, |of| of.steps),
        };
        let (lr, floor) = self.rates(preset);
        let warmup = self.warmup.or(published.as_ref().map(|of| of.warmup)).unwrap_or(steps / 12);
        let betas = self.betas.unwrap_or([0.9, 0.999]);
        let training = Training {
            seed,
            batch,
            accumulate,
            schedule: Schedule::WarmupCosine { lr, floor, warmup, steps },
            adam: Adam {
                betas: (betas[0], betas[1]),
                weight_decay: self.weight_decay.unwrap_or(0.01),
                decoupled: true,
                ..Adam::default()
            },
            clip: Some(self.clip.unwrap_or(1.0)).filter(|clip| *clip > 0.0),
            dropout: self.dropout.unwrap_or(if published.is_some() { 0.1 } else { 0.0 }) as f32,
        };
        Recipe { steps, training }
    }
}

/// What a training of a given model reads.
pub(crate) struct Inputs {
    pub(crate) model: Artifact,
    pub(crate) tokens: Tokens,
    test: Option<Tokens>,
    saved_with: SavedWith,
}

impl Inputs {
    pub(crate) fn read<K>(cx: &RunContext<'_, K>) -> Result<Self, StageError> {
        let model = cx.input("model")?;
        Ok(Self {
            saved_with: SavedWith::of(&ModelReader::open(&model)?),
            model,
            tokens: Tokens::read(&cx.input("tokens")?)?,
            test: cx.optional("test")?.map(|test| Tokens::read(&test)).transpose()?,
        })
    }

    pub(crate) fn course<'a>(&'a self, recipe: &Recipe, checkpoints: &'a [u64], test_every: u64) -> Course<'a> {
        let rows = recipe.training.batch * recipe.training.accumulate;
        Course {
            steps: recipe.steps,
            tokens_per_step: (rows * self.tokens.meta.context) as u64,
            checkpoints,
            test_every,
            test: self.test.as_ref(),
            saved_with: &self.saved_with,
        }
    }
}

/// Options that hold for steps of the training.
pub(crate) fn check_steps(checkpoints: &[u64], test_every: u64) -> Result<(), Problems> {
    let mut problems = Problems::none();
    if test_every == 0 {
        problems.push(Problems::config("test_every", "must be at least 1"));
    }
    for (i, step) in checkpoints.iter().enumerate() {
        if checkpoints[..i].contains(step) {
            problems.push(Problems::config(format!("checkpoints[{i}]"), "is there twice"));
        }
    }
    problems.finish()
}

/// What must hold of the inputs, and of the size of the training over them; the model's facts.
pub(crate) fn check_inputs<'i>(
    inputs: &'i InputFacts,
    recipe: &Recipe,
    checkpoints: &[u64],
) -> Result<&'i ModelFacts, Problems> {
    let mut problems = Problems::none();
    let Some(model) = inputs.model("model") else {
        return Err(Problems::input("model", "there is no model to begin with"));
    };
    problems.check(check_tokens(inputs, "model", "tokens"));
    problems.check(check_tokens(inputs, "model", "test"));
    if let Some(tokens) = inputs.tokens("tokens") {
        let Training { batch, accumulate, .. } = recipe.training;
        problems.check(check_step("training.", batch, accumulate, tokens.context));
    }
    if model.norms == NormFacts::Absent {
        let why = "the norms of this model are part of its weights";
        problems.push(Problems::input("model", why).help("train the model as it was before they were"));
    } else if model.processing != Processing::default() {
        let why = "the weights of this model were processed, which a training would undo";
        problems.push(Problems::input("model", why).help("train the model of a `load_model` without `processing`"));
    }
    let steps = recipe.steps;
    for (i, step) in checkpoints.iter().enumerate().filter(|(_, step)| **step > steps) {
        let message = format!("step {step} lies after the last, which is {steps}");
        problems.push(Problems::config(format!("checkpoints[{i}]"), message));
    }
    match recipe.training.schedule {
        Schedule::WarmupCosine { warmup, .. } if warmup >= steps => {
            let message = format!("the warmup of {warmup} steps is as long as the whole training");
            problems.push(Problems::config("training.warmup", message));
        }
        _ => {}
    }
    problems.finish().map(|()| model)
}

/// What a training of this model needs.
pub(crate) fn resources(inputs: &InputFacts, recipe: &Recipe) -> Resources {
    let (Some(model), Some(tokens)) = (inputs.model("model"), inputs.tokens("tokens")) else {
        return Resources::all_cpus();
    };
    Resources { memory: training_memory(model, recipe.training.batch, tokens.context), ..Resources::all_cpus() }
}

/// `details` of a stage's docs, with what it shares with the other.
macro_rules! with_recipe {
    ($details:literal) => {
        concat!(
            $details,
            "

**Training.** The loss is the mean cross-entropy, in nats, of every token but the first of its row, given those before it; tokens whose mask is \
false (BOS, separators) are read and not predicted. Gradients `g` are scaled by `min(1, clip / ‖g‖)`, with the 2-norm over all parameters together. \
AdamW (Loshchilov & Hutter 2019) with `eps` 1e-8; the decay is for matrices (embeddings included), not for gains and biases. The learning rate of step t = 0, 1, … is \
`lr · (t+1)/(warmup+1)` during `warmup`, then `min_lr + ½(1 + cos(π (t−warmup)/(steps−warmup)))(lr − min_lr)`. Dropout is on the sum of the embeddings and on what \
attention and MLP add to the residual stream, not on attention patterns. Every pass over the rows has a random order of its own; order and dropout come from separate \
streams of `seed`. An interrupted training goes on from its last checkpoint and gives the same bytes; so does any number of threads.

| `preset` | steps | batch · accumulate | lr → min_lr | warmup | dropout |
| --- | --- | --- | --- | --- | --- |
| `scaled` | given | given · 1 | 6e-4 → 3e-4 | steps / 12 | 0 |
| `gpt2-small` | 300 | 32 · 16 | 6e-4 → 3e-4 | 25 | 0.1 |
| `gpt2-medium` | 500 | 22 · 23 | 6e-4 → 3e-4 | 10 | 0.1 |
| `gpt2-large` | 1,200 | 28 · 18 | 3e-4 → 4e-5 | 15 | 0.1 |
| `gpt2-xl` | 1,200 | 18 · 28 | 1e-4 → 2e-5 | 20 | 0.1 |

All have `betas` 0.9 and 0.999, `weight_decay` 0.01, `clip` 1; an `lr` of one's own takes the preset's `min_lr` along in proportion. The rows of `gpt2-*` are \
meant to have 1,024 tokens. Published models: small and medium after the last step, large after 600, XL after 800."
        )
    };
}
pub(crate) use with_recipe;
