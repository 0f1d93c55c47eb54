//! The list of stages, with their config types erased.

use std::collections::BTreeMap;

use mediant_artifact::Facts;
use mediant_spec::{Diagnostic, Node, PortSignature, Signatures};

use crate::canon::{Canon, CanonError};
use crate::context::{ActionIo, RunContext};
use crate::error::StageError;
use crate::inputs::InputFacts;
use crate::problem::Problems;
use crate::stage::{Arity, Docs, GangDone, Output, Ports, Resources, Source, SourcePaths, Stage};

struct Entry {
    stage: Box<dyn AnyStage>,
    /// The config has a field `seed`, which takes the pipeline's seed by default. Read off the schema once.
    seeded: bool,
}

/// The stages a pipeline can use, by name.
#[derive(Default)]
pub struct Catalogue {
    stages: BTreeMap<&'static str, Entry>,
}

impl Catalogue {
    /// An empty catalogue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage.
    #[must_use]
    pub fn with<S: Stage>(mut self, stage: S) -> Self {
        let seeded = AnyStage::schema(&stage).pointer("/properties/seed").is_some();
        self.stages.insert(S::NAME, Entry { stage: Box::new(stage), seeded });
        self
    }

    /// The stage of a name.
    pub fn get(&self, name: &str) -> Option<&dyn AnyStage> {
        self.stages.get(name).map(|entry| &*entry.stage)
    }

    /// All stages in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &dyn AnyStage> {
        self.stages.values().map(|entry| &*entry.stage)
    }
}

impl Signatures for Catalogue {
    fn ports(&self, uses: &str) -> Option<Vec<PortSignature>> {
        Some(match self.get(uses)?.ports() {
            Ports::Fixed(ports) => ports
                .iter()
                .map(|port| PortSignature {
                    name: port.name,
                    many: matches!(port.arity, Arity::Many | Arity::Any),
                    optional: matches!(port.arity, Arity::Optional | Arity::Any),
                })
                .collect(),
            Ports::Open => Vec::new(),
        })
    }

    fn any_port(&self, uses: &str) -> bool {
        self.get(uses).is_some_and(|stage| matches!(stage.ports(), Ports::Open))
    }

    fn stage_names(&self) -> Vec<&str> {
        self.stages.keys().copied().collect()
    }

    fn has_seed(&self, uses: &str) -> bool {
        self.stages.get(uses).is_some_and(|entry| entry.seeded)
    }
}

/// A stage whose config type is not known statically.
pub trait AnyStage: Send + Sync {
    /// The name after `uses:`.
    fn name(&self) -> &'static str;
    /// Part of every key.
    fn version(&self) -> u32;
    /// For people.
    fn docs(&self) -> Docs;
    /// The inputs.
    fn ports(&self) -> Ports;
    /// JSON schema of the config.
    fn schema(&self) -> serde_json::Value;
    /// Whether it runs programs of the user's.
    fn runs_programs(&self) -> bool;
    /// The stage with the config that a pipeline gives it.
    fn bind(&self, with: &Node) -> Result<Box<dyn Bound>, Vec<Diagnostic>>;
    /// Does the work of actions whose configs were written by [`Bound::yaml`]: one, or the members of a gang. `done` is
    /// called once for each.
    ///
    /// # Errors
    /// If a config cannot be read; nothing was done then.
    fn run(&self, members: &[(&str, &ActionIo)], done: &mut GangDone<'_>) -> Result<(), StageError>;
}

/// A stage with its config.
pub trait Bound: Send + Sync {
    /// The config as it enters keys.
    fn canon(&self) -> Result<Canon, CanonError>;
    /// The config for a worker.
    fn yaml(&self) -> Result<String, StageError>;
    /// The outputs.
    fn outputs(&self) -> Vec<Output>;
    /// The outside files.
    fn sources(&self) -> Vec<Source>;
    /// Checks the config by itself.
    fn check(&self) -> Result<(), Problems>;
    /// What is known of the outputs.
    fn infer(&self, inputs: &InputFacts, sources: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems>;
    /// What it needs while it runs.
    fn resources(&self, inputs: &InputFacts) -> Resources;
    /// The gang it would join.
    fn gang(&self) -> Option<String>;
}

impl<S: Stage> AnyStage for S {
    fn name(&self) -> &'static str {
        S::NAME
    }
    fn version(&self) -> u32 {
        S::VERSION
    }
    fn docs(&self) -> Docs {
        Stage::docs(self)
    }
    fn ports(&self) -> Ports {
        self.inputs()
    }
    fn schema(&self) -> serde_json::Value {
        schemars::schema_for!(S::Config).into()
    }
    fn runs_programs(&self) -> bool {
        Stage::runs_programs(self)
    }
    fn bind(&self, with: &Node) -> Result<Box<dyn Bound>, Vec<Diagnostic>> {
        Ok(Box::new(WithConfig { stage: *self, config: mediant_spec::from_node::<S::Config>(with)? }))
    }
    fn run(&self, members: &[(&str, &ActionIo)], done: &mut GangDone<'_>) -> Result<(), StageError> {
        let configs = members.iter().map(|(yaml, _)| serde_yaml::from_str::<S::Config>(yaml));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        let contexts: Vec<RunContext<'_, S::Config>> =
            configs.iter().zip(members).map(|(config, (_, io))| RunContext::new(config, io)).collect();
        match &contexts[..] {
            [alone] => done(0, Stage::run(self, alone)),
            members => self.run_gang(members, done),
        }
        Ok(())
    }
}

struct WithConfig<S: Stage> {
    stage: S,
    config: S::Config,
}

impl<S: Stage> Bound for WithConfig<S> {
    fn canon(&self) -> Result<Canon, CanonError> {
        Canon::of(&self.config)
    }
    fn yaml(&self) -> Result<String, StageError> {
        Ok(serde_yaml::to_string(&self.config)?)
    }
    fn outputs(&self) -> Vec<Output> {
        self.stage.outputs(&self.config)
    }
    fn sources(&self) -> Vec<Source> {
        self.stage.sources(&self.config)
    }
    fn check(&self) -> Result<(), Problems> {
        self.stage.check(&self.config)
    }
    fn infer(&self, inputs: &InputFacts, sources: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        self.stage.infer(&self.config, inputs, sources)
    }
    fn resources(&self, inputs: &InputFacts) -> Resources {
        self.stage.resources(&self.config, inputs)
    }
    fn gang(&self) -> Option<String> {
        self.stage.gang(&self.config)
    }
}
