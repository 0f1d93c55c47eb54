//! Indirect objects: "When Mary and John went to the store, John gave a drink to Mary."
//!
//! The form of Wang et al. 2022, arXiv:2211.00593: two people, one of them named again as the subject; the answer is the other.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::IOI_NAMES;
use crate::template::{Part, Template, Templates, common, name, reserved, seen};

const OPENINGS: [Part; 21] = [
    seen("when_went", "When {a} and {b} went to the {place}, "),
    seen("while_were", "While {a} and {b} were at the {place}, "),
    seen("after_left", "After {a} and {b} left the {place}, "),
    seen("then_met", "Then {a} and {b} met at the {place}, and "),
    seen("before_left", "Before {a} and {b} left the {place}, "),
    seen("today_worked", "Today {a} and {b} worked at the {place}, and "),
    seen("once_came", "Once {a} and {b} came to the {place}, "),
    seen("long_day", "{a} and {b} had a long day at the {place}, and "),
    seen("met", "{a} met {b} at the {place}, and "),
    seen("near_sat", "Near the {place} {a} sat with {b}, and "),
    seen("was_with", "{a} was at the {place} with {b} when "),
    seen("now_are", "Now {a} and {b} are at the {place}, and "),
    seen("here_found", "Here {a} and {b} found a {object}, and "),
    seen("live_near", "{a} and {b} live near the {place}, so "),
    seen("in_saw", "In the {place} {a} saw {b}, so "),
    seen("friends", "{a} and {b} are friends, and "),
    seen("because_of", "Because of the {object} {a} called {b}, and "),
    seen("was_there", "{a} was there when {b} left the {place}, and "),
    reserved("as_walked", "As {a} and {b} walked to the {place}, "),
    reserved("yesterday_dinner", "Yesterday {a} and {b} had dinner at the {place}, and "),
    reserved("because_were", "Because {a} and {b} were at the {place}, "),
];

const ACTIONS: [Part; 13] = [
    seen("gave_a", "{s} gave a {object} to {io}."),
    seen("gave_the", "{s} gave the {object} to {io}."),
    seen("handed", "{s} handed a {object} to {io}."),
    seen("decided", "{s} decided to give a {object} to {io}."),
    seen("showed", "{s} showed the {object} to {io}."),
    seen("sold", "{s} sold a {object} to {io}."),
    seen("wanted", "{s} wanted to give the {object} to {io}."),
    seen("sent", "{s} sent a {object} to {io}."),
    seen("bought", "{s} bought a {object} for {io}."),
    seen("brought", "{s} brought the {object} for {io}."),
    seen("said_hello", "{s} said hello to {io}."),
    reserved("passed", "{s} passed the {object} to {io}."),
    reserved("offered", "{s} offered a {object} to {io}."),
];

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::combine("ioi", &[&OPENINGS, &ACTIONS]));

/// The templates that a split may use, or all.
pub(crate) fn templates(split: Option<Split>) -> Vec<&'static Template> {
    TEMPLATES.any(split)
}

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let names = IOI_NAMES.of(split);
    let (io, subject) = draw.pick_two(names);
    let (a, b, order) = if draw.chance(50) { (io, subject, "ABBA") } else { (subject, io, "BABA") };
    // A third person who gives: either of the two may receive, so the sentence asks nothing. It teaches that names
    // already doubled are to be avoided, not merely the last one.
    let third = (split == Split::Train && draw.chance(12))
        .then(|| draw.pick(names))
        .filter(|third| *third != io && *third != subject);
    let order = if third.is_some() { "ABC" } else { order };
    let template = &TEMPLATES.of(split)[draw.below(TEMPLATES.of(split).len())];

    let role = |person| {
        if person == io { "indirect_object" } else { "subject" }
    };
    template.write(out, |slot| match (slot, third) {
        ("a", None) => name(a).with("role", role(a)),
        ("b", None) => name(b).with("role", role(b)),
        ("s", None) => name(subject).with("role", "subject"),
        ("io", None) => name(io).with("role", "indirect_object").answer(subject.text),
        ("a", Some(_)) => name(a),
        ("b", Some(_)) => name(b),
        ("s", Some(third)) => name(third).with("role", "subject"),
        ("io", Some(_)) => name(io).with("role", "indirect_object"),
        _ => common(slot, draw),
    });
    out.condition = order;
    out.about("order", order);
    out.about("indirect_object", io.text);
    out.about("subject", third.unwrap_or(subject).text);
}
