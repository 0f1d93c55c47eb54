//! Which positions of a sequence are meant.

use std::collections::BTreeMap;
use std::fmt;

use mediant_tensor::Compute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Batch, Error, Result};

/// Named parts of a sequence: token positions `start..end`.
pub type Spans = BTreeMap<String, (u32, u32)>;

/// A choice of positions, made for each sequence by its own length and, in prompts, by its named spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Every position.
    #[default]
    All,
    /// The last position.
    Last,
    /// All but the first so many; 1 leaves out a BOS token.
    ExcludeFirst(u32),
    /// These positions; negative ones count from the end, −1 being the last. Those outside a sequence are skipped.
    At(Vec<i32>),
    /// From the first of the two up to but not including the second; negative ones count from the end.
    Range(i32, i32),
    /// The positions of this span of a prompt; none where the prompt does not have it.
    Span(String),
    /// All positions but those of this span of a prompt.
    ExceptSpan(String),
}

impl Positions {
    /// Whether `position` is meant in a prompt of `len` tokens with these spans. A span that the prompt does not have is
    /// nowhere in it.
    pub fn includes_in(&self, position: usize, len: usize, spans: &Spans) -> bool {
        let inside = |name| spans.get(name).is_some_and(|&(from, to)| (from as usize..to as usize).contains(&position));
        match self {
            Self::Span(name) => inside(name),
            Self::ExceptSpan(name) => !inside(name),
            _ => self.includes(position, len),
        }
    }

    /// Whether `position` is meant in a sequence of `len` tokens. Spans are not: see [`Self::includes_in`].
    pub fn includes(&self, position: usize, len: usize) -> bool {
        let (from_start, from_end) = (position as i64, position as i64 - len as i64);
        let reached = |at: i32| if at < 0 { from_end >= i64::from(at) } else { from_start >= i64::from(at) };
        match self {
            Self::All => true,
            Self::Last => position + 1 == len,
            Self::ExcludeFirst(n) => position >= *n as usize,
            Self::At(list) => list.iter().any(|&at| i64::from(at) == from_start || i64::from(at) == from_end),
            Self::Range(from, to) => reached(*from) && !reached(*to),
            Self::Span(_) | Self::ExceptSpan(_) => false,
        }
    }

    /// For each row of a batch, whether it is meant.
    ///
    /// # Errors
    /// [`Error::Hook`] for a span of sequences that are no prompts.
    pub fn rows<C: Compute>(&self, batch: &Batch<C>) -> Result<Vec<bool>> {
        let mut rows = Vec::with_capacity(batch.rows());
        for (index, s) in batch.sequences().iter().enumerate() {
            let positions = s.past..s.past + s.len;
            match self.span() {
                None => rows.extend(positions.map(|position| self.includes(position, s.past + s.len))),
                Some(name) => {
                    let spans = batch.spans().get(index);
                    let spans = spans.ok_or_else(|| Error::Hook(format!("no sequence here has a span `{name}`")))?;
                    rows.extend(positions.map(|at| self.includes_in(at, s.past + s.len, spans)));
                }
            }
        }
        Ok(rows)
    }

    /// The span that is named, if one is.
    pub fn span(&self) -> Option<&str> {
        match self {
            Self::Span(name) | Self::ExceptSpan(name) => Some(name),
            _ => None,
        }
    }

    /// Whether some position is counted from the end, so that it moves as a text grows.
    pub fn counts_from_end(&self) -> bool {
        match self {
            Self::Last => true,
            Self::At(list) => list.iter().any(|at| *at < 0),
            Self::Range(from, to) => *from < 0 || *to < 0,
            Self::All | Self::ExcludeFirst(_) | Self::Span(_) | Self::ExceptSpan(_) => false,
        }
    }

    /// The first of the listed positions that no sequence of up to `context` tokens has, by its place in the list.
    pub fn out_of_reach(&self, context: usize) -> Option<(usize, i32)> {
        let Self::At(list) = self else { return None };
        let reached = |at: i64| if at < 0 { -at <= context as i64 } else { at < context as i64 };
        list.iter().copied().enumerate().find(|(_, at)| !reached(i64::from(*at)))
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::ExcludeFirst(n) => write!(f, "exclude_first {n}"),
            Self::At(list) => write!(f, "at {list:?}"),
            Self::Range(from, to) => write!(f, "range {from}..{to}"),
            Self::Span(name) => write!(f, "span {name}"),
            Self::ExceptSpan(name) => write!(f, "except_span {name}"),
        }
    }
}
