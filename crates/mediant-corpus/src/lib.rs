//! A grammar of short English sentences with known structure, for training small language models whose circuits are worth finding.
//!
//! [`Corpus`] gives documents of one to six sentences, each with the latent variables it was made from as labels over byte ranges;
//! [`tasks`] gives the questions that go with it. Both are the same for the same seed on every machine.
//!
//! # Kinds of sentence
//!
#![doc = include_str!("kinds.md")]
//!
//! The subjects of `pronoun` sentences are drawn by Zipf's law, everything else uniformly but for what is said above.
//!
//! # Variables
//!
//! | variable | over | values |
//! |---|---|---|
//! | `kind`, `template` | a sentence | as above; the template's id |
//! | `word_class` | a word | name, noun, verb, adjective, adverb, preposition, determiner, pronoun, conjunction, number, country, capital, fragment |
//! | `role` | a name, noun or pronoun | indirect_object, subject, attractor, antecedent, distractor, pronoun, object, place |
//! | `gender` | a name, role noun or pronoun; a pronoun sentence | female, male |
//! | `number` | a noun or verb | singular, plural |
//! | `order`, `indirect_object`, `subject` | an `ioi` sentence | ABBA, BABA, ABC (a third person gives); names |
//! | `subject_number`, `attractor_number`, `attractors` | an `agreement` sentence | number of the subject, of the last attractor; 1 or 2 |
//! | `antecedent` | a pronoun; a pronoun sentence | the name or noun it stands for |
//! | `country`, `capital` | the word; a `capitals` sentence | the word |
//! | `operand`, `sum` | a number; the sum also over a `sums` sentence | the number |
//! | `position`, `repeat` | an item of a pattern | index in the pattern; 0 at first, then 1, 2 |
//! | `period` | an `induction` sentence | length of the pattern |
//!
//! # Prompts
//!
//! [`PromptMaker`] asks the questions with counterfactuals, in words that a given tokenizer has as one token each:
//!
#![doc = include_str!("prompts.md")]
//!
//! # Example
//!
//! ```
//! let document = mediant_corpus::Corpus::new(0, 1000).next().expect("a thousand sentences make a document");
//! for label in &document.labels {
//!     let words = &document.text[label.start as usize..label.end as usize];
//!     println!("{words:?} has {} = {}", label.variable, label.value);
//! }
//! ```

mod corpus;
mod document;
mod draw;
mod kinds;
mod lexicon;
mod prompts;
mod task;
mod template;

pub use corpus::Corpus;
pub use document::{Document, Label};
pub use prompts::{Mark, PromptMaker, PromptOptions, PromptTask, PromptText, TooFew, VersionText, Vocabulary};
pub use task::{TaskItem, tasks};

/// The kinds of sentence with their shares and what is held out of each, as Markdown: a table and what held out means.
pub const KINDS: &str = include_str!("kinds.md");

/// The tasks of [`PromptMaker`] with their marks and counterfactuals, as Markdown.
pub const PROMPTS: &str = include_str!("prompts.md");

/// What may be shown in training, or what is reserved for evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Seen in training.
    Train,
    /// Reserved.
    HeldOut,
}

impl Split {
    /// `train` or `held_out`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held_out",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::Train => "task train",
            Self::HeldOut => "task held_out",
        }
    }
}
