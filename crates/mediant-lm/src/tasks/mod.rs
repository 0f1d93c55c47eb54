//! Task sets: does a model prefer the right continuation to the wrong one?
//!
//! An item is a prompt with two continuations. With an empty prompt the two are whole sentences, a minimal pair.

mod items;
mod judge;
mod summary;

pub use items::{TaskItem, read_items, table_items};
pub use judge::{Verdict, judge};
pub use summary::{JUDGED_COLUMNS, Summary, judged_rows, summarize, summarize_deltas};
