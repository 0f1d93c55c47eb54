//! What a stage is: a name, a version, a typed config, ports, and functions over them.
//!
//! Everything else that speaks of stages (plan-time checks, the JSON schema, `mediant stages`, the docs pages) is
//! derived from this one trait, so that a new stage is one file and one line in the catalogue.

use std::path::{Path, PathBuf};

use mediant_artifact::{Facts, Kind};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::RunContext;
use crate::error::StageError;
use crate::inputs::InputFacts;
use crate::problem::Problems;

/// One kind of work that a pipeline can ask for with `uses: NAME`. Implemented on unit structs.
pub trait Stage: Copy + Send + Sync + 'static {
    /// The options under `with:`. Its serde form is what enters the key: an option that is left out because of
    /// `skip_serializing_if` is left out of the key as well, which is how an option added later keeps old keys.
    type Config: Serialize + DeserializeOwned + JsonSchema + Send + Sync;

    /// The name after `uses:`.
    const NAME: &'static str;

    /// Raised whenever the same config and inputs would give another result; part of every key.
    const VERSION: u32;

    /// What the stage does, for `mediant stages` and the docs.
    fn docs(&self) -> Docs;

    /// The inputs it takes.
    fn inputs(&self) -> Ports;

    /// The outputs it makes; the first is the one meant by the bare stage name.
    fn outputs(&self, config: &Self::Config) -> Vec<Output>;

    /// The outside files it reads. Their content enters the key in place of the path.
    fn sources(&self, config: &Self::Config) -> Vec<Source> {
        let _ = config;
        Vec::new()
    }

    /// Checks the config by itself: combinations that the types cannot rule out.
    fn check(&self, config: &Self::Config) -> Result<(), Problems> {
        let _ = config;
        Ok(())
    }

    /// What is known of the outputs before anything runs, and whether the inputs fit.
    ///
    /// Reads no artifact; it may read the small headers of outside sources (a `config.json`).
    /// Returns the facts of every output by name; those of one key of a keyed output as `name[key]`.
    fn infer(
        &self,
        config: &Self::Config,
        inputs: &InputFacts,
        sources: &SourcePaths,
    ) -> Result<Vec<(String, Facts)>, Problems>;

    /// What the stage needs while it runs, unless the pipeline says otherwise.
    fn resources(&self, config: &Self::Config, inputs: &InputFacts) -> Resources {
        let _ = (config, inputs);
        Resources::default()
    }

    /// Does the work. Called in a worker process, inside a thread pool of the action's own size.
    fn run(&self, cx: &RunContext<'_, Self::Config>) -> Result<(), StageError>;

    /// The gang of an action: those that are ready, have the same inputs and name the same gang are done together by
    /// [`Stage::run_gang`], where memory allows. Each has its own key and gives the bytes that it would give alone.
    fn gang(&self, config: &Self::Config) -> Option<String> {
        let _ = config;
        None
    }

    /// Does the work of the members of a gang. `done` is called once for each, by its place, as soon as it is over.
    fn run_gang(&self, members: &[RunContext<'_, Self::Config>], done: &mut GangDone<'_>) {
        for (place, cx) in members.iter().enumerate() {
            done(place, self.run(cx));
        }
    }

    /// Whether the stage runs programs of the user's, which a pipeline may do only when it is trusted.
    fn runs_programs(&self) -> bool {
        false
    }
}

/// Takes the result of a member of a gang, by its place.
pub type GangDone<'a> = dyn FnMut(usize, Result<(), StageError>) + Send + 'a;

/// What a stage does, in words.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Docs {
    /// One line without a full stop.
    pub summary: &'static str,
    /// Markdown: formulas, conventions, sources.
    pub details: &'static str,
    /// A YAML fragment, the stage as it would stand under `stages:`.
    pub example: &'static str,
}

/// The inputs of a stage.
#[derive(Debug, Clone, Copy)]
pub enum Ports {
    /// These and no others.
    Fixed(&'static [Port]),
    /// Any names the pipeline likes, of any kind (`uses: command`).
    Open,
}

/// One input.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Port {
    /// The key under `inputs:`.
    pub name: &'static str,
    /// The artifact kinds it takes.
    pub kinds: &'static [Kind],
    /// How many artifacts it takes.
    pub arity: Arity,
    /// What it is for, one sentence.
    pub doc: &'static str,
}

/// How many artifacts a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// Any number, one at least; collects the axes of its producers.
    Many,
    /// Any number, none included; collects the axes of its producers.
    Any,
}

impl Port {
    /// A port that must be given exactly one artifact.
    pub const fn one(name: &'static str, kinds: &'static [Kind], doc: &'static str) -> Self {
        Self { name, kinds, arity: Arity::One, doc }
    }

    /// A port that may be left out.
    pub const fn optional(name: &'static str, kinds: &'static [Kind], doc: &'static str) -> Self {
        Self { name, kinds, arity: Arity::Optional, doc }
    }

    /// A port that collects any number of artifacts, none included.
    pub const fn any(name: &'static str, kinds: &'static [Kind], doc: &'static str) -> Self {
        Self { name, kinds, arity: Arity::Any, doc }
    }

    /// A port that collects artifacts.
    pub const fn many(name: &'static str, kinds: &'static [Kind], doc: &'static str) -> Self {
        Self { name, kinds, arity: Arity::Many, doc }
    }
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The name after the dot in `stage.name`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The keys of a keyed output (`step=100`, …), known from the config; empty when there is just one artifact.
    pub keys: Vec<String>,
    /// What it holds, one sentence.
    pub doc: &'static str,
}

impl Output {
    /// An output that is one artifact.
    pub fn new(name: impl Into<String>, kind: Kind, doc: &'static str) -> Self {
        Self { name: name.into(), kind, keys: Vec::new(), doc }
    }

    /// An output that is one artifact a key.
    pub fn keyed(name: impl Into<String>, kind: Kind, keys: Vec<String>, doc: &'static str) -> Self {
        Self { name: name.into(), kind, keys, doc }
    }
}

/// An outside file or folder that a stage reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The place in the config that holds the path: `source`, `files[0]`.
    pub field: String,
    /// The path as the user wrote it; relative paths are relative to the pipeline file.
    pub path: String,
    /// What may stand there.
    pub what: SourceKind,
}

/// What may stand at a source's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file.
    File,
    /// A folder, of which only files that match one of these globs count.
    Folder(&'static [&'static str]),
    /// Either.
    FileOrFolder(&'static [&'static str]),
}

/// Where the declared sources are on this machine, by their config field.
#[derive(Debug, Clone, Default)]
pub struct SourcePaths(pub(crate) Vec<(String, PathBuf)>);

impl SourcePaths {
    /// The absolute path of the source declared for `field`, if the stage declared one.
    pub fn get(&self, field: &str) -> Option<&Path> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, path)| path.as_path())
    }

    /// Paths for tests of a stage outside the engine.
    pub fn of(paths: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        Self(paths.into_iter().collect())
    }
}

/// What an action holds while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Resources {
    /// Threads of the action's own pool.
    pub cpus: Cpus,
    /// Bytes of memory it may need; 0 when unknown.
    pub memory: u64,
    /// GPUs it occupies when the run is on a GPU.
    pub gpus: u32,
}

/// How many threads an action gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpus {
    /// That many.
    Count(u32),
    /// All that the run has.
    All,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: Cpus::Count(1), memory: 0, gpus: 0 }
    }
}

impl Resources {
    /// For stages whose inner loops fill every core.
    pub const fn all_cpus() -> Self {
        Self { cpus: Cpus::All, memory: 0, gpus: 1 }
    }
}
