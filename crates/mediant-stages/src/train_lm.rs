//! `train_lm`: a GPT-2 from scratch.

mod run;

use mediant_artifact::{Facts, Kind, ModelFacts, ModelTokenizer};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::train::{Gpt2Shape, Start, Training, gpt2_config};
use mediant_lm::{LmConfig, model_facts};
use mediant_tensor::optim::Adam;
use mediant_tensor::schedule::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::table_facts;
use crate::lm_training::{CURVE, check_length, check_step, outputs, training_memory};
use crate::model_input::check_some;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainLm;

/// Options of `train_lm`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Number of blocks.
    n_layers: usize,
    /// Width of the residual stream.
    d_model: usize,
    /// Attention heads; divides `d_model`.
    n_heads: usize,
    /// Width of the MLP's hidden layer; 4 · `d_model` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d_mlp: Option<usize>,
    /// Longest sequence of the model, in tokens; that of the training rows if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<usize>,
    /// Rows of the embedding; as many as the tokens' vocabulary has if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
    /// Use the embedding as unembedding.
    #[serde(default = "yes")]
    tie_embeddings: bool,
    /// Optimiser steps. Give `steps` or `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    /// Tokens to train on, in full rows: rounded up to whole steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    /// Rows in a forward pass.
    batch: usize,
    /// Forward passes in a step: a step sees `batch` · `accumulate` rows.
    #[serde(default = "one")]
    accumulate: usize,
    /// Highest learning rate.
    lr: f64,
    /// Learning rate at the end; a tenth of `lr` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_lr: Option<f64>,
    /// Steps in which the learning rate rises.
    #[serde(default = "hundred")]
    warmup: u64,
    /// AdamW's weight decay, on matrices alone.
    #[serde(default = "decay")]
    weight_decay: f64,
    /// Decay of Adam's two moments.
    #[serde(default = "betas")]
    betas: [f64; 2],
    /// Largest 2-norm of all gradients together; 0 for no clipping.
    #[serde(default = "unit")]
    clip: f64,
    /// Standard deviation of initial weights. GPT-2's 0.02 suits wide models; 1/√`d_model` keeps a narrow one's activations at its scale.
    #[serde(default = "init_std")]
    init_std: f64,
    /// What the embeddings of positions begin as; they are trained in either case.
    #[serde(default)]
    init_positions: InitPositions,
    /// Dropout on the embeddings and on what attention and MLP add to the residual stream, at least 0 and below 1.
    #[serde(default)]
    dropout: f64,
    /// Steps after which the model is also kept, as `checkpoints[step=N]`; 0 is the initial model.
    #[serde(default)]
    checkpoints: Vec<u64>,
    /// Steps between two measurements of the loss on `test`; it is always measured at the end.
    #[serde(default = "hundred")]
    test_every: u64,
    /// Of initial weights, order of the data and dropout.
    #[serde(default)]
    seed: u64,
}

/// Initial embeddings of positions.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum InitPositions {
    /// From N(0, `init_std`²), as in GPT-2.
    #[default]
    Normal,
    /// Sines and cosines (Vaswani et al. 2017), so that attention to a fixed distance need not be learned for each position.
    Sinusoidal,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn hundred() -> u64 {
    100
}

fn decay() -> f64 {
    0.1
}

fn betas() -> [f64; 2] {
    [0.9, 0.95]
}

fn unit() -> f64 {
    1.0
}

fn init_std() -> f64 {
    0.02
}

const PORTS: &[Port] = &[
    Port::one("tokens", &[Kind::Tokens], "Rows to learn from."),
    Port::optional("test", &[Kind::Tokens], "Rows whose loss is measured now and then."),
    Port::optional("tokenizer", &[Kind::Tokenizer], "The tokenizer of the tokens, to go with the model."),
];

impl Stage for TrainLm {
    type Config = Config;
    const NAME: &'static str = "train_lm";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Trains a GPT-2 from scratch on rows of tokens",
            details: DETAILS,
            example: "model:\n  uses: train_lm\n  inputs: { tokens: tokens.train, test: tokens.test, tokenizer: tokenizer }\n  with: { n_layers: 4, d_model: 128, n_heads: 4, steps: 4000, batch: 32, lr: 2e-3, checkpoints: [1000, 4000] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, config: &Config) -> Vec<Output> {
        outputs("Loss, learning rate and gradient norm of every step.", None, &config.checkpoints)
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let facts = infer_model(config, inputs)?;
        let mut all =
            vec![("model".to_owned(), Facts::Model(facts.clone())), ("curve".to_owned(), table_facts(&CURVE))];
        if !config.checkpoints.is_empty() {
            all.push(("checkpoints".to_owned(), Facts::Model(facts)));
        }
        Ok(all)
    }

    fn resources(&self, config: &Config, inputs: &InputFacts) -> Resources {
        let Ok(model) = infer_model(config, inputs) else {
            return Resources::all_cpus();
        };
        Resources { memory: training_memory(&model, config.batch, model.context), ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        run::run(cx)
    }
}

