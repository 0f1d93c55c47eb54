//! What stages check of a model and what else is connected with it.

use mediant_artifact::{Artifact, HookFact, ModelFacts, ModelReader, ModelTokenizer, NormFacts};
use mediant_engine::{InputFacts, MemberFacts, Problems, StageError};
use mediant_lm::{LmConfig, matching_hooks, model_facts};
use mediant_spec::did_you_mean;

use crate::named::label;

/// Whether every model at one port can read all tokens at another.
pub(crate) fn check_tokens(inputs: &InputFacts, model_port: &str, tokens_port: &str) -> Result<(), Problems> {
    check_some(inputs, tokens_port)?;
    let mut problems = Problems::none();
    for (whose, model) in inputs.many(model_port).iter().filter_map(|member| Some((member, member.facts.model()?))) {
        let whose = called(whose, "the model");
        for (which, tokens) in inputs.many(tokens_port).iter().filter_map(|one| Some((one, one.facts.tokens()?))) {
            let which = called(which, "these tokens");
            if let (Some(theirs), Some(own)) = (tokens.tokenizer, model.tokenizer.digest())
                && theirs != own
            {
                let (theirs, own) = (theirs.short(), own.short());
                let message = format!("{which} were made by the tokenizer {theirs}, that of {whose} is {own}");
                problems.push(Problems::input(tokens_port, message).help("tokenize the corpus with this model"));
            }
            if tokens.context > model.context {
                let (rows, context) = (tokens.context, model.context);
                let message =
                    format!("rows of {which} may have {rows} tokens, but the context of {whose} is {context}");
                problems.push(Problems::input(tokens_port, message));
            }
            if let Some(size) = tokens.vocab_size.filter(|size| *size > model.vocab_size) {
                let (last, own) = (size - 1, model.vocab_size);
                let message = format!("ids of {which} go up to {last}, but the vocabulary of {whose} has {own} tokens");
                problems.push(Problems::input(tokens_port, message));
            }
        }
    }
    problems.finish()
}

/// The name of a member in a message; `alone` if it has none.
pub(crate) fn called(member: &MemberFacts, alone: &str) -> String {
    let label = label(member.name.as_deref(), &member.labels);
    if label.is_empty() { alone.to_owned() } else { format!("`{label}`") }
}

/// There are tokens, as far as is known.
pub(crate) fn check_some(inputs: &InputFacts, port: &str) -> Result<(), Problems> {
    let empty = |member: &&MemberFacts| member.facts.tokens().is_some_and(|tokens| tokens.sequences == Some(0));
    match inputs.many(port).iter().find(empty) {
        Some(empty) => {
            let none = match label(empty.name.as_deref(), &empty.labels) {
                name if name.is_empty() => "there are no such tokens".to_owned(),
                name => format!("there are no tokens of `{name}`"),
            };
            Err(Problems::input(port, none).help("give the stage that made them a `test_fraction` above 0"))
        }
        None => Ok(()),
    }
}

/// What is known of a model that has been loaded.
pub(crate) fn loaded_facts(model: &Artifact) -> Result<ModelFacts, StageError> {
    let meta = ModelReader::open(model)?.meta;
    Ok(model_facts(&LmConfig::of_artifact(&meta)?, ModelTokenizer::Absent))
}

/// The hook points that names and globs stand for, each once, in the order of the forward pass. `field` is the option that
/// lists them.
pub(crate) fn choose_hooks(field: &str, patterns: &[String], model: &ModelFacts) -> Result<Vec<HookFact>, Problems> {
    let mut problems = Problems::none();
    let mut chosen = vec![false; model.hooks.len()];
    for (index, pattern) in patterns.iter().enumerate() {
        match hooks_like(&format!("{field}[{index}]"), pattern, model) {
            Err(wrong) => problems.push(wrong),
            Ok(hooks) => {
                model.hooks.iter().zip(&mut chosen).for_each(|(hook, chosen)| *chosen |= hooks.contains(hook));
            }
        }
    }
    problems.finish()?;
    Ok(model.hooks.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(hook, _)| hook.clone()).collect())
}

/// The hook points that a name or a glob, the value of `field`, stands for; at least one.
pub(crate) fn hooks_like(field: &str, pattern: &str, model: &ModelFacts) -> Result<Vec<HookFact>, Problems> {
    let problem = |message: String| Problems::config(field, message);
    match matching_hooks(pattern, &model.hooks) {
        Err(error) => Err(problem(error.to_string())),
        Ok(none) if none.is_empty() => Err(unknown_hook(problem, pattern, model)),
        Ok(hooks) => Ok(hooks.into_iter().cloned().collect()),
    }
}

fn unknown_hook(problem: impl Fn(String) -> Problems, pattern: &str, model: &ModelFacts) -> Problems {
    let problem = problem(format!(
        "this {} model of {} layers has no hook point `{pattern}`",
        model.architecture, model.n_layers
    ));
    let of_a_norm = pattern.ends_with("hook_scale") || pattern.ends_with("hook_normalized");
    if of_a_norm && model.norms == NormFacts::Absent {
        return problem.help("its norms are part of its weights: nothing is computed there");
    }
    match did_you_mean(pattern, model.hooks.iter().map(|hook| hook.name.as_str())) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem
            .help("hook points are named as in TransformerLens: `blocks.0.hook_resid_post`, `blocks.*.attn.hook_z`"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn choose(patterns: &[&str]) -> Result<Vec<String>, Vec<(String, Option<String>)>> {
        let config = LmConfig::from_json(&serde_json::json!({
            "model_type": "gpt2", "n_layer": 4, "n_embd": 8, "n_head": 2, "vocab_size": 9, "n_positions": 5
        }));
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        choose_hooks("hooks", &patterns, &model_facts(&config.unwrap(), ModelTokenizer::Absent))
            .map(|hooks| hooks.into_iter().map(|hook| hook.name).collect())
            .map_err(|problems| problems.iter().map(|p| (p.message.clone(), p.help.clone())).collect())
    }

    #[test]
    fn hooks_come_once_in_the_order_of_the_pass() {
        let hooks = choose(&["blocks.[12].hook_resid_post", "hook_embed", "blocks.1.*"]).unwrap();
        let expected = [
            "hook_embed",
            "blocks.1.hook_resid_pre",
            "blocks.1.hook_attn_in",
            "blocks.1.hook_q_input",
            "blocks.1.hook_k_input",
            "blocks.1.hook_v_input",
            "blocks.1.hook_attn_out",
            "blocks.1.hook_resid_mid",
            "blocks.1.hook_mlp_in",
            "blocks.1.hook_mlp_out",
            "blocks.1.hook_resid_post",
            "blocks.2.hook_resid_post",
        ];
        assert_eq!(hooks, expected);
    }

    #[test]
    fn what_the_model_lacks_is_named_with_what_is_near() {
        let problems = choose(&["blocks.3.hook_resid_pots", "blocks.7.hook_resid_post", "hook_embed"]).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].1.as_deref(), Some("did you mean `blocks.3.hook_resid_post`?"));
        assert!(problems[1].0.contains("model of 4 layers has no hook point `blocks.7.hook_resid_post`"));
    }
}
