//! Capitals of countries.

use super::version::{Question, VersionText, mark};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::kinds::capitals::templates;
use crate::lexicon::{CAPITALS, Class, Pair};
use crate::template::{Fill, Template};

pub(super) struct Capitals {
    templates: Vec<&'static Template>,
    facts: Vec<Pair>,
    flip: bool,
}

impl Capitals {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let both = |fact: &Pair| fits(vocabulary, fact.0) && fits(vocabulary, fact.1);
        let facts = enough("countries, with their capitals,", 2, CAPITALS.clone(), both)?;
        Ok(Self { templates: templates(options.split), facts, flip: !options.counterfactuals.is_empty() })
    }
}

impl Make for Capitals {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt capitals");
        let question = Question::new(draw.pick(&self.templates), draws.stream("prompt words"));
        let (fact, other) = draw.pick_two(&self.facts);
        let flipped = self.flip.then(|| version(&question, other, fact.1));
        Some(PromptText {
            template: question.template.id.clone(),
            group: format!("{}/{}", question.template.id, fact.0),
            clean: version(&question, fact, other.1)?,
            counterfactuals: flipped.into_iter().collect::<Option<_>>()?,
        })
    }
}

/// None for a form that says the capital first.
fn version(question: &Question, (country, capital): Pair, wrong: &'static str) -> Option<VersionText> {
    let (variable, value) = mark("subject");
    let version = question.version(|slot, _| match slot {
        "country" => Some(Fill::new(country, Class::Country).with(variable, value)),
        "capital" => Some(Fill::new(capital, Class::Capital).answer(wrong)),
        "given" => Some(Fill::new(capital, Class::Capital)),
        _ => None,
    })?;
    Some(version.with("country", country).with("capital", capital))
}
