//! Whether every prompt answers as expected, for the comparison of what was exchanged.

use mediant_artifact::{Contrast, Effect, EffectsMeta, EffectsWriter};
use mediant_engine::{RunContext, StageError};
use mediant_methods::interchange::Outcome;
use mediant_methods::{SEARCHED_IN, SEARCHED_ON};

use super::{Config, IIA, Searched};
use crate::measuring::Measuring;

/// The answers on their way to disk.
pub(super) struct Answers {
    writer: EffectsWriter,
    meta: EffectsMeta,
    /// Forward passes over a prompt.
    passes: f64,
}

impl Answers {
    pub(super) fn new(
        cx: &RunContext<'_, Config>,
        run: &Measuring<'_, Config>,
        searched: &Searched,
    ) -> Result<Self, StageError> {
        let mediators: Vec<_> = searched.choices.iter().map(super::choice::Choice::mediator).collect();
        let mut settings = vec![
            ("mediator", searched.mediator.to_owned()),
            ("search", searched.method.clone()),
            ("search_passes", searched.passes.to_string()),
        ];
        settings.extend(searched.searched_in.clone().map(|model| (SEARCHED_IN, model)));
        settings.extend(searched.searched_on.clone().map(|prompts| (SEARCHED_ON, prompts)));
        settings.extend(searched.shuffled.clone().map(|shuffled| ("shuffled_labels", shuffled)));
        let examples = run.pairs.examples();
        let meta = EffectsMeta {
            method: "interchange".to_owned(),
            metric: IIA.to_owned(),
            unit: "1".to_owned(),
            contrast: Contrast::Mean,
            counterfactual: run.counterfactual.clone(),
            model: cx.input_digest("model")?,
            prompts: cx.input_digest("prompts")?,
            passes: 0.0,
            settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            examples: examples.len() as u64,
            mediators: mediators.len() as u64,
            effects: 0,
        };
        Ok(Self { writer: EffectsWriter::new(cx.output("answers")?, &examples, &mediators)?, meta, passes: 0.0 })
    }

    /// Takes the answers of some prompts.
    pub(super) fn add(&mut self, outcome: &Outcome<'_>) -> Result<(), StageError> {
        let one = |holds: bool| f64::from(u8::from(holds));
        for (index, prompt) in outcome.prompts.iter().enumerate().filter(|(_, prompt)| prompt.reached) {
            self.writer.push(Effect {
                example: outcome.first + index as u32,
                mediator: outcome.exchange as u32,
                clean: one(prompt.right_before),
                counterfactual: None,
                patched: one(prompt.right),
            })?;
        }
        self.passes += outcome.prompts.len() as f64 * outcome.passes;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), StageError> {
        // Both versions of every prompt run once besides.
        self.meta.passes = 2.0 + self.passes / self.meta.examples as f64;
        self.writer.finish(self.meta)?;
        Ok(())
    }
}
