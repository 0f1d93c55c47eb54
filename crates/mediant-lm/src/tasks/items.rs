//! Task items, from a file or a table.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use mediant_artifact::Artifact;
use serde::Deserialize;

use crate::text::text_lines;
use crate::{Error, Result};

/// A prompt with a right and a wrong continuation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TaskItem {
    /// The text before; empty for a minimal pair of whole sentences.
    #[serde(default)]
    pub prompt: String,
    /// The right continuation, with its leading space where one belongs.
    pub right: String,
    /// The wrong one.
    pub wrong: String,
    /// Name of the task.
    #[serde(default = "unnamed")]
    pub task: String,
    /// Part of the task set, `held_out` for example.
    #[serde(default)]
    pub split: Option<String>,
    /// What items share that makes them alike: the template. Intervals count groups, not items.
    #[serde(default)]
    pub group: Option<String>,
    /// What may make an item hard; accuracies are given by it too.
    #[serde(default)]
    pub condition: Option<String>,
}

fn unnamed() -> String {
    "task".to_owned()
}

/// The items of a JSONL file: objects with `right`, `wrong` and, as wanted, `prompt`, `task`, `split`, `group`, `condition`. Other
/// fields are ignored, blank lines passed over.
///
/// # Errors
/// [`Error::Source`] with file and line for a line that is no item, and for a file without any.
pub fn read_items(path: &Path) -> Result<Vec<TaskItem>> {
    let mut items = Vec::new();
    for line in text_lines(path)? {
        let (number, line) = line?;
        if !line.trim().is_empty() {
            let wrong = |why: String| Error::source(path, Some(number), why);
            let item: TaskItem = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            check(&item).map_err(wrong)?;
            items.push(item);
        }
    }
    if items.is_empty() { Err(Error::source(path, None, "no items")) } else { Ok(items) }
}

/// The items of a table artifact with the columns of [`TaskItem`].
///
/// # Errors
/// [`Error::Tokens`] if `right` or `wrong` is missing or null, or a column is not text.
pub fn table_items(artifact: &Artifact) -> Result<Vec<TaskItem>> {
    let mut items = Vec::new();
    for batch in artifact.batches("rows")? {
        let batch = batch?;
        let [prompt, right, wrong, task, split, group, condition] =
            ["prompt", "right", "wrong", "task", "split", "group", "condition"].map(|name| texts(&batch, name));
        let (prompt, right, wrong, task) = (prompt?, right?, wrong?, task?);
        let (split, group, condition) = (split?, group?, condition?);
        for row in 0..batch.num_rows() {
            let needed = |column: &[Option<String>], name| {
                let missing = || Error::Tokens(format!("item {}: no `{name}`", items.len()));
                column[row].clone().ok_or_else(missing)
            };
            let item = TaskItem {
                prompt: prompt[row].clone().unwrap_or_default(),
                right: needed(&right, "right")?,
                wrong: needed(&wrong, "wrong")?,
                task: task[row].clone().unwrap_or_else(unnamed),
                split: split[row].clone(),
                group: group[row].clone(),
                condition: condition[row].clone(),
            };
            check(&item).map_err(|why| Error::Tokens(format!("item {}: {why}", items.len())))?;
            items.push(item);
        }
    }
    Ok(items)
}

fn check(item: &TaskItem) -> Result<(), String> {
    if item.right == item.wrong { Err(format!("`right` and `wrong` are both {:?}", item.right)) } else { Ok(()) }
}

/// A column as text; nulls where there is none.
fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<Option<String>>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(vec![None; batch.num_rows()]) };
    if !matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Null) {
        return Err(Error::Tokens(format!("column `{name}` of the items is {}, not text", column.data_type())));
    }
    let texts = cast(column, &DataType::Utf8).map_err(|error| Error::Tokens(format!("column `{name}`: {error}")))?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}
