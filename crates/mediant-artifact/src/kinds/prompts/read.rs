//! Reading prompts.

use arrow::array::{Int32Array, ListArray, RecordBatch, StringArray, UInt32Array};

use super::super::column::{column, items};
use super::{PROMPTS, Prompt, PromptsMeta, SPANS, VARIABLES, VERSIONS, Version, describe, version_names};
use crate::{Artifact, Error, Kind, Result};

/// Reads prompts, in the order of writing.
///
/// # Errors
/// If the artifact is of another kind, damaged, or holds what [`write_prompts`](super::write_prompts) would refuse.
pub fn read_prompts(artifact: &Artifact) -> Result<(PromptsMeta, Vec<Prompt>)> {
    artifact.expect(Kind::Prompts)?;
    let meta: PromptsMeta = artifact.meta()?;
    let damaged = |why: String| Error::damaged(artifact.dir(), why);
    let names = version_names(&meta.counterfactuals);
    let mut prompts = read_heads(artifact)?;
    let mut versions = Versions { artifact, names: &names, versions: Vec::new() };
    versions.read()?;
    versions.read_spans()?;
    versions.read_variables()?;
    if versions.versions.len() != prompts.len() * names.len() {
        return Err(damaged(format!("{} prompts have {} versions", prompts.len(), versions.versions.len())));
    }
    let mut versions = versions.versions.into_iter();
    for prompt in &mut prompts {
        prompt.clean = versions.next().unwrap_or_default();
        prompt.counterfactuals = versions.by_ref().take(meta.counterfactuals.len()).collect();
    }
    let found = describe(&meta.counterfactuals, meta.tokenizer, meta.vocab_size, meta.prepend_bos, &prompts);
    if found.map_err(damaged)? == meta {
        Ok((meta, prompts))
    } else {
        Err(damaged("its prompts are not those that its meta describes".to_owned()))
    }
}

/// What the table `prompts` says of each.
fn read_heads(artifact: &Artifact) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for batch in artifact.batches(PROMPTS)? {
        let batch = batch?;
        let example = column::<UInt32Array>(&batch, "example")?;
        let text = |name| column::<StringArray>(&batch, name);
        let (task, template, group) = (text("task")?, text("template")?, text("group")?);
        for i in 0..batch.num_rows() {
            if example.value(i) as usize != prompts.len() {
                return Err(Error::damaged(artifact.dir(), "its prompts are not in order"));
            }
            prompts.push(Prompt {
                task: task.value(i).to_owned(),
                template: template.value(i).to_owned(),
                group: group.value(i).to_owned(),
                ..Prompt::default()
            });
        }
    }
    Ok(prompts)
}

/// The versions of all prompts, those of a prompt one after the other.
struct Versions<'a> {
    artifact: &'a Artifact,
    /// Names of the versions of a prompt.
    names: &'a [&'a str],
    versions: Vec<Version>,
}

impl Versions<'_> {
    fn read(&mut self) -> Result<()> {
        for batch in self.artifact.batches(VERSIONS)? {
            let batch = batch?;
            let keys = Keys::of(&batch)?;
            let text = column::<StringArray>(&batch, "text")?;
            let lists = |name| Lists::of(&batch, name);
            let (ids, right, wrong) = (lists("ids")?, lists("right")?, lists("wrong")?);
            for i in 0..batch.num_rows() {
                if self.place(&keys, i) != Some(self.versions.len()) {
                    return Err(self.stray(VERSIONS, &keys, i));
                }
                self.versions.push(Version {
                    text: text.value(i).to_owned(),
                    ids: ids.list(i),
                    right: right.list(i),
                    wrong: wrong.list(i),
                    ..Version::default()
                });
            }
        }
        Ok(())
    }

    fn read_spans(&mut self) -> Result<()> {
        for batch in self.artifact.batches(SPANS)? {
            let batch = batch?;
            let (keys, name) = (Keys::of(&batch)?, column::<StringArray>(&batch, "name")?);
            let number = |name| column::<UInt32Array>(&batch, name);
            let (start, end) = (number("start")?, number("end")?);
            for i in 0..batch.num_rows() {
                let span = (start.value(i), end.value(i));
                let version = self.place(&keys, i).and_then(|place| self.versions.get_mut(place));
                if version.is_none_or(|version| version.spans.insert(name.value(i).to_owned(), span).is_some()) {
                    return Err(self.stray(SPANS, &keys, i));
                }
            }
        }
        Ok(())
    }

    fn read_variables(&mut self) -> Result<()> {
        for batch in self.artifact.batches(VARIABLES)? {
            let batch = batch?;
            let text = |name| column::<StringArray>(&batch, name);
            let (keys, name, value) = (Keys::of(&batch)?, text("name")?, text("value")?);
            for i in 0..batch.num_rows() {
                let (name, value) = (name.value(i).to_owned(), value.value(i).to_owned());
                let version = self.place(&keys, i).and_then(|place| self.versions.get_mut(place));
                if version.is_none_or(|version| version.variables.insert(name, value).is_some()) {
                    return Err(self.stray(VARIABLES, &keys, i));
                }
            }
        }
        Ok(())
    }

    /// Where the version that a row names stands among all.
    fn place(&self, keys: &Keys<'_>, row: usize) -> Option<usize> {
        let name = self.names.iter().position(|name| *name == keys.version.value(row))?;
        Some(keys.example.value(row) as usize * self.names.len() + name)
    }

    fn stray(&self, table: &str, keys: &Keys<'_>, row: usize) -> Error {
        let (example, version) = (keys.example.value(row), keys.version.value(row).escape_debug());
        Error::damaged(
            self.artifact.dir(),
            format!("table `{table}`: a row of example {example}, `{version}`, has no place"),
        )
    }
}

/// The columns that say which version a row is about.
struct Keys<'a> {
    example: &'a UInt32Array,
    version: &'a StringArray,
}

impl<'a> Keys<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self { example: column(batch, "example")?, version: column(batch, "version")? })
    }
}

/// A column of lists of ids.
struct Lists<'a> {
    lists: &'a ListArray,
    items: &'a Int32Array,
}

impl<'a> Lists<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Result<Self> {
        let lists = column::<ListArray>(batch, name)?;
        Ok(Self { lists, items: items(lists, name)? })
    }

    fn list(&self, i: usize) -> Vec<i32> {
        let ends = self.lists.value_offsets();
        self.items.values()[ends[i] as usize..ends[i + 1] as usize].to_vec()
    }
}
