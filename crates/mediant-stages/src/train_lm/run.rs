//! What `train_lm` trains on, and what with.

use mediant_artifact::{TokenizerReader, Tokens};
use mediant_engine::{RunContext, StageError};
use mediant_lm::LmConfig;
use mediant_lm::train::Trainer;
use mediant_tensor::{Compute, on_device};

use super::Config;
use crate::device::compute_device;
use crate::lm_training::{Course, Run, SavedWith, curve_columns, write_curve};

pub(super) fn run(cx: &RunContext<'_, Config>) -> Result<(), StageError> {
    let inputs = Inputs::read(cx)?;
    on_device!(compute_device(cx.device()), C, device => train::<C>(cx, &inputs, device))
}

struct Inputs {
    tokens: Tokens,
    test: Option<Tokens>,
    saved_with: SavedWith,
}

impl Inputs {
    fn read(cx: &RunContext<'_, Config>) -> Result<Self, StageError> {
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let test = cx.optional("test")?.map(|test| Tokens::read(&test)).transpose()?;
        let tokenizer = cx.optional("tokenizer")?.map(|artifact| TokenizerReader::open(&artifact)).transpose()?;
        let files = tokenizer.iter().flat_map(|tokenizer| {
            let file = |name: &str| Some((name.to_owned(), tokenizer.files.get(name)?.to_vec()));
            tokenizer.files.names().filter_map(file)
        });
        let files = files.collect();
        let meta = &tokens.meta;
        let vocab_size = cx.config().vocab_size.unwrap_or(meta.vocab_size);
        let context = cx.config().context.unwrap_or(meta.context);
        // GPT-2's own convention: one token both begins a text and ends it.
        let (bos, eos) = (meta.bos.or(meta.separator), meta.separator.or(meta.bos));
        let json = cx.config().model(vocab_size, context, bos, eos).0;
        Ok(Self { tokens, test, saved_with: SavedWith { json, files } })
    }
}

fn train<C: Compute>(cx: &RunContext<'_, Config>, inputs: &Inputs, device: C::Device) -> Result<(), StageError> {
    let options = cx.config();
    let config = LmConfig::from_json(&inputs.saved_with.json)?;
    let steps = options.step_count(inputs.tokens.meta.context);
    let rows = options.batch * options.accumulate;
    cx.note(format!(
        "{} parameters, {steps} steps of {rows} rows; {} rows are one pass",
        config.parameters(),
        inputs.tokens.len()
    ));
    let trainer = Trainer::<C>::from_scratch(config, options.start(), options.training(steps), &inputs.tokens, device)?;
    let course = Course {
        steps,
        // In full rows, which all but the last of packed rows are.
        tokens_per_step: (rows * inputs.tokens.meta.context) as u64,
        checkpoints: &options.checkpoints,
        test_every: options.test_every,
        test: inputs.test.as_ref(),
        saved_with: &inputs.saved_with,
    };
    let (_, curve) = Run::finish(cx, trainer, course)?;
    write_curve(cx, curve_columns(&curve))
}