/// What is known of the model before it is trained.
fn infer_model(config: &Config, inputs: &InputFacts) -> Result<ModelFacts, Problems> {
    let (Some(tokens), tokenizer) = (inputs.tokens("tokens"), inputs.tokenizer("tokenizer")) else {
        return Err(Problems::input("tokens", "there are no tokens to learn from"));
    };
    let mut problems = Problems::none();
    for port in ["tokens", "test"] {
        problems.check(check_some(inputs, port));
    }
    let known = tokens.vocab_size.or(tokenizer.map(|tokenizer| tokenizer.vocab_size));
    let vocab_size = match (config.vocab_size, known) {
        (Some(asked), Some(known)) if asked < known => {
            let message = format!("the tokens' vocabulary has {known} tokens");
            problems.push(Problems::config("vocab_size", message).help(format!("at least {known}")));
            asked
        }
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => {
            let problem = Problems::input("tokens", "the size of their vocabulary is not known yet");
            return Err(problem.help("say it: `vocab_size:`, or connect `tokenizer`"));
        }
    };
    let context = config.context.unwrap_or(tokens.context);
    if context < tokens.context {
        let message = format!("the training rows have up to {} tokens", tokens.context);
        problems.push(Problems::config("context", message).help(format!("at least {}", tokens.context)));
    }
    if let Some(test) = inputs.tokens("test").filter(|test| test.context > context) {
        let message = format!("rows may have {} tokens, but the model's context is {context}", test.context);
        problems.push(Problems::input("test", message));
    }
    let digest = tokenizer.and_then(|tokenizer| tokenizer.digest);
    for port in ["tokens", "test"] {
        if let (Some(theirs), Some(own)) = (inputs.tokens(port).and_then(|tokens| tokens.tokenizer), digest)
            && theirs != own
        {
            let message = format!("made by the tokenizer {}, but {} is connected", theirs.short(), own.short());
            problems.push(Problems::input(port, message));
        }
    }
    problems.check(check_step("", config.batch, config.accumulate, tokens.context));
    let steps = config.step_count(tokens.context);
    for (i, step) in config.checkpoints.iter().enumerate().filter(|(_, step)| **step > steps) {
        let message = format!("step {step} lies after the last, which is {steps}");
        problems.push(Problems::config(format!("checkpoints[{i}]"), message));
    }
    if config.warmup >= steps {
        problems.push(Problems::config(
            "warmup",
            format!("the warmup of {} steps is as long as the whole training", config.warmup),
        ));
    }
    let carried = match (tokenizer, digest.or(tokens.tokenizer)) {
        (None, _) => ModelTokenizer::Absent,
        (Some(_), None) => ModelTokenizer::Unknown,
        (Some(_), Some(digest)) => ModelTokenizer::Known(digest),
    };
    match config.model(vocab_size, context, None, None).1 {
        Ok(lm) => problems.finish().map(|()| model_facts(&lm, carried)),
        Err(error) => {
            problems.push(Problems::config("", error.to_string()));
            Err(problems)
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let mut wrong = |option: &str, message: &str| problems.push(Problems::config(option, message));
        match (self.steps, self.tokens) {
            (Some(_), Some(_)) => wrong("tokens", "`steps` is given too; one of them says how long to train"),
            (None, None) => wrong("", "neither `steps` nor `tokens` says how long to train"),
            (Some(0), _) => wrong("steps", "must be at least 1"),
            (_, Some(0)) => wrong("tokens", "must be at least 1"),
            _ => {}
        }
        problems.check(check_length("", self.steps, self.tokens));
        let mut wrong = |option: &str, message: &str| problems.push(Problems::config(option, message));
        if self.batch == 0 {
            wrong("batch", "must be at least 1");
        }
        if self.accumulate == 0 {
            wrong("accumulate", "must be at least 1");
        }
        if self.test_every == 0 {
            wrong("test_every", "must be at least 1");
        }
        // Conditions that NaN does not meet.
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            wrong("lr", "must be a positive number");
        }
        if self.min_lr.is_some_and(|min| !(0.0..=self.lr).contains(&min)) {
            wrong("min_lr", "must be at least 0 and at most `lr`");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            wrong("weight_decay", "must not be negative");
        }
        for (i, beta) in self.betas.iter().enumerate() {
            if !(0.0..1.0).contains(beta) {
                wrong(&format!("betas[{i}]"), "must be at least 0 and below 1");
            }
        }
        if !(self.clip >= 0.0 && self.clip.is_finite()) {
            wrong("clip", "must not be negative");
        }
        if !(self.init_std > 0.0 && self.init_std <= 1.0) {
            wrong("init_std", "must be above 0 and at most 1");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            wrong("dropout", "must be at least 0 and below 1");
        }
        for (i, step) in self.checkpoints.iter().enumerate() {
            if self.checkpoints[..i].contains(step) {
                wrong(&format!("checkpoints[{i}]"), "is there twice");
            }
        }
        problems.finish()
    }

    /// The `config.json` of the model and what it says, or why such a model cannot be.
    fn model(
        &self,
        vocab_size: usize,
        context: usize,
        bos: Option<u32>,
        eos: Option<u32>,
    ) -> (serde_json::Value, Result<LmConfig, mediant_lm::Error>) {
        let shape = Gpt2Shape {
            n_layers: self.n_layers,
            d_model: self.d_model,
            n_heads: self.n_heads,
            d_mlp: self.d_mlp.unwrap_or(self.d_model.saturating_mul(4)),
            vocab_size,
            context,
            tied: self.tie_embeddings,
        };
        let json = gpt2_config(&shape, bos, eos, self.dropout, self.init_std);
        let config = LmConfig::from_json(&json);
        (json, config)
    }

    /// Steps, given how long the rows are.
    fn step_count(&self, context: usize) -> u64 {
        let per_step = (self.batch.saturating_mul(self.accumulate).saturating_mul(context)) as u64;
        self.steps.unwrap_or_else(|| self.tokens.unwrap_or(0).div_ceil(per_step.max(1)))
    }

    fn training(&self, steps: u64) -> Training {
        Training {
            seed: self.seed,
            batch: self.batch,
            accumulate: self.accumulate,
            schedule: Schedule::WarmupCosine {
                lr: self.lr,
                floor: self.min_lr.unwrap_or(self.lr / 10.0),
                warmup: self.warmup,
                steps,
            },
            adam: Adam {
                betas: (self.betas[0], self.betas[1]),
                weight_decay: self.weight_decay,
                decoupled: true,
                ..Adam::default()
            },
            clip: (self.clip > 0.0).then_some(self.clip),
            dropout: self.dropout as f32,
        }
    }

    fn start(&self) -> Start {
        Start { std: self.init_std, sinusoidal: self.init_positions == InitPositions::Sinusoidal }
    }
}

