//! Which positions of a sequence are meant.

use std::fmt;

use mediant_tensor::{Compute, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Batch;

/// A choice of positions, made for each sequence by its own length.
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
}

impl Positions {
    /// Whether `position` is meant in a sequence of `len` tokens.
    pub fn includes(&self, position: usize, len: usize) -> bool {
        match self {
            Self::All => true,
            Self::Last => position + 1 == len,
            Self::ExcludeFirst(n) => position >= *n as usize,
            Self::At(list) => {
                let (from_start, from_end) = (position as i64, position as i64 - len as i64);
                list.iter().any(|&at| i64::from(at) == from_start || i64::from(at) == from_end)
            }
        }
    }

    /// The first of the listed positions that no sequence of up to `context` tokens has, by its place in the list.
    pub fn out_of_reach(&self, context: usize) -> Option<(usize, i32)> {
        let Self::At(list) = self else { return None };
        let reached = |at: i64| if at < 0 { -at <= context as i64 } else { at < context as i64 };
        list.iter().copied().enumerate().find(|(_, at)| !reached(i64::from(*at)))
    }

    /// `changed` at the selected rows of a batch, `original` at the others.
    pub fn replace<C: Compute>(&self, original: Tensor<C, 3>, changed: Tensor<C, 3>, batch: &Batch<C>) -> Tensor<C, 3> {
        if *self == Self::All {
            return changed;
        }
        let selected: Vec<bool> = batch
            .sequences()
            .iter()
            .flat_map(|s| (s.past..s.past + s.len).map(move |position| self.includes(position, s.past + s.len)))
            .collect();
        let rows = selected.len();
        let mask =
            Tensor::<C, 3, burn::tensor::Bool>::from_data(TensorData::new(selected, [rows, 1, 1]), &original.device());
        let mask = mask.expand(original.dims());
        original.mask_where(mask, changed)
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::ExcludeFirst(n) => write!(f, "exclude_first {n}"),
            Self::At(list) => write!(f, "at {list:?}"),
        }
    }
}
