//! Finished results of a pipeline, as `show`, `query` and `export` name them: `STAGE`, `STAGE.OUTPUT`, `STAGE[axis=label]`,
//! `STAGE.OUTPUT[key]`.

use std::path::PathBuf;

use mediant_artifact::Artifact;
use mediant_engine::{Judge, Known, Output, Plan, Planned, output_name};
use mediant_spec::suggest;

use crate::exit::Failure;

/// The results of a plan that are in the store.
pub(crate) struct Results {
    pub(crate) plan: Plan,
    known: Vec<Option<Known>>,
}

/// One finished artifact.
pub(crate) struct Finished<'a> {
    /// The instance that made it.
    pub(crate) instance: &'a Planned,
    /// Which output it is.
    pub(crate) output: &'a Output,
    /// Whether that is the default output.
    pub(crate) default: bool,
    /// Its key, if the output is keyed, else empty.
    pub(crate) key: &'a str,
    /// Its folder.
    pub(crate) path: PathBuf,
}

impl Results {
    /// Looks up what of a plan is done.
    pub(crate) fn of(plan: Plan) -> Result<Self, Failure> {
        let mut judge = Judge::new(&plan, std::collections::BTreeSet::new(), None)?;
        for index in (0..plan.instances.len()).filter(|index| plan.wanted[*index]) {
            judge.decide(index)?;
        }
        let known = judge.into_known();
        Ok(Self { plan, known })
    }

    /// Every finished artifact, in the order of the plan.
    pub(crate) fn all(&self) -> Vec<Finished<'_>> {
        (0..self.plan.instances.len()).flat_map(|index| self.of_instance(index)).collect()
    }

    /// The artifacts that a selector means; of an instance that is not done, or an output that it does not have, an error.
    pub(crate) fn select(&self, selector: &str) -> Result<Vec<Finished<'_>>, Failure> {
        let Selector { stage, output, key } = Selector::parse(selector);
        let mut found = Vec::new();
        for index in self.plan.select(stage)? {
            let instance = &self.plan.instances[index];
            if self.known[index].is_none() {
                return Err(Failure::Input(format!(
                    "error: {} has no result yet\nhelp: run it first: mediant run {} {stage}\n",
                    instance.label,
                    self.plan.file.display()
                )));
            }
            let names = || instance.outputs.iter().map(|output| output.name.as_str());
            if let Some(name) = output.filter(|name| names().all(|output| output != *name)) {
                let help = suggest(name, names().collect::<Vec<_>>(), "outputs");
                return Err(Failure::Input(format!(
                    "error: {} has no output `{name}`\nhelp: {help}\n",
                    instance.label
                )));
            }
            let wanted = |finished: &Finished<'_>| match output {
                Some(name) => finished.output.name == name && key.is_none_or(|key| finished.key == key),
                None => finished.default,
            };
            let before = found.len();
            found.extend(self.of_instance(index).into_iter().filter(wanted));
            if let (true, Some(key)) = (found.len() == before, key) {
                let keys: Vec<&str> =
                    instance.outputs.iter().flat_map(|output| &output.keys).map(String::as_str).collect();
                let help = suggest(key, keys, "keys");
                return Err(Failure::Input(format!(
                    "error: there is no `[{key}]` of {}\nhelp: {help}\n",
                    instance.label
                )));
            }
        }
        Ok(found)
    }

    fn of_instance(&self, index: usize) -> Vec<Finished<'_>> {
        let instance = &self.plan.instances[index];
        let Some(known) = &self.known[index] else { return Vec::new() };
        let finished = |(output, key): (&'_ Output, &'_ str)| {
            known.output(&output_name(&output.name, key)).map(|output| output.object)
        };
        let first = instance.outputs.first().map(|output| output.name.as_str());
        instance
            .artifacts()
            .filter_map(|(output, key)| {
                let path = self.plan.store.object_path(finished((output, key))?);
                Some(Finished { instance, output, default: first == Some(&output.name), key, path })
            })
            .collect()
    }
}

impl Finished<'_> {
    /// Opens it.
    pub(crate) fn open(&self) -> Result<Artifact, Failure> {
        Ok(Artifact::open(&self.path)?)
    }

    /// `sae[seed=0]`, `tokens.train`, `ln_free.checkpoints[step=100]`.
    pub(crate) fn label(&self) -> String {
        let label = &self.instance.label;
        if self.default && self.key.is_empty() {
            label.clone()
        } else {
            format!("{label}.{}", output_name(&self.output.name, self.key))
        }
    }

    /// Axes with labels, the parts of its key among them.
    pub(crate) fn axes(&self) -> Vec<(String, String)> {
        let pair = |text: &str| text.split_once('=').map(|(axis, label)| (axis.to_owned(), label.to_owned()));
        let key = self.key.split(',').filter_map(pair);
        self.instance.axes.iter().cloned().chain(key).collect()
    }
}

/// `stage[axis=label].output[key]` in its parts.
struct Selector<'a> {
    stage: &'a str,
    output: Option<&'a str>,
    key: Option<&'a str>,
}

impl<'a> Selector<'a> {
    fn parse(text: &'a str) -> Self {
        // Labels may hold dots: the output begins at the first dot outside brackets.
        let mut depth = 0usize;
        let dot = text.char_indices().find(|(_, c)| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            *c == '.' && depth == 0
        });
        let Some((at, _)) = dot else { return Self { stage: text, output: None, key: None } };
        let (stage, output) = (&text[..at], &text[at + 1..]);
        match output.strip_suffix(']').and_then(|output| output.split_once('[')) {
            Some((output, key)) => Self { stage, output: Some(output), key: Some(key) },
            None => Self { stage, output: Some(output), key: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Selector;

    #[test]
    fn selectors() {
        let parts = |text| {
            let Selector { stage, output, key } = Selector::parse(text);
            (stage, output, key)
        };
        assert_eq!(parts("sae"), ("sae", None, None));
        assert_eq!(parts("tokens.train"), ("tokens", Some("train"), None));
        assert_eq!(parts("sae[lr=0.1,seed=0]"), ("sae[lr=0.1,seed=0]", None, None));
        assert_eq!(parts("lm[lr=0.1].checkpoints[step=100]"), ("lm[lr=0.1]", Some("checkpoints"), Some("step=100")));
    }
}
