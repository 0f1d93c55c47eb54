//! Repeated random patterns: what came after this word the last time comes now.

use super::version::{VersionText, mark, written};
use super::vocabulary::{enough, fits};
use super::{Draws, Make, PromptOptions, PromptText, TooFew, Vocabulary};
use crate::Split;
use crate::kinds::induction::is_reserved;
use crate::lexicon::{Class, PATTERN_WORDS};

const TEMPLATE: &str = "induction.words";

/// Words of a pattern.
const PERIODS: std::ops::RangeInclusive<usize> = 4..=12;

pub(super) struct Induction {
    periods: Vec<usize>,
    words: Vec<(&'static str, Class)>,
    flip: bool,
}

impl Induction {
    pub(super) fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let of_split = |period: &usize| match options.split {
            Some(split) => is_reserved(*period) == (split == Split::HeldOut),
            None => true,
        };
        // One more than a pattern has, for the counterfactual.
        let needed = PERIODS.end() + 1;
        let words = enough("words", needed, PATTERN_WORDS.clone(), |(word, _)| fits(vocabulary, word))?;
        Ok(Self { periods: PERIODS.filter(of_split).collect(), words, flip: !options.counterfactuals.is_empty() })
    }
}

impl Make for Induction {
    fn make(&self, draws: Draws) -> Option<PromptText> {
        let mut draw = draws.stream("prompt induction");
        let period = draw.pick(&self.periods);
        let mut words: Vec<&str> = Vec::with_capacity(period + 1);
        while words.len() <= period {
            let (word, _) = draw.pick(&self.words);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let other = words.pop()?;
        // The first word of a text may be another token than elsewhere: neither it nor what follows it is asked for.
        let at = 2 + draw.below(period - 2);
        let flipped = self.flip.then(|| version(&words, at, other, words[at]));
        Some(PromptText {
            template: TEMPLATE.to_owned(),
            group: format!("{TEMPLATE}/{}", words[at]),
            clean: version(&words, at, words[at], other)?,
            counterfactuals: flipped.into_iter().collect::<Option<_>>()?,
        })
    }
}

/// The pattern with `right` at `at`, then the pattern again up to there.
fn version(pattern: &[&'static str], at: usize, right: &'static str, wrong: &'static str) -> Option<VersionText> {
    let version = written(|sentence| {
        for (index, word) in pattern.iter().chain(&pattern[..at]).enumerate() {
            if index > 0 {
                sentence.punctuation(" ");
            }
            let name = [(at - 1, "previous"), (at, "copied")].into_iter().find(|(place, _)| *place == index);
            let labels: Vec<_> = name.map(|(_, name)| mark(name)).into_iter().collect();
            sentence.word(if index == at { right } else { word }, &labels);
        }
        sentence.ask(right, wrong);
    })?;
    Some(version.with("copied", right).with("previous", pattern[at - 1]).with("period", pattern.len().to_string()))
}
