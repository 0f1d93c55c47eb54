//! He or she: the pronoun stands for the subject and has its gender.

use super::version::{Question, VersionText, mark};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::kinds::pronoun::{pronoun, templates};
use crate::lexicon::{Class, Gender, Name, PRONOUN_NAMES, Pair, ROLES};
use crate::template::{Fill, Template, name};

pub(super) struct Pronoun {
    /// Templates with a name, with a role, and of one piece; how often of ten each sort is drawn.
    templates: Vec<(Vec<&'static Template>, usize)>,
    /// Names of one token, (female, male).
    names: (Vec<Name>, Vec<Name>),
    /// Roles of one token in both genders.
    roles: Vec<Pair>,
    /// The other people in a sentence, who are the same in all versions.
    others: Vec<Name>,
    flip: bool,
}

/// Who a version is about.
#[derive(Clone, Copy)]
struct Subject {
    name: Name,
    role: Pair,
}

impl Pronoun {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let all = PRONOUN_NAMES.any(options.split);
        let of = |what, gender| {
            let names = all.iter().filter(|name| name.gender == gender).copied().collect();
            enough(what, 1, names, |name: &Name| fits(vocabulary, name.text))
        };
        let names = (of("female first names", Gender::Female)?, of("male first names", Gender::Male)?);
        let both = |role: &&Pair| fits(vocabulary, role.0) && fits(vocabulary, role.1);
        let roles: Vec<Pair> = ROLES.iter().filter(both).copied().collect();
        let [named, role, whole] = templates(options.split);
        let mut templates = vec![(named, 6), (role, 2), (whole, 2)];
        if roles.is_empty() {
            templates.remove(1);
        }
        templates.retain(|(list, _)| !list.is_empty());
        Ok(Self { templates, names, roles, others: all, flip: !options.counterfactuals.is_empty() })
    }

    fn names(&self, gender: Gender) -> &[Name] {
        gender.choose((&self.names.0, &self.names.1))
    }
}

impl Make for Pronoun {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt pronoun");
        let sorts: Vec<&Vec<_>> =
            self.templates.iter().flat_map(|(list, share)| std::iter::repeat_n(list, *share)).collect();
        let sort = draw.pick(&sorts);
        let template = draw.pick(sort);
        let gender = draw.pick(&[Gender::Female, Gender::Male]);
        // Without roles there is no template that has one.
        let role = if self.roles.is_empty() { ("", "") } else { draw.pick(&self.roles) };
        let subject = Subject { name: draw.pick(self.names(gender)), role };
        let flipped = Subject { name: draw.pick(self.names(gender.other())), role };
        let others: Vec<Name> =
            self.others.iter().filter(|other| other.gender != gender && **other != flipped.name).copied().collect();
        // Where there is no one else, sentences about two people cannot be made.
        let other = (!others.is_empty()).then(|| draw.pick(&others));
        let question = Question::new(template, draws.stream("prompt words"));
        let clean = version(&question, subject, other)?;
        let counterfactual = self.flip.then(|| version(&question, flipped, other));
        let about = clean.variables.iter().find(|(variable, _)| *variable == "subject").map(|(_, value)| value)?;
        Some(PromptText {
            template: template.id.clone(),
            group: format!("{}/{about}", template.id),
            counterfactuals: counterfactual.into_iter().collect::<Option<_>>()?,
            clean,
        })
    }
}

fn version(question: &Question, subject: Subject, other: Option<Name>) -> Option<VersionText> {
    let gender = subject.name.gender;
    let (variable, value) = mark("subject");
    let (mut about, mut condition, mut missing) = (subject.name.text, "alone", false);
    let version = question.version(|slot, _| match slot {
        "subject" => Some(name(subject.name).with(variable, value)),
        "role" => {
            about = gender.choose(subject.role);
            Some(Fill::new(about, Class::Noun).with(variable, value))
        }
        "other" => {
            condition = "distractor";
            missing = other.is_none();
            let (variable, value) = mark("other");
            other.map(|other| name(other).with(variable, value))
        }
        "he" => Some(pronoun(("she", "he"), gender, about)),
        "He" => Some(pronoun(("She", "He"), gender, about)),
        _ => None,
    })?;
    let version = version.with("subject", about).with("gender", gender.name()).with("condition", condition);
    (!missing).then_some(version)
}
