use std::collections::BTreeMap;

use mediant_artifact::{Prompt, Version};
use mediant_tensor::random::{below, permutation, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the counterfactual, in which one of the two numbers is another.
pub const ANOTHER: &str = "another";

/// Spans of every prompt: the two numbers.
pub const SPANS: [&str; 2] = ["a", "b"];

/// Causal variables of every prompt: the two numbers and the answer.
pub const VARIABLES: [&str; 3] = ["a", "b", "sum"];

/// One of the two numbers of a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// The first.
    A,
    /// The second.
    #[default]
    B,
}

impl Operand {
    /// The name of its span, and of its variable.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A part of the numbers; the parts have no number in common, whatever the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// One half of them, the larger one of an odd modulus.
    Train,
    /// The other half.
    HeldOut,
}

/// The numbers below `modulus` of a part, or all of them, rising. Which are of a part is drawn once for every modulus.
pub fn numbers(modulus: usize, part: Option<Part>) -> Vec<usize> {
    let order = permutation(&mut stream(0, "parts of the numbers"), modulus);
    let (train, held_out) = order.split_at(modulus.div_ceil(2));
    let mut numbers = match part {
        None => order,
        Some(Part::Train) => train.to_vec(),
        Some(Part::HeldOut) => held_out.to_vec(),
    };
    numbers.sort_unstable();
    numbers
}

/// `n` prompts `[a, b]`, drawn with replacement, whose right answer is (a + b) mod `modulus`. In the counterfactual [`ANOTHER`] of each
/// the operand `changes` is another number, uniform over the others. In both it is one of `among`, of at least two numbers below
/// `modulus`; the other operand is any number. The wrong answer is the counterfactual's right one, and the other way around. Prompts
/// with the same number as this operand are one group: they have the same activation there. Draws come from the stream (`seed`, "sums").
pub fn sums(modulus: usize, changes: Operand, among: &[usize], n: u64, seed: u64) -> Vec<Prompt> {
    let mut rng = stream(seed, "sums");
    let one = |_| {
        let kept = below(&mut rng, modulus as u64) as usize;
        let place = below(&mut rng, among.len() as u64) as usize;
        let step = 1 + below(&mut rng, among.len() as u64 - 1) as usize;
        let (from, to) = (among[place], among[(place + step) % among.len()]);
        let pair = |changed| match changes {
            Operand::A => [changed, kept],
            Operand::B => [kept, changed],
        };
        let [clean, other] = [from, to].map(pair);
        Prompt {
            task: "modular_addition".to_owned(),
            template: "a b".to_owned(),
            group: from.to_string(),
            counterfactuals: vec![version(other, clean, modulus)],
            clean: version(clean, other, modulus),
        }
    };
    (0..n).map(one).collect()
}

/// A sum, whose wrong answer is that of another.
fn version(pair: [usize; 2], other: [usize; 2], modulus: usize) -> Version {
    let [sum, wrong] = [pair, other].map(|[a, b]| (a + b) % modulus);
    let values = [pair[0], pair[1], sum].map(|value| value.to_string());
    Version {
        text: format!("{} {}", pair[0], pair[1]),
        ids: pair.map(|number| number as i32).to_vec(),
        right: vec![sum as i32],
        wrong: vec![wrong as i32],
        spans: SPANS.iter().zip(0..).map(|(name, at)| ((*name).to_owned(), (at, at + 1))).collect(),
        variables: VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).collect::<BTreeMap<_, _>>(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Operand, Part, numbers, sums};

    #[test]
    fn one_number_changes_and_with_it_the_answer() {
        let among = numbers(11, Some(Part::HeldOut));
        assert_eq!(among.len(), 5);
        for (changes, at) in [(Operand::A, 0), (Operand::B, 1)] {
            let prompts = sums(11, changes, &among, 200, 3);
            assert_eq!((prompts.len(), &prompts), (200, &sums(11, changes, &among, 200, 3)));
            for prompt in &prompts {
                let (clean, other) = (&prompt.clean, &prompt.counterfactuals[0]);
                assert!(clean.ids[1 - at] == other.ids[1 - at] && clean.ids[at] != other.ids[at]);
                assert!([clean, other].iter().all(|version| among.contains(&(version.ids[at] as usize))));
                assert!([clean, other].iter().all(|version| version.right == [(version.ids[0] + version.ids[1]) % 11]));
                assert!(clean.wrong == other.right && other.wrong == clean.right && clean.right != clean.wrong);
                assert_eq!(
                    (prompt.group.as_str(), &clean.variables["sum"]),
                    (&*clean.ids[at].to_string(), &clean.right[0].to_string())
                );
            }
        }
    }

    #[test]
    fn parts_are_all_the_numbers_and_have_none_in_common() {
        for modulus in [4, 59] {
            let [train, held_out] = [Part::Train, Part::HeldOut].map(|part| numbers(modulus, Some(part)));
            let mut all = [train.clone(), held_out].concat();
            all.sort_unstable();
            assert!(all == numbers(modulus, None) && train.len() == modulus.div_ceil(2));
        }
    }
}
