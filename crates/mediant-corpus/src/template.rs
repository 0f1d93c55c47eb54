//! Sentence templates: literal words and `{slots}`, parsed once.

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, MOODS, NAMES, Name, OBJECTS, PLACES, QUALITIES, literal_class};

/// A parsed template. Its id names it in labels and task sets.
pub(crate) struct Template {
    pub(crate) id: String,
    pieces: Vec<Piece>,
}

enum Piece {
    Punctuation(String),
    Word(String, Class),
    Slot(String),
}

/// What goes into a slot: a word, its labels and, if it is the answer of a task, the mistake.
#[derive(Clone)]
pub(crate) struct Fill {
    word: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    wrong: Option<&'static str>,
}

impl Fill {
    pub(crate) fn new(word: &'static str, class: Class) -> Self {
        Self { word, labels: vec![("word_class", class.name())], wrong: None }
    }

    /// Adds a label to the word.
    pub(crate) fn with(mut self, variable: &'static str, value: &'static str) -> Self {
        self.labels.push((variable, value));
        self
    }

    /// Makes the word the answer of the sentence's task.
    pub(crate) fn answer(mut self, wrong: &'static str) -> Self {
        self.wrong = Some(wrong);
        self
    }
}

impl Template {
    fn new(id: String, source: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let split = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
            if first == '{' {
                let end = rest.find('}').unwrap_or(rest.len());
                pieces.push(Piece::Slot(rest[1..end].to_owned()));
                rest = &rest[end + 1..];
            } else if first.is_alphabetic() {
                let (word, after) = rest.split_at(split(char::is_alphabetic));
                pieces.push(Piece::Word(word.to_owned(), literal_class(word)));
                rest = after;
            } else {
                let (marks, after) = rest.split_at(split(|c| c != '{' && !c.is_alphabetic()));
                pieces.push(Piece::Punctuation(marks.to_owned()));
                rest = after;
            }
        }
        Self { id, pieces }
    }

    /// Writes the sentence; `fill` says what goes into each slot, in order.
    pub(crate) fn write(&'static self, out: &mut Sentence, mut fill: impl FnMut(&str) -> Fill) {
        out.template = &self.id;
        for piece in &self.pieces {
            match piece {
                Piece::Punctuation(marks) => out.punctuation(marks),
                Piece::Word(word, class) => out.word(word, &[("word_class", class.name())]),
                Piece::Slot(slot) => {
                    let fill = fill(slot);
                    if let Some(wrong) = fill.wrong {
                        out.ask(fill.word, wrong);
                    }
                    out.word(fill.word, &fill.labels);
                }
            }
        }
        out.about("template", &self.id);
    }
}

/// A first name with its gender.
pub(crate) fn name(name: Name) -> Fill {
    Fill::new(name.text, Class::Name).with("gender", name.gender.name())
}

/// The slots that mean the same in every template.
pub(crate) fn common(slot: &str, draw: &mut Draw) -> Fill {
    match slot {
        "name" => name(draw.pick(&NAMES)),
        "place" => Fill::new(draw.pick(&PLACES), Class::Noun).with("role", "place"),
        "object" => Fill::new(draw.pick(&OBJECTS), Class::Noun).with("role", "object"),
        "mood" => Fill::new(draw.pick(&MOODS), Class::Adjective),
        "quality" => Fill::new(draw.pick(&QUALITIES), Class::Adjective),
        _ => unreachable!("templates are constants, whose slots are all filled: {slot}"),
    }
}

/// The templates of one kind of sentence, seen in training or reserved.
pub(crate) struct Templates {
    pub(crate) train: Vec<Template>,
    pub(crate) held_out: Vec<Template>,
}

/// A part of a template: its name, its text, whether it is reserved for held-out evaluation.
pub(crate) type Part = (&'static str, &'static str, bool);

/// Shorthand for a part that training sees.
pub(crate) const fn seen(name: &'static str, text: &'static str) -> Part {
    (name, text, false)
}

/// Shorthand for a part that only held-out evaluation sees.
pub(crate) const fn reserved(name: &'static str, text: &'static str) -> Part {
    (name, text, true)
}

impl Templates {
    /// The templates that a split may use.
    pub(crate) fn of(&self, split: Split) -> &[Template] {
        match split {
            Split::Train => &self.train,
            Split::HeldOut => &self.held_out,
        }
    }

    /// Those that a split may use, or all.
    pub(crate) fn any(&self, split: Option<Split>) -> Vec<&Template> {
        match split {
            Some(split) => self.of(split).iter().collect(),
            None => self.train.iter().chain(&self.held_out).collect(),
        }
    }

    /// All combinations of parts, one from each list. One is held out when any of its parts is.
    pub(crate) fn combine(kind: &str, lists: &[&[Part]]) -> Self {
        let mut all = vec![(kind.to_owned(), String::new(), false)];
        for list in lists {
            let extend = |(id, text, reserved): &(String, String, bool)| {
                list.iter()
                    .map(|part| (format!("{id}.{}", part.0), format!("{text}{}", part.1), *reserved || part.2))
                    .collect::<Vec<_>>()
            };
            all = all.iter().flat_map(extend).collect();
        }
        let (held_out, train) = all.into_iter().partition::<Vec<_>, _>(|(_, _, reserved)| *reserved);
        let parse = |list: Vec<(String, String, bool)>| {
            list.into_iter().map(|(id, text, _)| Template::new(id, &text)).collect()
        };
        Self { train: parse(train), held_out: parse(held_out) }
    }
}
