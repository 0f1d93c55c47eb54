//! Years that are later than another: "The war lasted from the year 1732 to the year 17" goes on with a number above 32.
//!
//! The task of Hanna et al. 2023 (arXiv:2305.00586), with words of our own.

use super::version::{Mark, VersionText};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::lexicon::EVENTS;

const TEMPLATE: &str = "greater_than.lasted";

/// The first two digits of the years, as in the paper.
const CENTURIES: std::ops::RangeInclusive<usize> = 11..=17;

/// The last two digits of the first year: some numbers are below and some above, and none is that of the counterfactual.
const STARTS: std::ops::RangeInclusive<usize> = 2..=98;

/// The first year of the counterfactual: every other number is later.
const EARLIEST: usize = 1;

pub(super) struct GreaterThan {
    events: Vec<&'static str>,
    /// Years whose last two digits are one token: first two digits, last two.
    years: Vec<(usize, usize)>,
    flip: bool,
}

impl GreaterThan {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let halves = |century: usize, year: usize| vocabulary.one_token(&text("war", century), &format!("{year:02}"));
        let answer = |year: &usize| vocabulary.one_answer(&prompt("war", 17, 32), &format!("{year:02}"));
        enough("two-digit numbers", 100, (0..100).collect(), answer)?;
        let all = CENTURIES.flat_map(|century| STARTS.map(move |year| (century, year))).collect();
        // The counterfactual's year has to be two halves as well.
        let split = |&(century, year): &(usize, usize)| halves(century, year) && halves(century, EARLIEST);
        let years = enough("last halves of years from 1102 to 1798", 1, all, split)?;
        let events = enough("words for events", 1, EVENTS.clone(), |event: &&str| fits(vocabulary, event))?;
        Ok(Self { events, years, flip: !options.counterfactuals.is_empty() })
    }
}

impl Make for GreaterThan {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt greater_than");
        let event = draw.pick(&self.events);
        let (century, year) = draw.pick(&self.years);
        Some(PromptText {
            template: TEMPLATE.to_owned(),
            group: format!("{TEMPLATE}/{event}"),
            clean: version(event, century, year),
            counterfactuals: self.flip.then(|| version(event, century, EARLIEST)).into_iter().collect(),
        })
    }
}

/// The text up to the last two digits of the first year.
fn text(event: &str, century: usize) -> String {
    format!("The {event} lasted from the year {century}")
}

fn prompt(event: &str, century: usize, year: usize) -> String {
    format!("{}{year:02} to the year {century}", text(event, century))
}

fn version(event: &str, century: usize, year: usize) -> VersionText {
    let start = text(event, century).len();
    let numbers = |range: std::ops::Range<usize>| range.map(|number| format!("{number:02}")).collect();
    let version = VersionText {
        text: prompt(event, century, year),
        marks: vec![
            Mark { name: "event", start: "The ".len(), end: "The ".len() + event.len() },
            Mark { name: "start", start, end: start + 2 },
        ],
        right: numbers(year + 1..100),
        wrong: numbers(0..year + 1),
        variables: Vec::new(),
    };
    version.with("event", event).with("century", century.to_string()).with("start", format!("{year:02}"))
}
