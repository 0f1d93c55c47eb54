//! Prompts of the built-in tasks.

use std::collections::HashSet;

use mediant_artifact::Prompt;
use mediant_corpus::{PromptMaker, PromptOptions, PromptTask, PromptText, VersionText, Vocabulary};
use mediant_engine::StageError;
use mediant_lm::prompts::{Answer, Assembler, Draft, DraftMark, DraftVersion, Misfit};
use rayon::prelude::*;

use super::{Config, PROMPTS};

/// Prompts drawn at a time.
const BATCH: usize = 256;

/// So many draws without a new prompt, and there are taken to be no more.
const FRUITLESS: usize = 20_000;

/// The tokenizer, as the generator asks about it.
struct Words<'a>(&'a Assembler<'a>);

impl Vocabulary for Words<'_> {
    fn one_token(&self, before: &str, word: &str) -> bool {
        self.0.one_token(before, word)
    }

    fn one_answer(&self, before: &str, answer: &str) -> bool {
        self.0.one_answer(before, answer)
    }
}

/// Different prompts, as many as are wanted, in the order of drawing. `progress` hears how many there are, and may stop the work.
pub(super) fn prompts(
    config: &Config,
    task: PromptTask,
    assembler: &Assembler<'_>,
    mut progress: impl FnMut(u64, u64) -> Result<(), StageError>,
) -> Result<Vec<Prompt>, StageError> {
    let wanted = config.n.unwrap_or(PROMPTS);
    let counterfactuals: Vec<&str> = assembler.counterfactuals.iter().map(String::as_str).collect();
    let options = PromptOptions { task, seed: config.seed, split: config.split(), counterfactuals: &counterfactuals };
    let mut maker =
        PromptMaker::new(options, &Words(assembler)).map_err(|error| StageError::from(error).context(task.name()))?;
    let mut prompts = Vec::new();
    let (mut known, mut fruitless, mut last) = (HashSet::new(), 0, None);
    while (prompts.len() as u64) < wanted {
        let drawn = (0..BATCH).filter_map(|_| maker.draw()).filter(|prompt| known.insert(prompt.clean.text.clone()));
        let drafts: Vec<Draft> = drawn.map(|prompt| draft(task, prompt)).collect();
        let before = prompts.len();
        for prompt in drafts.par_iter().map(|draft| assembler.assemble(draft)).collect::<Vec<_>>() {
            match prompt {
                Ok(prompt) => prompts.push(prompt),
                Err(misfit) => last = Some(misfit),
            }
        }
        fruitless = if prompts.len() == before { fruitless + BATCH } else { 0 };
        if fruitless > FRUITLESS {
            return Err(too_few(task, prompts.len(), wanted, last.as_ref()));
        }
        progress(wanted.min(prompts.len() as u64), wanted)?;
    }
    prompts.truncate(wanted as usize);
    Ok(prompts)
}

fn too_few(task: PromptTask, found: usize, wanted: u64, last: Option<&Misfit>) -> StageError {
    let why = last.map(|misfit| format!("; the last that did not fit: {misfit}")).unwrap_or_default();
    let task = task.name();
    StageError::new(format!("only {found} different prompts of `{task}` fit this tokenizer, and `n` is {wanted}{why}"))
}

fn draft(task: PromptTask, prompt: PromptText) -> Draft {
    Draft {
        task: task.name().to_owned(),
        template: prompt.template,
        group: prompt.group,
        clean: version(prompt.clean),
        counterfactuals: prompt.counterfactuals.into_iter().map(version).collect(),
    }
}

fn version(version: VersionText) -> DraftVersion {
    let marks = version.marks.into_iter();
    let answers = |texts: Vec<String>| texts.into_iter().map(Answer::Text).collect();
    DraftVersion {
        text: version.text,
        marks: marks
            .map(|mark| DraftMark { name: mark.name.to_owned(), start: mark.start, end: mark.end, one_token: true })
            .collect(),
        right: answers(version.right),
        wrong: answers(version.wrong),
        variables: version.variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
