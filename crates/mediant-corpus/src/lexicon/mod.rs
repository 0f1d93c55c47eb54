//! The vocabulary: classes of words, the lists, and what each task holds out.

mod words;

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::Split;

/// What sort of word a word is: the value of the variable `word_class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Name,
    Noun,
    Verb,
    Adjective,
    Adverb,
    Preposition,
    Determiner,
    Pronoun,
    Conjunction,
    Number,
    Country,
    Capital,
    Fragment,
}

impl Class {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Noun => "noun",
            Self::Verb => "verb",
            Self::Adjective => "adjective",
            Self::Adverb => "adverb",
            Self::Preposition => "preposition",
            Self::Determiner => "determiner",
            Self::Pronoun => "pronoun",
            Self::Conjunction => "conjunction",
            Self::Number => "number",
            Self::Country => "country",
            Self::Capital => "capital",
            Self::Fragment => "fragment",
        }
    }
}

/// Grammatical gender of a name or noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gender {
    Female,
    Male,
}

impl Gender {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Female => "female",
            Self::Male => "male",
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Female => Self::Male,
            Self::Male => Self::Female,
        }
    }

    /// Of a pair (female, male).
    pub(crate) const fn choose<T: Copy>(self, pair: (T, T)) -> T {
        match self {
            Self::Female => pair.0,
            Self::Male => pair.1,
        }
    }
}

/// Grammatical number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Singular,
    Plural,
}

impl Number {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Singular => "singular",
            Self::Plural => "plural",
        }
    }

    /// Of a pair (singular, plural): the right one, then the other.
    pub(crate) const fn order<T: Copy>(self, pair: (T, T)) -> (T, T) {
        match self {
            Self::Singular => pair,
            Self::Plural => (pair.1, pair.0),
        }
    }
}

/// A pair of forms: (singular, plural), (female, male) or (country, capital).
pub(crate) type Pair = (&'static str, &'static str);

fn list(words: &'static str) -> Vec<&'static str> {
    words.split_whitespace().collect()
}

fn pairs(words: &'static str) -> Vec<Pair> {
    words.split_whitespace().filter_map(|pair| pair.split_once('/')).collect()
}

/// People by what they are, (female, male).
pub(crate) static ROLES: LazyLock<Vec<Pair>> = LazyLock::new(|| pairs(words::ROLES));
/// Nouns, (singular, plural).
pub(crate) static NOUNS: LazyLock<Vec<Pair>> = LazyLock::new(|| pairs(words::NOUNS));
/// What lasts some years.
pub(crate) static EVENTS: LazyLock<Vec<&str>> = LazyLock::new(|| list(words::EVENTS));
/// Countries and their capitals.
pub(crate) static CAPITALS: LazyLock<Vec<Pair>> = LazyLock::new(|| pairs(words::CAPITALS));
/// What people give and own.
pub(crate) static OBJECTS: LazyLock<Vec<&str>> = LazyLock::new(|| list(words::OBJECTS));
/// Where people go.
pub(crate) static PLACES: LazyLock<Vec<&str>> = LazyLock::new(|| list(words::PLACES));
/// Adjectives for people.
pub(crate) static MOODS: LazyLock<Vec<&str>> = LazyLock::new(|| list(words::MOODS));
/// Adjectives for anything.
pub(crate) static QUALITIES: LazyLock<Vec<&str>> = LazyLock::new(|| list(words::QUALITIES));
/// Numerals 0 to 99: operands, sums, and the values of counting variables.
static NUMERALS: LazyLock<Vec<String>> = LazyLock::new(|| (0..100).map(|n| n.to_string()).collect());

/// A numeral as a label's value. `n` is under 100 everywhere in the grammar.
pub(crate) fn numeral(n: usize) -> &'static str {
    &NUMERALS[n]
}

/// The class of a word that stands literally in a template.
pub(crate) fn literal_class(word: &str) -> Class {
    let found = words::LITERALS.iter().find(|(_, words)| words.split_whitespace().any(|known| known == word));
    found.unwrap_or_else(|| unreachable!("templates are constants, whose words are all listed: {word}")).0
}

