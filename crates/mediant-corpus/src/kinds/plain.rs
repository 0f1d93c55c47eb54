//! Sentences that ask nothing. They show what the task forms withhold: the gender of every name, the number of every noun, every
//! name repeated, and the words of the held-out templates.

use std::sync::LazyLock;

use super::agreement::{draw_number, noun};
use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, IOI_NAMES, NAMES, NOUNS, Name, Number, PRONOUN_NAMES, Pair, ROLES, SUBJECTS};
use crate::template::{Fill, Part, Templates, common, name, seen};

/// Of 100 names, and of 100 nouns whose number is shown, how many are words that a task holds out.
const RESERVED: usize = 40;

/// Gender of names: every name is met here, without a pronoun.
const GENDER: [Part; 5] = [
    seen("is_a", "{person} is a {mood} {role}."),
    seen("was_the", "{person} was the {mood} {role}."),
    seen("name_of", "The name of the {role} is {person}."),
    seen("called", "The {role} is called {person}."),
    seen("my", "My {role} is called {person}."),
];

/// Other pronouns, for every name too: gender where neither he nor she is said.
const OWN: [Part; 10] = [
    seen("likes", "{person} likes {his} {object}."),
    seen("lost", "{person} lost {his} {object} at the {place}."),
    seen("sold", "{person} sold {his} {object} to the {role}."),
    seen("self", "{person} bought a {object} for {himself}."),
    seen("met", "{person} went to the {place} and we met {him} there."),
    seen("thinks", "{person} was at the {place}, and I gave {him} the {object}."),
    seen("slept", "{person} slept at the {place} near {his} {object}."),
    seen("slept_self", "{person} slept in the {place} by {himself}."),
    seen("helped", "{person} helped {his} {role} at the {place}."),
    seen("alone", "{person} lives near the {place} by {himself}."),
];

/// One person named twice: every name is met as what "to" and "for" ask for, where there is no one else to choose.
const COPIED: [Part; 7] = [
    seen("wanted", "{person} wanted the {object}, so we gave the {object} to {person}."),
    seen("saw", "The {noun} saw {person} at the {place} and gave a {object} to {person}."),
    seen("bought", "Because {person} was {mood}, the {noun} bought a {object} for {person}."),
    seen("showed", "When {person} came home, the {noun} showed the {object} to {person}."),
    seen("sent", "After {person} left the {place}, the {noun} sent a {object} to {person}."),
    seen("handed", "The {noun} of {person} handed the {object} to {person}."),
    seen("hello", "{person} was at the {place}, and the {noun} said hello to {person}."),
];

/// Two people in either order, one of them named again: what follows is the other, in every form but that of indirect objects.
const TWO: [Part; 10] = [
    seen("knows", "{a} knows {b}, and {other} knows {person}."),
    seen("called", "{a} called {b} after {other} saw {person}."),
    seen("helped", "{a} and {b} are here because {other} helped {person}."),
    seen("with", "{a} was home with {b} when {other} thanked {person}."),
    seen("lives", "{a} and {b} live in a house, and {other} likes {person}."),
    seen("yesterday", "Yesterday {a} and {b} walked home, and {other} thanked {person}."),
    seen("as_were", "As {a} and {b} were tired, {other} called {person}."),
    seen("because", "Because {a} and {b} had dinner, {other} likes {person}."),
    seen("walked", "{a} walked to the {place} with {b}, as {other} knows {person}."),
    seen("met", "At dinner {a} sat near {b}, so {other} met {person}."),
];

/// Number of nouns, with no noun of the same sort between subject and verb.
const NUMBER: [Part; 14] = [
    seen("is", "The {noun} {is} {quality}."),
    seen("was", "The {quality} {noun} {was} in the {place}."),
    seen("has", "The {noun} {has} a {object}."),
    seen("likes", "The {noun} {likes} the {object}."),
    seen("thinks", "Everyone thinks the {noun} {is} {quality}."),
    seen("thinks_that", "Everyone thinks that the {noun} at the {place} {was} {quality}."),
    seen("saw", "The {noun} that {name} saw {is} {quality}."),
    seen("found", "The {quality} {noun} that I found {was} at the {place}."),
    seen("from", "The {noun} from the {place} {has} a {object}."),
    seen("many", "{name} saw {count} {many}."),
    seen("at_is", "The {noun} at the {place} {is} {quality}."),
    seen("in_was", "The {quality} {noun} in the {place} {was} {mood}."),
    seen("near_has", "I think the {noun} near the {place} {has} a {object}."),
    seen("there", "There {is} {some} {noun} in the {place}."),
];

