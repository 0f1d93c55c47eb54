//! Prompts of a circuit, each beside another of the same distribution.

use std::collections::BTreeMap;

use mediant_artifact::{Prompt, Version};
use mediant_tensor::random::stream;

use super::KnownCircuit;
use super::interpreter::Stream;
use crate::{Error, Result};

/// A prompt before it has tokens.
pub(crate) struct Draw {
    /// Its words, without BOS.
    pub(crate) words: Vec<usize>,
    /// The word that goes on.
    pub(crate) answer: usize,
    /// The word that does not; the answer of the other prompt of the pair if none.
    pub(crate) wrong: Option<usize>,
    pub(crate) variables: BTreeMap<String, String>,
    /// Named positions, BOS counted.
    pub(crate) spans: Vec<(&'static str, usize)>,
}

/// Draws of a counterfactual before it is given up.
const TRIES: usize = 100_000;

impl KnownCircuit {
    /// `n` prompts, each with the counterfactual [`RESAMPLED`](super::RESAMPLED): drawn anew until it differs in every variable on the
    /// way to the answer ([`CircuitKind`](super::CircuitKind) says how). Draws come from the stream (`seed`, "known circuit").
    ///
    /// # Errors
    /// [`Error::Data`] if no counterfactual is found, or the circuit gives another answer than its task.
    pub fn prompts(&self, n: u64, seed: u64) -> Result<Vec<Prompt>> {
        let mut rng = stream(seed, "known circuit");
        let one = |number: u64| {
            let clean = self.kind.draw(&mut rng);
            let clean_run = self.wiring.run(&clean.words);
            if self.wiring.answer(&clean_run) != Some(clean.answer) {
                return Err(Error::Data(format!("the circuit does not answer prompt {number}")));
            }
            let other =
                (0..TRIES).map(|_| self.kind.draw(&mut rng)).find(|other| self.are_pair(&clean, &clean_run, other));
            let other = other.ok_or_else(|| Error::Data("no counterfactual of this prompt can be drawn".to_owned()))?;
            let spans = clean.spans.iter().map(|&(name, at)| (name.to_owned(), (at as u32, at as u32 + 1))).collect();
            Ok(Prompt {
                task: self.kind.name().to_owned(),
                template: self.kind.name().to_owned(),
                group: number.to_string(),
                counterfactuals: vec![self.version(&other, clean.answer, &spans)],
                clean: self.version(&clean, other.answer, &spans),
            })
        };
        (0..n).map(one).collect()
    }

    /// Whether one may be the counterfactual of the other.
    fn are_pair(&self, clean: &Draw, clean_run: &Stream, other: &Draw) -> bool {
        if clean.answer == other.answer || !self.kind.apart(clean, other) {
            return false;
        }
        let run = self.wiring.run(&other.words);
        self.wiring.on_the_way().into_iter().all(|var| self.wiring.differs(var, clean_run, &run))
    }

    fn version(&self, draw: &Draw, other_answer: usize, spans: &BTreeMap<String, (u32, u32)>) -> Version {
        let words: Vec<&str> = draw.words.iter().map(|&word| self.wiring.words[word].as_str()).collect();
        let id = |word: usize| word as i32 + 1;
        Version {
            text: words.join(" "),
            ids: [0].into_iter().chain(draw.words.iter().map(|&word| id(word))).collect(),
            right: vec![id(draw.answer)],
            wrong: vec![id(draw.wrong.unwrap_or(other_answer))],
            spans: spans.clone(),
            variables: draw.variables.clone(),
        }
    }
}
