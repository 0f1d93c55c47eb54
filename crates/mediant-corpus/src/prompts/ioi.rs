//! Indirect objects, with the counterfactuals of MIB (Mueller et al. 2025, arXiv:2504.13151) and of Wang et al. 2022.

use super::version::{Mark, Question, VersionText, mark};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::draw::Draw;
use crate::kinds::ioi::templates;
use crate::lexicon::{IOI_NAMES, Name};
use crate::template::{Template, name};

const S2_IO_FLIP: &str = "s2_io_flip";
const S1_IO_FLIP: &str = "s1_io_flip";
const BOTH_FLIPS: &str = "s1_io_flip_s2_io_flip";
const RANDOM_NAMES: &str = "random_names";
const ABC: &str = "abc";

pub(super) const COUNTERFACTUALS: [&str; 5] = [S2_IO_FLIP, S1_IO_FLIP, BOTH_FLIPS, RANDOM_NAMES, ABC];

pub(super) struct Ioi {
    templates: Vec<&'static Template>,
    names: Vec<Name>,
    counterfactuals: Vec<&'static str>,
}

/// Who stands where: the two people in order, then who gives.
#[derive(Clone, Copy)]
struct People {
    first: Name,
    second: Name,
    giver: Name,
}

impl Ioi {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let known = |name: &&str| COUNTERFACTUALS.into_iter().find(|known| known == name);
        let counterfactuals: Vec<_> = options.counterfactuals.iter().filter_map(known).collect();
        let new = |which: &&str| match *which {
            ABC => 3,
            RANDOM_NAMES => 2,
            _ => 0,
        };
        let new = counterfactuals.iter().map(new).max().unwrap_or(0);
        let fits = |name: &Name| fits(vocabulary, name.text);
        let names = enough("first names", 2 + new, IOI_NAMES.any(options.split), fits)?;
        Ok(Self { templates: templates(options.split), names, counterfactuals })
    }

    fn counterfactual(&self, which: &str, people: People, draws: Draws) -> People {
        let People { first, second, giver } = people;
        let other = if giver == first { second } else { first };
        match which {
            S2_IO_FLIP => People { giver: other, ..people },
            S1_IO_FLIP => People { first: second, second: first, giver },
            BOTH_FLIPS => People { first: second, second: first, giver: other },
            RANDOM_NAMES => {
                let [new_first, new_second] = self.new_names(people, draws.stream("prompt random_names"));
                let giver = if giver == first { new_first } else { new_second };
                People { first: new_first, second: new_second, giver }
            }
            _ => {
                let [first, second, giver] = self.new_names(people, draws.stream("prompt abc"));
                People { first, second, giver }
            }
        }
    }

    /// Different names that are not in the prompt.
    fn new_names<const N: usize>(&self, people: People, mut draw: Draw) -> [Name; N] {
        let mut used = vec![people.first, people.second];
        std::array::from_fn(|_| {
            let new = loop {
                let new = draw.pick(&self.names);
                if !used.contains(&new) {
                    break new;
                }
            };
            used.push(new);
            new
        })
    }
}

impl Make for Ioi {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt ioi");
        let question = Question::new(draw.pick(&self.templates), draws.stream("prompt words"));
        let (first, second) = draw.pick_two(&self.names);
        let giver = draw.pick(&[first, second]);
        let people = People { first, second, giver };
        // Marks name places: what is the indirect object of the clean text keeps that name in every version.
        let places = if giver == second { ["io", "s1"] } else { ["s1", "io"] };
        let versions = self
            .counterfactuals
            .iter()
            .map(|which| version(&question, self.counterfactual(which, people, draws), places));
        let mut pair = [first.text, second.text];
        pair.sort_unstable();
        Some(PromptText {
            template: question.template.id.clone(),
            group: format!("{}/{}/{}", question.template.id, pair[0], pair[1]),
            clean: version(&question, people, places)?,
            counterfactuals: versions.collect::<Option<_>>()?,
        })
    }
}

fn version(question: &Question, people: People, places: [&'static str; 2]) -> Option<VersionText> {
    let People { first, second, giver } = people;
    let place = |person, name_of_place| {
        let (variable, value) = mark(name_of_place);
        Some(name(person).with(variable, value))
    };
    let receiver = if giver == first { second } else { first };
    let mut version = question.version(|slot, _| match slot {
        "a" => place(first, places[0]),
        "b" => place(second, places[1]),
        "s" => place(giver, "s2"),
        "io" => Some(name(receiver).answer(giver.text)),
        _ => None,
    })?;
    let after = version.marks.iter().find(|mark| mark.name == "s1").map(|mark| mark.end)?;
    version.marks.push(Mark { name: "s1+1", start: after, end: after });
    Some(if giver == first || giver == second {
        let order = if giver == second { "ABBA" } else { "BABA" };
        version.with("order", order).with("indirect_object", receiver.text).with("subject", giver.text)
    } else {
        // A third person gives: either of the two may receive.
        version.right = [first, second].map(|person| format!(" {}", person.text)).to_vec();
        version.with("order", "ABC").with("subject", giver.text)
    })
}
