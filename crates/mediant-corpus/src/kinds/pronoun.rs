//! Pronouns: "Anna lost the ball because she was tired." The pronoun stands for the subject and has its gender.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, Gender, PRONOUN_NAMES, ROLES};
use crate::template::{Fill, Part, Template, Templates, common, name, reserved, seen};

const CLAUSES: [Part; 19] = [
    seen("home", " went home "),
    seen("stayed", " stayed at the {place} "),
    seen("ran", " ran to the {place} "),
    seen("lost", " lost the {object} "),
    seen("smiled", " smiled "),
    seen("bought", " bought a {object} "),
    seen("called", " called {other} "),
    seen("helped", " helped {other} "),
    seen("saw", " saw {other} "),
    seen("sat", " sat with {other} "),
    seen("worked", " worked at the {place} "),
    seen("walked", " walked home "),
    seen("found", " found a {object} at the {place} "),
    seen("left", " left "),
    seen("met", " met {other} "),
    seen("left_with", " left the {place} with {other} "),
    reserved("slept", " slept at the {place} "),
    seen("thanked", " thanked {other} "),
    reserved("helped_at", " helped {other} at the {place} "),
];

const LINKS: [Part; 9] = [
    seen("because", "because {he} "),
    seen("when", "when {he} "),
    seen("while", "while {he} "),
    seen("and", "and {he} "),
    seen("so", "so {he} "),
    seen("but", "but {he} "),
    seen("said", "and said that {he} "),
    seen("before", "before {he} "),
    seen("after", "after {he} "),
];

const ENDS: [Part; 4] = [
    seen("mood", "was {mood}."),
    seen("had", "had a {object}."),
    seen("wanted", "wanted the {object}."),
    seen("went", "went to the {place}."),
];

/// Forms of one piece, with the pronoun in another place.
const WHOLE: [Part; 4] = [
    seen("when_came", "When {subject} came home, {he} was {mood}."),
    seen("after_left", "After {subject} left the {place}, {he} bought a {object}."),
    seen("has_likes", "{subject} has a {object}. {He} likes the {object}."),
    seen("was_so", "{subject} was {mood}, so {he} went to the {place}."),
];

static NAMED: LazyLock<Templates> =
    LazyLock::new(|| Templates::combine("pronoun", &[&[seen("name", "{subject}")], &CLAUSES, &LINKS, &ENDS]));
static ROLE: LazyLock<Templates> =
    LazyLock::new(|| Templates::combine("pronoun", &[&[seen("role", "The {role}")], &CLAUSES, &LINKS, &ENDS]));
static OTHER: LazyLock<Templates> = LazyLock::new(|| Templates::combine("pronoun", &[&WHOLE]));

/// The templates that a split may use, or all: about someone named, about someone by what they are, and forms of one piece.
pub(crate) fn templates(split: Option<Split>) -> [Vec<&'static Template>; 3] {
    [NAMED.any(split), ROLE.any(split), OTHER.any(split)]
}

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    // In training by Zipf's law: a reader who knows the gender of rare names from other sentences must carry it over to this one, as
    // for names held out.
    let subject = match split {
        Split::Train => draw.pick_zipf(&PRONOUN_NAMES.train),
        Split::HeldOut => draw.pick(&PRONOUN_NAMES.held_out),
    };
    let gender = subject.gender;
    let others = PRONOUN_NAMES.of(split).iter().filter(|other| **other != subject);
    let others = others.filter(|other| other.gender != gender).copied().collect::<Vec<_>>();
    let role = gender.choose(draw.pick(&ROLES));
    let templates = match (split, draw.below(10)) {
        (Split::HeldOut, _) | (Split::Train, 0..6) => NAMED.of(split),
        (Split::Train, 6..8) => ROLE.of(split),
        (Split::Train, _) => OTHER.of(split),
    };
    let template = &templates[draw.below(templates.len())];

    let mut antecedent = subject.text;
    let mut condition = "alone";
    template.write(out, |slot| match slot {
        "subject" => name(subject).with("role", "antecedent"),
        "role" => {
            antecedent = role;
            Fill::new(role, Class::Noun).with("gender", gender.name()).with("role", "antecedent")
        }
        "other" => {
            condition = "distractor";
            name(draw.pick(&others)).with("role", "distractor")
        }
        "he" => pronoun(("she", "he"), gender, antecedent),
        "He" => pronoun(("She", "He"), gender, antecedent),
        _ => common(slot, draw),
    });
    out.condition = condition;
    out.about("gender", gender.name());
    out.about("antecedent", antecedent);
}

pub(crate) fn pronoun(pair: (&'static str, &'static str), gender: Gender, antecedent: &'static str) -> Fill {
    Fill::new(gender.choose(pair), Class::Pronoun)
        .with("gender", gender.name())
        .with("role", "pronoun")
        .with("antecedent", antecedent)
        .answer(gender.other().choose(pair))
}
