//! Subject-verb agreement across attractors: "The keys to the cabinet are heavy."
//!
//! The question of Linzen et al. 2016, arXiv:1611.01368: does the verb follow its subject or the noun beside it?

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, NOUNS, Number, Pair, SUBJECTS};
use crate::template::{Fill, Part, Template, Templates, common, reserved, seen};

const OPENINGS: [Part; 12] = [
    seen("the", "The "),
    seen("today", "Today the "),
    seen("think", "I think the "),
    seen("said", "{name} said that the "),
    seen("place", "In the {place} the "),
    seen("saw", "We saw that the "),
    seen("now", "Now the "),
    seen("know", "I know that the "),
    seen("because", "{name} left because the "),
    seen("found", "There we found that the "),
    seen("you_think", "You think that the "),
    reserved("thinks", "Everyone thinks the "),
];

const SUBJECT: [Part; 2] = [seen("bare", "{subject} "), seen("quality", "{quality} {subject} ")];

const ATTRACTORS: [Part; 15] = [
    seen("to", "to the {attractor} "),
    seen("near", "near the {attractor} "),
    seen("with", "with the {attractor} "),
    seen("by", "by the {attractor} "),
    seen("of", "of the {attractor} "),
    seen("for", "for the {attractor} "),
    seen("that_saw", "that the {attractor} saw "),
    seen("that_lost", "that the {attractor} lost "),
    seen("near_by", "near the {attractor} by the {last} "),
    seen("of_with", "of the {attractor} with the {last} "),
    seen("for_near", "for the {attractor} near the {last} "),
    reserved("from", "from the {attractor} "),
    seen("that_found", "that the {attractor} found "),
    reserved("with_to", "with the {attractor} to the {last} "),
    reserved("by_of", "by the {attractor} of the {last} "),
];

const PREDICATES: [Part; 6] = [
    seen("is", "{is} {quality}."),
    seen("was", "{was} {quality}."),
    seen("is_in", "{is} in the {place}."),
    seen("was_at", "{was} at the {place}."),
    seen("has", "{has} a {object}."),
    seen("likes", "{likes} the {object}."),
];

static TEMPLATES: LazyLock<Templates> =
    LazyLock::new(|| Templates::combine("agreement", &[&OPENINGS, &SUBJECT, &ATTRACTORS, &PREDICATES]));

/// The templates that a split may use, or all.
pub(crate) fn templates(split: Option<Split>) -> Vec<&'static Template> {
    TEMPLATES.any(split)
}

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let template = &TEMPLATES.of(split)[draw.below(TEMPLATES.of(split).len())];
    let subject = draw.pick(SUBJECTS.of(split));
    let number = draw_number(draw);
    let mut last = number;
    let mut attractors = 0;

    template.write(out, |slot| match slot {
        "subject" => noun(subject, number).with("role", "subject"),
        "attractor" | "last" => {
            let other = loop {
                // In training a noun that is never a subject is never an attractor either: else that is what it would be known by.
                let other = draw.pick(if split == Split::Train { &SUBJECTS.train } else { &NOUNS });
                if other != subject {
                    break other;
                }
            };
            last = draw_number(draw);
            attractors += 1;
            noun(other, last).with("role", "attractor")
        }
        "is" | "was" | "has" | "likes" => verb(slot, number),
        _ => common(slot, draw),
    });
    out.condition = if last == number { "match" } else { "mismatch" };
    out.about("subject_number", number.name());
    out.about("attractor_number", last.name());
    out.about("attractors", if attractors == 1 { "1" } else { "2" });
}

pub(crate) fn draw_number(draw: &mut Draw) -> Number {
    if draw.chance(50) { Number::Singular } else { Number::Plural }
}

pub(crate) fn noun(noun: Pair, number: Number) -> Fill {
    Fill::new(number.order(noun).0, Class::Noun).with("number", number.name())
}

/// A verb that agrees; its other form is the mistake.
pub(crate) fn verb(slot: &str, number: Number) -> Fill {
    let (right, wrong) = number.order(match slot {
        "is" => ("is", "are"),
        "was" => ("was", "were"),
        "has" => ("has", "have"),
        _ => ("likes", "like"),
    });
    Fill::new(right, Class::Verb).with("number", number.name()).answer(wrong)
}
