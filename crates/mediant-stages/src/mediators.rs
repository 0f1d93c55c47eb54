//! The options that choose what is patched or ablated.

use mediant_artifact::ModelFacts;
use mediant_engine::{InputFacts, Problems, StageError};
use mediant_lm::Positions;
use mediant_methods::{By, Pairs, Target, misfit, targets};

use crate::model_input::choose_hooks;
use crate::prompts_input::check_positions;

/// Hook points, how their activations are divided, and which positions are meant.
#[derive(Clone, Copy)]
pub(crate) struct Mediators<'a> {
    pub(crate) hooks: &'a [String],
    pub(crate) by: Option<&'a [By]>,
    pub(crate) positions: &'a Positions,
}

impl Mediators<'_> {
    /// Whether the options by themselves mean something.
    pub(crate) fn check(self) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if self.hooks.is_empty() {
            problems.push(Problems::config("hooks", "no hook point is listed"));
        }
        if let Some(by) = self.by
            && (1..by.len()).any(|i| by[..i].contains(&by[i]))
        {
            problems.push(Problems::config("by", "names something twice"));
        }
        problems.finish()
    }

    /// Whether the model has the hook points, they can be divided so, and the prompts have the span.
    pub(crate) fn check_inputs(self, inputs: &InputFacts) -> Result<(), Problems> {
        self.check_models("model", inputs)
    }

    /// The same for every model at a port.
    pub(crate) fn check_models(self, port: &str, inputs: &InputFacts) -> Result<(), Problems> {
        let mut problems = Problems::none();
        problems.check(check_positions("positions", self.positions, inputs));
        for model in inputs.many(port).iter().filter_map(|member| member.facts.model()) {
            match choose_hooks("hooks", self.hooks, model) {
                // One model says it; the others would say the same.
                Err(wrong) => {
                    problems.push(wrong);
                    break;
                }
                Ok(hooks) => {
                    if let Some(why) = misfit(self.by.unwrap_or_default(), self.positions, &hooks) {
                        problems.push(Problems::config("by", why));
                        break;
                    }
                }
            }
        }
        let no_spans = inputs.prompts("prompts").and_then(|prompts| prompts.spans.as_ref()).is_some_and(Vec::is_empty);
        if no_spans && self.by.is_some_and(|by| by.contains(&By::Span)) {
            problems.push(Problems::config("by", "the prompts have no spans"));
        }
        problems.finish()
    }

    /// The mediators, in the order of the forward pass.
    pub(crate) fn targets(self, model: &ModelFacts, pairs: &Pairs) -> Result<Vec<Target>, StageError> {
        let hooks =
            choose_hooks("hooks", self.hooks, model).map_err(|_| StageError::new("the model lacks a hook point"))?;
        Ok(targets(&hooks, self.by, self.positions, &pairs.spans(), pairs)?)
    }
}