/// Everyday sentences, in which names recur and the words of the held-out templates stand elsewhere.
const DAYS: [Part; 16] = [
    seen("everyone", "{person} has a {quality} {object}. Everyone likes {person}."),
    seen("house", "The house of {person} is near the {place}, and the people there know {person}."),
    seen("because", "Because of {person} I live in a {quality} house."),
    seen("thanked", "Everyone thanked {person} because of the {object}. The {object} was from {person}."),
    seen("passed", "{person} passed the {place} and found a {object}."),
    seen("offered", "Everyone offered {person} a {object} after dinner."),
    seen("walked", "Yesterday {person} walked home from the {place}."),
    seen("walked_to", "As we walked to the {place}, we saw {person}."),
    seen("moved_to", "{person} moved to a {quality} house to live near the {place}."),
    seen("thinks_a", "Everyone thinks a {object} is {quality}."),
    seen("slept", "As always, {person} slept before dinner."),
    seen("visited", "{person} visited the {place} and met the queen."),
    seen("moved", "{person} moved the {object} to the {place}."),
    seen("know", "I know that {person} was at the {place} after dinner. It was {person} who found the {object}."),
    seen("thinks", "Everyone thinks that {person} is {mood}."),
    seen("make", "You make a {object} before you live in a {quality} house."),
];

static GENDERS: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.gender", &[&GENDER]));
static OWNS: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.own", &[&OWN]));
static COPIES: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.copied", &[&COPIED]));
static NUMBERS: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.number", &[&NUMBER]));
static TWOS: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.two", &[&TWO]));
static OTHERS: LazyLock<Templates> = LazyLock::new(|| Templates::combine("plain.day", &[&DAYS]));

pub(super) fn write(draw: &mut Draw, out: &mut Sentence) {
    let templates = draw
        .pick(&[&GENDERS, &OWNS, &OWNS, &NUMBERS, &NUMBERS, &TWOS, &TWOS, &TWOS, &TWOS, &OTHERS, &COPIES])
        .of(Split::Train);
    let template = &templates[draw.below(templates.len())];
    let person = name_of(draw);
    let other = loop {
        let other = name_of(draw);
        if other != person {
            break other;
        }
    };
    let (a, b) = if draw.chance(50) { (person, other) } else { (other, person) };
    let role = person.gender.choose(draw.pick(&ROLES));
    let thing = if draw.chance(RESERVED) { draw.pick(&SUBJECTS.held_out) } else { draw.pick(&NOUNS) };
    let number = draw_number(draw);

    template.write(out, |slot| match slot {
        "person" => name(person),
        "other" => name(other),
        "a" => name(a),
        "b" => name(b),
        "role" => Fill::new(role, Class::Noun).with("gender", person.gender.name()),
        "his" => pronoun(("her", "his"), person),
        "him" => pronoun(("her", "him"), person),
        "himself" => pronoun(("herself", "himself"), person),
        "noun" => noun(thing, number).with("role", "subject"),
        "many" => noun(thing, Number::Plural),
        "count" => Fill::new(draw.pick(&["two", "three", "four", "five"]), Class::Number),
        "some" => Fill::new(number.order(("one", "two")).0, Class::Number),
        "is" => verb(("is", "are"), number),
        "was" => verb(("was", "were"), number),
        "has" => verb(("has", "have"), number),
        "likes" => verb(("likes", "like"), number),
        _ => common(slot, draw),
    });
}

/// A name; those that a task holds out more often than others, since the task's own form never shows them.
fn name_of(draw: &mut Draw) -> Name {
    if draw.chance(RESERVED) {
        let reserved = if draw.chance(50) { &IOI_NAMES } else { &PRONOUN_NAMES };
        draw.pick(&reserved.held_out)
    } else {
        draw.pick(&NAMES)
    }
}

fn pronoun(pair: Pair, person: Name) -> Fill {
    let pronoun = Fill::new(person.gender.choose(pair), Class::Pronoun).with("role", "pronoun");
    pronoun.with("gender", person.gender.name()).with("antecedent", person.text)
}

fn verb(pair: (&'static str, &'static str), number: Number) -> Fill {
    Fill::new(number.order(pair).0, Class::Verb).with("number", number.name())
}
