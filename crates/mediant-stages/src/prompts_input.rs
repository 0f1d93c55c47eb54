//! Whether options name what the prompts have.

use mediant_artifact::PromptsFacts;
use mediant_engine::{InputFacts, Problems};
use mediant_lm::Positions;
use mediant_spec::did_you_mean;

use crate::model_input::called;

/// Whether every model at a port can read the prompts.
pub(crate) fn check_prompts(model_port: &str, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(prompts) = inputs.prompts("prompts") else { return Ok(()) };
    let mut problems = Problems::none();
    for (member, model) in inputs.many(model_port).iter().filter_map(|member| Some((member, member.facts.model()?))) {
        let whose = called(member, "the model");
        if let (Some(theirs), Some(own)) = (prompts.tokenizer, model.tokenizer.digest())
            && theirs != own
        {
            let (theirs, own) = (theirs.short(), own.short());
            let message = format!("these prompts were made by the tokenizer {theirs}, that of {whose} is {own}");
            problems.push(Problems::input("prompts", message).help("build the prompts with this model"));
        }
        if let Some(longest) = prompts.longest.filter(|longest| *longest > model.context) {
            let context = model.context;
            let message = format!("prompts have up to {longest} tokens, but the context of {whose} is {context}");
            problems.push(Problems::input("prompts", message));
        }
        if let Some(size) = prompts.vocab_size.filter(|size| *size > model.vocab_size) {
            let (last, own) = (size - 1, model.vocab_size);
            let message = format!("ids go up to {last}, but the vocabulary of {whose} has {own} tokens");
            problems.push(Problems::input("prompts", message));
        }
    }
    problems.finish()
}

/// Whether the prompts have a counterfactual.
pub(crate) fn check_any_counterfactual(inputs: &InputFacts) -> Result<(), Problems> {
    match inputs.prompts("prompts") {
        Some(prompts) if prompts.counterfactuals.is_empty() => {
            Err(Problems::input("prompts", "these prompts have no counterfactual, which this method needs"))
        }
        _ => Ok(()),
    }
}

/// Whether the prompts have this counterfactual, which `field` names.
pub(crate) fn check_counterfactual(field: &str, name: &str, inputs: &InputFacts) -> Result<(), Problems> {
    match inputs.prompts("prompts") {
        Some(prompts) if !prompts.counterfactuals.iter().any(|known| known == name) => {
            let problem = Problems::config(field, format!("the prompts have no counterfactual `{name}`"));
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
