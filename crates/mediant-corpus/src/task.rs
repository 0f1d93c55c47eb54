//! Task sets: the grammar's sentences cut before the word that tells whether the reader understood.

use crate::Split;
use crate::document::{Document, Sentence};
use crate::draw::Draw;
use crate::kinds::Kind;

/// A prompt with the right continuation and a wrong one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskItem {
    /// `ioi`, `agreement`, `pronoun`, `induction`, `capitals` or `sums`.
    pub task: &'static str,
    /// Whether names, nouns, sums and templates are those of training, or all of them reserved.
    pub split: Split,
    /// The template.
    pub template: &'static str,
    /// What may make an item hard: the order of the names, whether the last attractor agrees with the subject, whether there is a
    /// distractor, the country, the sum, the period.
    pub condition: &'static str,
    /// The text before the answer, without the space that belongs to the answer.
    pub prompt: String,
    /// The right continuation, with its leading space.
    pub right: String,
    /// The mistake, with its leading space.
    pub wrong: String,
}

/// `per_task` items of each task and split, the same for the same seed. No two items of a task are equal while the grammar has others.
#[must_use]
pub fn tasks(seed: u64, per_task: usize) -> Vec<TaskItem> {
    let sets = Kind::TASKS.into_iter().flat_map(|kind| [(kind, Split::Train), (kind, Split::HeldOut)]);
    sets.flat_map(|(kind, split)| task_set(seed, kind, split, per_task)).collect()
}

fn task_set(seed: u64, kind: Kind, split: Split, wanted: usize) -> Vec<TaskItem> {
    let mut draw = Draw::new(seed, split.purpose(), kind as u64);
    let mut known = std::collections::HashSet::new();
    let mut items = Vec::with_capacity(wanted);
    // Some sentences ask nothing, and small tasks run out of new ones.
    for _ in 0..wanted * 20 {
        if items.len() == wanted {
            break;
        }
        let mut document = Document::default();
        let mut sentence = Sentence::begin(&mut document);
        kind.write(split, &mut draw, &mut sentence);
        let (template, condition) = (sentence.template, sentence.condition);
        let Some(cloze) = sentence.cloze else {
            continue;
        };
        let prompt = document.text[..cloze.at].trim_end().to_owned();
        // A continuation that begins like the other is never less probable.
        let nested = cloze.right.starts_with(cloze.wrong) || cloze.wrong.starts_with(cloze.right);
        // The first word of a text has no prompt.
        if !nested && !prompt.is_empty() && known.insert((prompt.clone(), cloze.right)) {
            let continuation = |word| format!(" {word}");
            let (right, wrong) = (continuation(cloze.right), continuation(cloze.wrong));
            items.push(TaskItem { task: kind.name(), split, template, condition, prompt, right, wrong });
        }
    }
    items
}
