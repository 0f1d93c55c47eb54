//! Prompts: how many, of which tasks, the first ones with their counterfactuals and answers.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use mediant_artifact::{Artifact, Prompt, PromptsMeta, read_prompts};
use serde_json::Value;

use super::ShowOptions;
use super::rows::more_than;
use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};

/// Answers that are shown of a prompt; years have a hundred.
const MOST_ANSWERS: usize = 6;

pub(super) fn show(artifact: &Artifact, options: &ShowOptions<'_>, page: &mut Page) -> Result<()> {
    let (meta, prompts) = read_prompts(artifact)?;
    let list = |names: &[String]| if names.is_empty() { Cell::Empty } else { Cell::text(names.join(", ")) };
    page.facts(
        "Prompts",
        [
            ("prompts", Cell::Count(meta.prompts)),
            ("counterfactuals", list(&meta.counterfactuals)),
            ("spans", list(&meta.spans)),
            ("longest", Cell::Count(meta.longest as u64)),
            ("wrong answers", yes_or_no(meta.wrong)),
            ("prepend BOS", yes_or_no(meta.prepend_bos)),
            ("vocabulary", Cell::Count(meta.vocab_size as u64)),
            ("tokenizer", Cell::Digest(meta.tokenizer.to_string())),
        ],
    );
    page.table("Tasks", tasks(&prompts));
    page.table("First prompts", first(&meta, &prompts, options));
    Ok(())
}

fn yes_or_no(is: bool) -> Cell {
    Cell::text(if is { "yes" } else { "no" })
}

/// How many prompts, templates and groups each task has.
fn tasks(prompts: &[Prompt]) -> TextTable {
    let mut tasks: IndexMap<&str, (u64, BTreeSet<&str>, BTreeSet<&str>)> = IndexMap::new();
    for prompt in prompts {
        let (count, templates, groups) = tasks.entry(&prompt.task).or_default();
        *count += 1;
        templates.insert(&prompt.template);
        groups.insert(&prompt.group);
    }
    let mut table = TextTable::new(["task", "prompts", "templates", "groups"]);
    for (task, (count, templates, groups)) in tasks {
        let counts = [count, templates.len() as u64, groups.len() as u64].map(Cell::Count);
        table.push([Cell::text(task)].into_iter().chain(counts));
    }
    table
}

/// The first prompts, a row a version.
fn first(meta: &PromptsMeta, prompts: &[Prompt], options: &ShowOptions<'_>) -> TextTable {
    let answers = |prompt: &[i32], ids: &[i32]| {
        // Many a tokenizer drops the space before a text's first word: an answer is what the prompt with it has more.
        let value = |&id: &i32| match options.decode {
            None => Value::from(id),
            Some(decode) => {
                let whole = decode(&[prompt, &[id]].concat());
                whole.strip_prefix(&decode(prompt)).map_or_else(|| Value::from(decode(&[id])), Value::from)
            }
        };
        let first = ids.iter().take(MOST_ANSWERS).map(value);
        let rest = ids.len().saturating_sub(MOST_ANSWERS);
        let more = (rest > 0).then(|| Value::from(format!("… {rest} more")));
        Cell::Json(first.chain(more).collect())
    };
    let names: Vec<&str> = ["clean"].into_iter().chain(meta.counterfactuals.iter().map(String::as_str)).collect();
    let mut table = TextTable::new(["prompt", "version", "tokens", "text", "right", "wrong"]);
    for (i, prompt) in prompts.iter().take(options.head).enumerate() {
        for (name, version) in names.iter().zip(prompt.versions()) {
            table.push([
                Cell::Int(i as i128),
                Cell::text(*name),
                Cell::Count(version.ids.len() as u64),
                Cell::text(&version.text),
                answers(&version.ids, &version.right),
                answers(&version.ids, &version.wrong),
            ]);
        }
    }
    more_than(&mut table, options.head.min(prompts.len()) as u64, meta.prompts, "prompt");
    table
}