/// A first name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    pub(crate) gender: Gender,
}

/// Words of one sort, split into those that a task's training form may use and those it never shows.
pub(crate) struct Reserve<T> {
    pub(crate) train: Vec<T>,
    pub(crate) held_out: Vec<T>,
}

impl<T> Reserve<T> {
    /// The words that a split may use.
    pub(crate) fn of(&self, split: Split) -> &[T] {
        match split {
            Split::Train => &self.train,
            Split::HeldOut => &self.held_out,
        }
    }

    /// The words that a split may use, or all.
    pub(crate) fn any(&self, split: Option<Split>) -> Vec<T>
    where
        T: Copy,
    {
        match split {
            Some(split) => self.of(split).to_vec(),
            None => self.train.iter().chain(&self.held_out).copied().collect(),
        }
    }

    /// Holds out the items whose index is `phase` modulo `period`.
    pub(crate) fn every(items: impl IntoIterator<Item = T>, period: usize, phase: usize) -> Self {
        let mut reserve = Self { train: Vec::new(), held_out: Vec::new() };
        for (index, item) in items.into_iter().enumerate() {
            if index % period == phase {
                reserve.held_out.push(item);
            } else {
                reserve.train.push(item);
            }
        }
        reserve
    }
}

/// All names, female and male in turn.
pub(crate) static NAMES: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let of = |gender| move |text| Name { text, gender };
    let female = list(words::FEMALE).into_iter().map(of(Gender::Female));
    let male = list(words::MALE).into_iter().map(of(Gender::Male));
    female.zip(male).flat_map(|(female, male)| [female, male]).collect()
});

fn names_every(period: usize, phase: usize) -> Reserve<Name> {
    let pairs = NAMES.chunks_exact(2).map(<[Name]>::to_vec);
    let Reserve { train, held_out } = Reserve::every(pairs, period, phase);
    Reserve { train: train.concat(), held_out: held_out.concat() }
}

/// Names for indirect objects: every tenth pair is never one of two people in that form. Mary and John are held out.
pub(crate) static IOI_NAMES: LazyLock<Reserve<Name>> = LazyLock::new(|| names_every(10, 0));

/// Names for pronouns: every tenth pair never meets he or she; their gender shows in "Anna is a girl" and "Anna likes her hat".
pub(crate) static PRONOUN_NAMES: LazyLock<Reserve<Name>> = LazyLock::new(|| names_every(10, 1));

/// Subjects across attractors: every fifth noun is never one.
pub(crate) static SUBJECTS: LazyLock<Reserve<Pair>> = LazyLock::new(|| Reserve::every(pairs(words::NOUNS), 5, 0));

/// All words: what repeated patterns are drawn from.
pub(crate) static PATTERN_WORDS: LazyLock<Vec<(&str, Class)>> = LazyLock::new(|| {
    let both = |pairs: &[Pair], first: Class, second: Class| {
        pairs.iter().flat_map(|&(a, b)| [(a, first), (b, second)]).collect::<Vec<_>>()
    };
    let each = |words: &[&'static str], class: Class| words.iter().map(|&word| (word, class)).collect::<Vec<_>>();
    let mut words = NAMES.iter().map(|name| (name.text, Class::Name)).collect::<Vec<_>>();
    words.extend(both(&NOUNS, Class::Noun, Class::Noun));
    words.extend(both(&ROLES, Class::Noun, Class::Noun));
    words.extend(both(&CAPITALS, Class::Country, Class::Capital));
    words.extend(each(&OBJECTS, Class::Noun));
    words.extend(each(&PLACES, Class::Noun));
    words.extend(each(&MOODS, Class::Adjective));
    words.extend(each(&QUALITIES, Class::Adjective));
    words.extend(words::LITERALS.iter().flat_map(|&(class, words)| each(&list(words), class)));
    words.extend((0..25).map(|n| (numeral(n), Class::Number)));
    let mut seen = HashSet::new();
    words.retain(|(word, _)| seen.insert(*word));
    words
});
