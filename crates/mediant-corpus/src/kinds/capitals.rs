//! Facts: "The capital of France is Paris." Every fact is seen in training; what is held out are ways of asking for it.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{CAPITALS, Class};
use crate::template::{Fill, Part, Template, Templates, common, reserved, seen};

const FORMS: [Part; 25] = [
    seen("capital_is", "The capital of {country} is {capital}."),
    seen("city_is", "The capital city of {country} is {capital}."),
    seen("called", "The capital of {country} is called {capital}."),
    seen("has", "{country} has a capital called {capital}."),
    seen("in_is", "In {country} the capital is {capital}."),
    seen("main", "The main city of {country} is {capital}."),
    seen("king", "The king of {country} lives in {capital}."),
    seen("saw", "{name} went to {country} and saw the capital, {capital}."),
    seen("from", "{name} is from {country} and lives in {capital}."),
    seen("flew", "{name} flew to {country} and stayed in {capital}."),
    seen("people", "The people of {country} like the city of {capital}."),
    seen("live", "The people of {country} live in {capital}."),
    seen("see", "{name} left for {country} to see {capital}."),
    seen("home", "{name} came home to {country} and was happy in {capital}."),
    seen("find", "You find the king of {country} in {capital}."),
    seen("there", "Everyone who was in {country} was in {capital}."),
    seen("reverse_is", "{given} is the capital of {country}."),
    seen("reverse_lives", "{name} lives in {given}, the capital of {country}."),
    seen("reverse_in", "{given} is in {country}."),
    reserved("know", "I know that the capital of {country} is {capital}."),
    reserved("in_called", "In {country} the main city is called {capital}."),
    reserved("queen", "The queen of {country} lives in {capital}."),
    reserved("visited", "{name} visited {country} and saw the city of {capital}."),
    reserved("moved", "{name} moved to {country} to live in {capital}."),
    reserved("has_city", "{country} has a main city called {capital}."),
];

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::combine("capitals", &[&FORMS]));

/// The templates that a split may use, or all.
pub(crate) fn templates(split: Option<Split>) -> Vec<&'static Template> {
    TEMPLATES.any(split)
}

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let template = &TEMPLATES.of(split)[draw.below(TEMPLATES.of(split).len())];
    let ((country, capital), (_, wrong)) = draw.pick_two(&CAPITALS);
    let place = Fill::new(capital, Class::Capital).with("capital", capital);
    template.write(out, |slot| match slot {
        "country" => Fill::new(country, Class::Country).with("country", country),
        "capital" => place.clone().answer(wrong),
        "given" => place.clone(),
        _ => common(slot, draw),
    });
    out.condition = country;
    out.about("country", country);
    out.about("capital", capital);
}
