//! The kinds of sentence, one file each. The same code writes training sentences and the items of task sets.

pub(crate) mod agreement;
pub(crate) mod capitals;
pub(crate) mod induction;
pub(crate) mod ioi;
mod plain;
pub(crate) mod pronoun;
mod sums;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;

/// What a sentence is about; all but `Plain` are tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ioi,
    Agreement,
    Pronoun,
    Induction,
    Capitals,
    Sums,
    Plain,
}

impl Kind {
    /// The kinds that ask a question.
    pub(crate) const TASKS: [Self; 6] =
        [Self::Ioi, Self::Agreement, Self::Pronoun, Self::Induction, Self::Capitals, Self::Sums];

    /// Name of the kind and of its task.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ioi => "ioi",
            Self::Agreement => "agreement",
            Self::Pronoun => "pronoun",
            Self::Induction => "induction",
            Self::Capitals => "capitals",
            Self::Sums => "sums",
            Self::Plain => "plain",
        }
    }

    /// How many of 100 sentences of a corpus are of this kind. Patterns are long: 11 of 100 sentences hold a quarter of the words.
    const fn percent(self) -> usize {
        match self {
            Self::Ioi => 18,
            Self::Agreement => 13,
            Self::Pronoun => 13,
            Self::Induction => 11,
            Self::Capitals => 11,
            Self::Sums => 4,
            Self::Plain => 30,
        }
    }

    /// The kind of a training sentence.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let mut left = draw.below(100);
        for kind in Self::TASKS {
            if left < kind.percent() {
                return kind;
            }
            left -= kind.percent();
        }
        Self::Plain
    }

    /// Writes one sentence.
    pub(crate) fn write(self, split: Split, draw: &mut Draw, out: &mut Sentence) {
        match self {
            Self::Ioi => ioi::write(split, draw, out),
            Self::Agreement => agreement::write(split, draw, out),
            Self::Pronoun => pronoun::write(split, draw, out),
            Self::Induction => induction::write(split, draw, out),
            Self::Capitals => capitals::write(split, draw, out),
            Self::Sums => sums::write(split, draw, out),
            Self::Plain => plain::write(draw, out),
        }
        out.about("kind", self.name());
    }
}