const DETAILS: &str = "\
The architecture is GPT-2's (Radford et al. 2019): learned positions, LayerNorm before attention and MLP (eps 1e-5), biases, `gelu_new`; \
the result is in the Hugging Face layout. Recipe and defaults are nanoGPT's.

**Start.** Weights and embeddings from N(0, `init_std`²), the two projections of each block into the residual stream from \
N(0, (`init_std` / √(2 · `n_layers`))²); biases 0, gains 1. With `init_positions: sinusoidal` the embeddings of positions begin as sines and cosines at \
wavelengths from 2π to 10000·2π (Vaswani et al. 2017, §3.5) with a mean square of `init_std`².

**Loss.** Mean cross-entropy, in nats, of every token but the first of its row, given those before it; tokens whose mask is false (BOS, \
separators) are read and not predicted. The mean is over all predicted tokens of the step, whatever `accumulate` is.

**Step.** Gradients `g` are scaled by `min(1, clip / ‖g‖)`, with the 2-norm over all parameters together. AdamW \
(Loshchilov & Hutter 2019): `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, \
`w ← (1 − lr·weight_decay)·w − lr · m̂ / (√v̂ + 1e-8)` with `m̂ = m/(1−β₁ᵗ)`, `v̂ = v/(1−β₂ᵗ)`; the decay is for matrices (embeddings \
included), not for gains and biases. The learning rate of step t = 0, 1, … is `lr · (t+1)/(warmup+1)` during `warmup`, then \
`min_lr + ½(1 + cos(π (t−warmup)/(steps−warmup)))(lr − min_lr)`.

**Order.** Every pass over the rows has a random order of its own; batches run from one pass into the next. Order, initial weights and \
dropout come from separate streams of `seed`.

An interrupted training goes on from its last checkpoint and gives the same bytes; so does any number of threads. A loss that is not a \
finite number ends the stage with the step's number.";
