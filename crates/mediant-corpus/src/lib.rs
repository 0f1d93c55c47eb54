//! A grammar of short English sentences with known structure, for training small language models whose circuits are worth finding.
//!
//! [`Corpus`] gives documents of one to six sentences, each with the latent variables it was made from as labels over byte ranges;
//! [`tasks`] gives the questions that go with it. Both are the same for the same seed on every machine.
//!
//! # Kinds of sentence
//!
//! | kind | example | share of sentences | held out |
//! |---|---|---|---|
//! | `ioi` | When Anna and Paul went to the store, Paul gave a drink to Anna. | 18 % | every tenth pair of names (Mary and John among them); 3 openings, 2 actions |
//! | `agreement` | The keys to the cabinet are heavy. | 13 % | every fifth noun as the subject; 1 opening, 3 ways to attach a noun |
//! | `pronoun` | Emma called Mark because she was tired. | 13 % | every tenth pair of names; 2 clauses |
//! | `capitals` | The capital of France is Paris. | 11 % | 6 of 20 phrasings; all 50 facts are seen |
//! | `induction` | lamp Tokyo seven lamp Tokyo seven. | 15 % | every seventh word |
//! | `sums` | 3 plus 4 is 7. | 4 % | every sixth unordered pair of operands; 1 of 5 phrasings |
//! | `plain` | The girl is called Anna. | 26 % | nothing |
//!
//! **What held out means.** A training sentence of a kind never uses what that kind holds out; other kinds may, so that every word has
//! an embedding. A name held out of `ioi` stands in pronoun sentences and in plain ones where one person is named twice ("Everyone bought a
//! drink for Mary"), one held out of `pronoun` in indirect-object sentences; its gender shows only in plain sentences such as "The girl
//! is called Anna", "Anna likes her hat" and "Anna bought a hat for herself", never beside he or she. A template is held out when any of
//! its parts is. Held-out task items use reserved words in reserved templates; the items of the `train` split use neither.
//!
//! A noun held out of `agreement` stands neither as subject nor as attractor in that form; plain sentences show its number ("The keys at the
//! market are heavy"). Names held out of `ioi` stand beside another person in other plain forms ("Anna knows Paul, and Paul knows Anna").
//! The subjects of `pronoun` sentences follow Zipf's law; all else is drawn uniformly.
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
mod task;
mod template;

pub use corpus::Corpus;
pub use document::{Document, Label};
pub use task::{TaskItem, tasks};

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
