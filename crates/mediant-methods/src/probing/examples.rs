//! Labelled spans of documents as questions with training and test examples.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use mediant_artifact::{LabelRow, Labels, TokenSpans, Tokens};
use mediant_tensor::random::{shuffle, stream, unit_f64};

use super::Options;
use crate::{Error, Result};

/// Neighbouring tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) sequence: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Does this variable have this value here? The numbers are places in [`Examples::spans`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    pub(super) variable: String,
    pub(super) value: String,
    pub(super) train: Vec<(usize, bool)>,
    pub(super) test: Vec<(usize, bool)>,
}

/// Everything that is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Examples {
    /// In the order of the sequences, each once.
    pub(super) spans: Vec<Span>,
    /// The document of each.
    pub(super) documents: Vec<u32>,
    pub(super) tasks: Vec<Task>,
    /// Values of variables that had too few examples.
    pub(super) skipped: usize,
}

/// A span, its document, and the value of a variable over it.
#[derive(Clone, Copy)]
struct Candidate<'l> {
    span: Span,
    document: u32,
    value: &'l str,
}

/// A span with its document and whether it is positive.
type Chosen = (Span, u32, bool);

/// Chooses balanced examples of every value of every variable that has enough.
pub(super) fn examples(tokens: &Tokens, spans: &TokenSpans, labels: &Labels, options: &Options) -> Result<Examples> {
    let candidates = candidates(tokens, spans, labels, options)?;
    let mut held_out = HashMap::new();
    let mut is_test = |document: u32| {
        *held_out.entry(document).or_insert_with(|| {
            unit_f64(&mut stream(options.seed, &format!("probe split/{document}"))) < options.test_fraction
        })
    };
    let mut asked: Vec<(&str, &str, [Vec<Chosen>; 2])> = Vec::new();
    let mut skipped = 0;
    for (variable, candidates) in &candidates {
        for value in values(candidates, options.values) {
            // By part (training, test) and answer (no, yes).
            let mut all: [[Vec<&Candidate<'_>>; 2]; 2] = Default::default();
            for candidate in candidates {
                all[usize::from(is_test(candidate.document))][usize::from(candidate.value == value)].push(candidate);
            }
            let mut draws = stream(options.seed, &format!("probe examples/{variable}/{value}"));
            let parts =
                all.into_iter().zip([1.0 - options.test_fraction, options.test_fraction]).map(|(part, share)| {
                    let most = (options.examples as f64 * share / 2.0) as usize;
                    let each = part.iter().map(Vec::len).min().unwrap_or(0).min(most);
                    let chosen = part.into_iter().zip([false, true]).flat_map(|(mut some, positive)| {
                        shuffle(&mut draws, &mut some);
                        some.truncate(each);
                        some.into_iter().map(move |one| (one.span, one.document, positive))
                    });
                    chosen.collect::<Vec<Chosen>>()
                });
            let parts: Vec<Vec<Chosen>> = parts.collect();
            match <[Vec<Chosen>; 2]>::try_from(parts) {
                Ok(parts) if parts.iter().all(|part| part.len() >= 2 * options.least) => {
                    asked.push((variable, value, parts));
                }
                _ => skipped += 1,
            }
        }
    }
    if asked.is_empty() {
        let least = options.least;
        let why = format!(
            "no value of a variable has {least} positive and {least} negative examples in training and test; give more tokens or a lower `least`"
        );
        return Err(Error::Data(why));
    }
    Ok(numbered(asked, skipped))
}

/// The values that are asked for, the most frequent first. Of two values the second is the first's negation.
fn values<'l>(candidates: &[Candidate<'l>], most: usize) -> Vec<&'l str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    candidates.iter().for_each(|candidate| *counts.entry(candidate.value).or_default() += 1);
    if counts.len() == 2 {
        return counts.into_keys().take(1).collect();
    }
    let mut values: Vec<(&str, usize)> = counts.into_iter().collect();
    // Stable: of equally frequent ones the first by name.
    values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    values.into_iter().map(|(value, _)| value).take(most).collect()
}

