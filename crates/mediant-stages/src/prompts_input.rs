//! What the stages that measure effects on prompts have in common: ports, options that name things of the prompts, outputs.

use std::collections::BTreeMap;

use mediant_artifact::{Contrast, Facts, Kind, PromptsFacts, PromptsMeta, read_prompts};
use mediant_engine::{InputFacts, Output, Port, Problems, RunContext, StageError};
use mediant_lm::Positions;
use mediant_methods::{About, Metric, Pairs};
use mediant_spec::did_you_mean;

/// The model.
pub(crate) const MODEL: Port = Port::one("model", &[Kind::Model], "The model.");

/// The prompts.
pub(crate) const PROMPTS: Port =
    Port::one("prompts", &[Kind::Prompts], "Prompts made with the model's tokenizer, of `build_prompts`.");

/// The outputs of a stage that measures effects.
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

/// The facts of [`outputs`].
pub(crate) fn output_facts() -> Vec<(String, Facts)> {
    vec![("scores".to_owned(), Facts::Scores), ("effects".to_owned(), Facts::Effects)]
}

/// Whether the model can read the prompts.
pub(crate) fn check_prompts(inputs: &InputFacts) -> Result<(), Problems> {
    let (Some(model), Some(prompts)) = (inputs.model("model"), inputs.prompts("prompts")) else {
        return Ok(());
    };
    let mut problems = Problems::none();
    if let (Some(theirs), Some(own)) = (prompts.tokenizer, model.tokenizer.digest())
        && theirs != own
    {
        let message =
            format!("these prompts were made by the tokenizer {}, the model's is {}", theirs.short(), own.short());
        problems.push(Problems::input("prompts", message).help("build the prompts with this model"));
    }
    if let Some(longest) = prompts.longest.filter(|longest| *longest > model.context) {
        let message = format!("prompts have up to {longest} tokens, but the model's context is {}", model.context);
        problems.push(Problems::input("prompts", message));
    }
    if let Some(size) = prompts.vocab_size.filter(|size| *size > model.vocab_size) {
        let message = format!("ids go up to {}, but the model's vocabulary has {} tokens", size - 1, model.vocab_size);
        problems.push(Problems::input("prompts", message));
    }
    problems.finish()
}

/// Whether the prompts have the counterfactual that `counterfactual` names, or any if it names none.
pub(crate) fn check_counterfactual(name: Option<&str>, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(prompts) = inputs.prompts("prompts") else { return Ok(()) };
    match name {
        None if prompts.counterfactuals.is_empty() => {
            Err(Problems::input("prompts", "these prompts have no counterfactual, which this method needs"))
        }
        Some(name) if !prompts.counterfactuals.iter().any(|known| known == name) => {
            let problem = Problems::config("counterfactual", format!("the prompts have no counterfactual `{name}`"));
            Err(helped(problem, name, &prompts.counterfactuals))
        }
        _ => Ok(()),
    }
}

/// Whether the prompts have the span that `positions`, the value of `field`, names.
pub(crate) fn check_positions(field: &str, positions: &Positions, inputs: &InputFacts) -> Result<(), Problems> {
    match positions.span() {
        Some(name) => check_span(field, name, inputs),
        None => Ok(()),
    }
}

/// Whether some prompt may have the positions that are listed.
pub(crate) fn check_reach(field: &str, positions: &Positions, inputs: &InputFacts) -> Result<(), Problems> {
    let longest = inputs.prompts("prompts").and_then(|prompts| prompts.longest);
    match longest.and_then(|longest| Some((longest, positions.out_of_reach(longest)?))) {
        Some((longest, (i, at))) => {
            let message = format!("no prompt has a position {at}: prompts have up to {longest} tokens");
            Err(Problems::config(format!("{field}.at[{i}]"), message))
        }
        None => Ok(()),
    }
}

/// Whether the prompts have this span, which `field` names.
pub(crate) fn check_span(field: &str, name: &str, inputs: &InputFacts) -> Result<(), Problems> {
    match inputs.prompts("prompts").and_then(|PromptsFacts { spans, .. }| spans.as_ref()) {
        Some(spans) if !spans.iter().any(|known| known == name) => {
            Err(helped(Problems::config(field, format!("the prompts have no span `{name}`")), name, spans))
        }
        _ => Ok(()),
    }
}

fn helped(problem: Problems, name: &str, known: &[String]) -> Problems {
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => problem,
        None => problem.help(format!("there are {}", known.join(", "))),
    }
}

/// The prompts beside the counterfactual that is named, the first if none is, or beside none if none is wanted; and its name.
pub(crate) fn read_pairs<C>(
    cx: &RunContext<'_, C>,
    counterfactual: Wanted<'_>,
) -> Result<(Pairs, Option<String>), StageError> {
    let (meta, prompts) = read_prompts(&cx.input("prompts")?)?;
    let index = match counterfactual {
        Wanted::None => None,
        Wanted::First => Some(0),
        Wanted::Named(name) => Some(meta.counterfactuals.iter().position(|known| known == name).ok_or_else(|| {
            let known = meta.counterfactuals.join(", ");
            StageError::new(format!("the prompts have no counterfactual `{name}`; they have {known}"))
        })?),
    };
    let name = index.and_then(|index| meta.counterfactuals.get(index).cloned());
    Ok((Pairs::new(prompts, index)?, name))
}

/// Which counterfactual is meant.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// None: the method compares with something else.
    None,
    /// The first.
    First,
    /// This one.
    Named(&'a str),
}

impl<'a> Wanted<'a> {
    /// The one of an option that may be left out.
    pub(crate) fn of(name: Option<&'a str>) -> Self {
        name.map_or(Self::First, Self::Named)
    }
}

/// What effects of this run are about. A metric that compares right with wrong answers needs prompts that have both.
pub(crate) fn about<C>(
    cx: &RunContext<'_, C>,
    method: &'static str,
    metric: Metric,
    contrast: Contrast,
    counterfactual: Option<String>,
    settings: BTreeMap<String, String>,
    seed: u64,
) -> Result<About, StageError> {
    let prompts: PromptsMeta = cx.input("prompts")?.meta()?;
    if metric.needs_wrong() && !prompts.wrong {
        let name = metric.name();
        return Err(StageError::new(format!(
            "`metric: {name}` needs wrong answers, and some prompts have none; `prob` and `log_prob` do not"
        )));
    }
    Ok(About {
        method,
        metric,
        contrast,
        counterfactual,
        model: cx.input_digest("model")?,
        prompts: cx.input_digest("prompts")?,
        settings,
        seed,
    })
}
