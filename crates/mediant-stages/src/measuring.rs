//! What the stages that measure effects on prompts do alike: their ports and outputs, whether model and prompts fit together,
//! and all of a run that is not the method itself.

use std::collections::BTreeMap;

use mediant_artifact::{Artifact, Contrast, Facts, Kind, Mediator, ModelFacts, PromptsMeta, SearchFacts, read_prompts};
use mediant_engine::{InputFacts, Output, Port, Ports, Problems, Resources, RunContext, StageError};
use mediant_methods::{About, Metric, Pairs, Recorder};

use crate::model_input::loaded_facts;
use crate::prompts_input::{check_any_counterfactual, check_counterfactual, check_prompts};
use crate::searched::searched;

/// The model.
pub(crate) const MODEL: Port = Port::one("model", &[Kind::Model], "The model.");

/// The prompts.
pub(crate) const PROMPTS: Port =
    Port::one("prompts", &[Kind::Prompts], "Prompts made with the model's tokenizer, of `build_prompts`.");

/// The ports of a stage that takes nothing else.
pub(crate) const PORTS: Ports = Ports::Fixed(&[MODEL, PROMPTS]);

/// What such a stage needs: its passes fill every core.
pub(crate) const RESOURCES: Resources = Resources::all_cpus();

/// The outputs of such a stage.
pub(crate) fn outputs() -> Vec<Output> {
    vec![
        Output::new("scores", Kind::Scores, "A score a mediator, with its numerator, denominator and interval."),
        Output::new(
            "effects",
            Kind::Effects,
            "A row an example and mediator: clean, counterfactual and patched value.",
        ),
    ]
}

/// The facts of [`outputs`], unless something is wrong.
pub(crate) fn facts(problems: Problems) -> Result<Vec<(String, Facts)>, Problems> {
    facts_of(problems, None)
}

/// The same of a search that can be named when planning.
pub(crate) fn facts_of(problems: Problems, search: Option<SearchFacts>) -> Result<Vec<(String, Facts)>, Problems> {
    problems.finish()?;
    Ok(vec![("scores".to_owned(), Facts::Scores(search)), ("effects".to_owned(), Facts::Effects(None))])
}

/// What is asked of every prompt.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// What is measured of the answer.
    pub(crate) metric: Metric,
    /// What the prompt is compared with.
    pub(crate) counterfactual: Counterfactual<'a>,
    /// Of the bootstrap.
    pub(crate) seed: u64,
}

/// Which counterfactual of the prompts is meant.
#[derive(Clone, Copy)]
pub(crate) enum Counterfactual<'a> {
    /// None: the method compares with something else.
    None,
    /// The first.
    First,
    /// The one that an option names.
    Named { field: &'static str, name: &'a str },
}

impl<'a> Counterfactual<'a> {
    /// That of the option `field`, which may be left out.
    pub(crate) fn of(field: &'static str, name: Option<&'a str>) -> Self {
        name.map_or(Self::First, |name| Self::Named { field, name })
    }
}