/// With every span once.
fn numbered(asked: Vec<(&str, &str, [Vec<Chosen>; 2])>, skipped: usize) -> Examples {
    let all: BTreeSet<(Span, u32)> = asked
        .iter()
        .flat_map(|(.., parts)| parts.iter().flatten().map(|(span, document, _)| (*span, *document)))
        .collect();
    let (spans, documents): (Vec<Span>, Vec<u32>) = all.into_iter().unzip();
    let place = |span: &Span| spans.partition_point(|other| other < span);
    let numbers = |part: &Vec<Chosen>| part.iter().map(|(span, _, positive)| (place(span), *positive)).collect();
    let tasks = asked.iter().map(|(variable, value, [train, test])| Task {
        variable: (*variable).to_owned(),
        value: (*value).to_owned(),
        train: numbers(train),
        test: numbers(test),
    });
    let tasks = tasks.collect();
    Examples { spans, documents, tasks, skipped }
}

/// The labelled spans of the wanted variables that lie in one sequence, by variable, in the order of the labels.
fn candidates<'l>(
    tokens: &Tokens,
    spans: &TokenSpans,
    labels: &'l Labels,
    options: &Options,
) -> Result<BTreeMap<&'l str, Vec<Candidate<'l>>>> {
    let pieces = pieces(tokens, spans);
    let mut found: BTreeMap<&str, Vec<Candidate<'l>>> = BTreeMap::new();
    for label in labels.rows() {
        if !options.variables.is_empty() && !options.variables.iter().any(|wanted| wanted == label.variable) {
            continue;
        }
        let own = found.entry(label.variable).or_default();
        let pieces = pieces.get(&label.document).map_or(&[][..], Vec::as_slice);
        if let Some(span) = pieces.iter().find_map(|piece| within(piece, tokens, spans, &label)) {
            own.push(Candidate { span, document: label.document, value: label.value });
        }
    }
    match options.variables.iter().find(|wanted| !found.contains_key(wanted.as_str())) {
        Some(missing) => {
            let mut known: Vec<&str> = labels.rows().map(|label| label.variable).collect();
            known.sort_unstable();
            known.dedup();
            Err(Error::Data(format!("there are no labels of a variable `{missing}`; there are {}", known.join(", "))))
        }
        None => Ok(found),
    }
}

/// Runs of neighbouring tokens of one document whose masks are set: sequence, and place among all tokens.
fn pieces(tokens: &Tokens, spans: &TokenSpans) -> HashMap<u32, Vec<(usize, Range<usize>)>> {
    let mut pieces: HashMap<u32, Vec<(usize, Range<usize>)>> = HashMap::new();
    for sequence in 0..tokens.len() {
        let all = tokens.offsets[sequence]..tokens.offsets[sequence + 1];
        let mut start = all.start;
        for at in all.clone() {
            let goes_on = at + 1 < all.end && tokens.mask[at + 1] && spans.document[at + 1] == spans.document[at];
            if !tokens.mask[at] {
                start = at + 1;
            } else if !goes_on {
                pieces.entry(spans.document[at]).or_default().push((sequence, start..at + 1));
                start = at + 1;
            }
        }
    }
    pieces
}

/// The tokens that a label covers, if all of them are in the piece.
fn within(
    (sequence, piece): &(usize, Range<usize>),
    tokens: &Tokens,
    spans: &TokenSpans,
    label: &LabelRow<'_>,
) -> Option<Span> {
    let (starts, ends) = (&spans.start[piece.clone()], &spans.end[piece.clone()]);
    let (from, to) = match label.span {
        None => (0, piece.len()),
        Some((start, end)) => {
            if starts.first().is_none_or(|first| *first > start) || ends.last().is_none_or(|last| *last < end) {
                return None;
            }
            // A token may begin with the space before the word.
            (ends.partition_point(|token| *token <= start), starts.partition_point(|token| *token < end))
        }
    };
    let first = piece.start - tokens.offsets[*sequence];
    (from < to).then_some(Span { sequence: *sequence, start: first + from, end: first + to })
}
