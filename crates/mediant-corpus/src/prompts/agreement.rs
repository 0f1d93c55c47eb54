//! Subject-verb agreement across attractors.

use super::version::{Question, VersionText, mark};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::Split;
use crate::kinds::agreement::{draw_number, noun, templates, verb};
use crate::lexicon::{NOUNS, Number, Pair, SUBJECTS};
use crate::template::Template;

pub(super) struct Agreement {
    templates: Vec<&'static Template>,
    subjects: Vec<Pair>,
    attractors: Vec<Pair>,
    flip: bool,
}

impl Agreement {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let both = |noun: &Pair| fits(vocabulary, noun.0) && fits(vocabulary, noun.1);
        let subjects = enough("nouns, singular and plural,", 1, SUBJECTS.any(options.split), both)?;
        // As in the grammar: in training a noun that is never a subject is never an attractor either.
        let attractors = if options.split == Some(Split::Train) { SUBJECTS.train.clone() } else { NOUNS.clone() };
        let attractors = enough("nouns, singular and plural,", 2, attractors, both)?;
        Ok(Self {
            templates: templates(options.split),
            subjects,
            attractors,
            flip: !options.counterfactuals.is_empty(),
        })
    }

    fn version(&self, question: &Question, subject: Pair, number: Number) -> Option<VersionText> {
        let mut attractors: Vec<Number> = Vec::new();
        let version = question.version(|slot, draw| {
            let (noun, name) = match slot {
                "subject" => (noun(subject, number), "subject"),
                "attractor" | "last" => {
                    let other = loop {
                        let other = draw.pick(&self.attractors);
                        if other != subject {
                            break other;
                        }
                    };
                    attractors.push(draw_number(draw));
                    let name = if slot == "last" { "attractor_2" } else { "attractor" };
                    (noun(other, attractors[attractors.len() - 1]), name)
                }
                "is" | "was" | "has" | "likes" => return Some(verb(slot, number)),
                _ => return None,
            };
            let (variable, value) = mark(name);
            Some(noun.with(variable, value))
        })?;
        let last = *attractors.last()?;
        let condition = if last == number { "match" } else { "mismatch" };
        let version = version.with("subject", subject.0).with("subject_number", number.name());
        Some(version.with("attractor_number", last.name()).with("condition", condition))
    }
}

impl Make for Agreement {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt agreement");
        let question = Question::new(draw.pick(&self.templates), draws.stream("prompt words"));
        let subject = draw.pick(&self.subjects);
        let (number, other) = draw_number(&mut draw).order((Number::Singular, Number::Plural));
        let flipped = self.flip.then(|| self.version(&question, subject, other));
        Some(PromptText {
            template: question.template.id.clone(),
            group: format!("{}/{}", question.template.id, subject.0),
            clean: self.version(&question, subject, number)?,
            counterfactuals: flipped.into_iter().collect::<Option<_>>()?,
        })
    }
}