impl Asked<'_> {
    /// What keeps the model from reading the prompts, and what is asked for that the prompts do not have.
    pub(crate) fn check(self, inputs: &InputFacts) -> Problems {
        self.check_models("model", inputs)
    }

    /// The same for every model at a port.
    pub(crate) fn check_models(self, port: &str, inputs: &InputFacts) -> Problems {
        let mut problems = Problems::none();
        problems.check(check_prompts(port, inputs));
        problems.check(match self.counterfactual {
            Counterfactual::None => Ok(()),
            Counterfactual::First => check_any_counterfactual(inputs),
            Counterfactual::Named { field, name } => check_counterfactual(field, name, inputs),
        });
        if self.metric.needs_wrong() && inputs.prompts("prompts").is_some_and(|prompts| prompts.wrong == Some(false)) {
            problems.push(Problems::config("metric", self.needs_wrong()).help("use `prob` or `log_prob`"));
        }
        problems
    }

    fn needs_wrong(self) -> String {
        format!("`{}` needs wrong answers, and these prompts have none", self.metric.name())
    }

    /// Opens model and prompts. `method` is the stage's name.
    pub(crate) fn open<'r, C>(
        self,
        cx: &'r RunContext<'r, C>,
        method: &'static str,
    ) -> Result<Measuring<'r, C>, StageError> {
        let model = cx.input("model")?;
        let (pairs, counterfactual) = self.pairs(cx)?;
        Ok(Measuring {
            facts: loaded_facts(&model)?,
            model,
            pairs,
            counterfactual,
            metric: self.metric,
            seed: self.seed,
            method,
            cx,
        })
    }

    /// The prompts beside the counterfactual that is meant, with its name.
    pub(crate) fn pairs<C>(self, cx: &RunContext<'_, C>) -> Result<(Pairs, Option<String>), StageError> {
        let prompts = cx.input("prompts")?;
        if self.metric.needs_wrong() && !prompts.meta::<PromptsMeta>()?.wrong {
            return Err(StageError::new(self.needs_wrong()));
        }
        let (meta, prompts) = read_prompts(&prompts)?;
        let index = match self.counterfactual {
            Counterfactual::None => None,
            Counterfactual::First => Some(0),
            Counterfactual::Named { name, .. } => {
                let index = meta.counterfactuals.iter().position(|known| known == name);
                Some(index.ok_or_else(|| {
                    let known = meta.counterfactuals.join(", ");
                    StageError::new(format!("the prompts have no counterfactual `{name}`; they have {known}"))
                })?)
            }
        };
        let name = index.and_then(|index| meta.counterfactuals.get(index).cloned());
        Ok((Pairs::new(prompts, index)?, name))
    }
}

/// A run: model and prompts as they were read, and where the effects go.
pub(crate) struct Measuring<'r, C> {
    /// The model, not loaded.
    pub(crate) model: Artifact,
    /// What is known of it.
    pub(crate) facts: ModelFacts,
    /// The prompts beside their counterfactuals.
    pub(crate) pairs: Pairs,
    /// Name of what stands as `counterfactual` in the effects.
    pub(crate) counterfactual: Option<String>,
    /// What is measured of the answer.
    pub(crate) metric: Metric,
    seed: u64,
    method: &'static str,
    cx: &'r RunContext<'r, C>,
}

impl<C> Measuring<'_, C> {
    /// Begins the effects of these mediators, which are searched here. `settings` are whatever else another run needs to be comparable.
    pub(crate) fn recorder<'s>(
        &self,
        contrast: Contrast,
        settings: impl IntoIterator<Item = (&'s str, String)>,
        mediators: Vec<Mediator>,
    ) -> Result<Recorder, StageError> {
        self.recorder_of_found(contrast, searched(self.cx)?.into_iter().chain(settings), mediators)
    }

    /// The same for mediators that were found elsewhere.
    pub(crate) fn recorder_of_found<'s>(
        &self,
        contrast: Contrast,
        settings: impl IntoIterator<Item = (&'s str, String)>,
        mediators: Vec<Mediator>,
    ) -> Result<Recorder, StageError> {
        let about = About {
            method: self.method,
            metric: self.metric,
            contrast,
            counterfactual: self.counterfactual.clone(),
            model: self.cx.input_digest("model")?,
            prompts: self.cx.input_digest("prompts")?,
            settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
            seed: self.seed,
        };
        Ok(Recorder::new(self.cx.output("effects")?, about, &self.pairs.examples(), mediators)?)
    }

    /// Tells how many prompts of how many are done, and stops where the run is being cancelled.
    pub(crate) fn progress(&self) -> impl FnMut(usize, usize) -> Result<(), StageError> {
        |done, total| {
            self.cx.progress(done as u64, total as u64, "prompts");
            self.cx.check_cancelled()
        }
    }

    /// Writes the scores of what was recorded.
    pub(crate) fn finish(&self, recorder: Recorder) -> Result<(), StageError> {
        let scores = recorder.finish(self.cx.output("scores")?)?;
        let without = scores.iter().filter(|score| score.value.is_nan()).count();
        if without > 0 {
            let all = scores.len();
            self.cx.note(format!(
                "{without} of {all} scores are NaN: their denominator is 0. Do the prompts differ from what they are compared with?"
            ));
        }
        Ok(())
    }
}
