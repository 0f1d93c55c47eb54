//! What a stage finds wrong with its config or inputs at plan time, before the engine adds the place in the file.

/// Where in a stage's declaration a problem lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A path into `with:`, such as `sae.k` or `hooks[1]`; empty for the whole of it.
    Config(String),
    /// A port under `inputs:`, and which of what is connected to it.
    Input(String, usize),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: At,
    /// What is wrong, a clause without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// One or more things that are wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No problem yet; fill with [`Problems::push`] and [`Problems::check`], then [`Problems::finish`].
    pub fn none() -> Self {
        Self::default()
    }

    /// One problem at a path of the config.
    pub fn config(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Problem { at: At::Config(path.into()), message: message.into(), help: None }])
    }

    /// One problem with what is connected to a port.
    pub fn input(port: impl Into<String>, message: impl Into<String>) -> Self {
        Self::member(port, 0, message)
    }

    /// One problem with one of the artifacts that are connected to a port, by its place among them.
    pub fn member(port: impl Into<String>, place: usize, message: impl Into<String>) -> Self {
        Self(vec![Problem { at: At::Input(port.into(), place), message: message.into(), help: None }])
    }

    /// Says of the last problem what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.help = Some(help.into());
        }
        self
    }

    /// Adds more problems.
    pub fn push(&mut self, more: Problems) {
        self.0.extend(more.0);
    }

    /// Adds what a check found.
    pub fn check<T>(&mut self, checked: Result<T, Problems>) {
        self.push(checked.err().unwrap_or_default());
    }

    /// `Ok` when nothing was found.
    pub fn finish(self) -> Result<(), Problems> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The problems in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}
