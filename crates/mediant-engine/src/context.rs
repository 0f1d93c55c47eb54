//! What a stage is given to run with.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mediant_artifact::{Artifact, ArtifactWriter, Digest, Kind};
use mediant_store::Checkpoints;

use crate::error::StageError;
use crate::stage::SourcePaths;

/// The device a run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The CUDA GPU with this number.
    Cuda(usize),
}

impl Device {
    /// `cpu` or `cuda`: what results are compared by.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{other}` is no device; use cpu, cuda or cuda:N")),
        }
    }
}

/// One artifact connected to a port of the running stage.
#[derive(Debug, Clone)]
pub struct MemberInput {
    /// The axes that the port collected, with this member's labels.
    pub labels: Vec<(String, String)>,
    /// The name given to this member in the pipeline.
    pub name: Option<String>,
    /// The object's folder.
    pub path: PathBuf,
    /// Logical digest.
    pub digest: Digest,
}

/// An opened member of a many-valued port.
pub struct Member {
    /// The axes that the port collected, with this member's labels.
    pub labels: Vec<(String, String)>,
    /// The name given to this member in the pipeline.
    pub name: Option<String>,
    /// The artifact.
    pub artifact: Artifact,
    /// Logical digest.
    pub digest: Digest,
}

/// What a running stage tells about itself.
pub trait Reporter: Send + Sync {
    /// `done` of `total` units (tokens, steps, …) are finished.
    fn progress(&self, done: u64, total: u64, unit: &str);
    /// One line for the user.
    fn note(&self, text: &str);
}

/// Everything of a running action but its config.
pub struct ActionIo {
    /// Members by port, in declared order.
    pub inputs: Vec<(String, Vec<MemberInput>)>,
    /// Declared outputs: (name, key or empty) and their kinds.
    pub outputs: Vec<(String, String, Kind)>,
    /// Where the declared sources are.
    pub sources: SourcePaths,
    /// Staging folder of this attempt; outputs and scratch live under it.
    pub staging: PathBuf,
    /// Where the stage may save its state.
    pub checkpoints: Checkpoints,
    /// Least time between two of them.
    pub checkpoint_every: Duration,
    /// Threads of the pool that the stage runs in.
    pub threads: usize,
    /// Where to compute.
    pub device: Device,
    /// Where progress and notes go.
    pub reporter: Box<dyn Reporter>,
    /// Set when the run is being cancelled.
    pub cancel: &'static AtomicBool,
}

/// What a stage is given to run with: its config, inputs, outputs and services.
pub struct RunContext<'a, C> {
    config: &'a C,
    io: &'a ActionIo,
    opened: Cell<BTreeMap<String, Kind>>,
}

impl<'a, C> RunContext<'a, C> {
    /// Used by the worker, and by tests that run a stage without one.
    pub fn new(config: &'a C, io: &'a ActionIo) -> Self {
        Self { config, io, opened: Cell::default() }
    }

    /// The typed options.
    pub fn config(&self) -> &'a C {
        self.config
    }

    fn members_of(&self, port: &str) -> &'a [MemberInput] {
        self.io.inputs.iter().find(|(name, _)| name == port).map_or(&[], |(_, members)| members)
    }

    fn the_one(&self, port: &str) -> Result<&'a MemberInput, StageError> {
        self.members_of(port).first().ok_or_else(|| StageError::new(format!("nothing is connected to input `{port}`")))
    }

    /// The artifact at a single-valued port.
    pub fn input(&self, port: &str) -> Result<Artifact, StageError> {
        Artifact::open(&self.the_one(port)?.path).map_err(|e| StageError::from(e).context(format!("input `{port}`")))
    }

    /// The artifact at an optional port.
    pub fn optional(&self, port: &str) -> Result<Option<Artifact>, StageError> {
        if self.members_of(port).is_empty() { Ok(None) } else { self.input(port).map(Some) }
    }

    /// Whether anything is connected to a port.
    pub fn is_connected(&self, port: &str) -> bool {
        !self.members_of(port).is_empty()
    }

    /// Everything connected to a many-valued port, sorted by label.
    pub fn members(&self, port: &str) -> Result<Vec<Member>, StageError> {
        self.members_of(port)
            .iter()
            .map(|member| {
                let artifact =
                    Artifact::open(&member.path).map_err(|e| StageError::from(e).context(format!("input `{port}`")))?;
                Ok(Member { labels: member.labels.clone(), name: member.name.clone(), artifact, digest: member.digest })
            })
            .collect()
    }

    /// The ports that something is connected to, with the folders of their members (for programs of the user's).
    pub fn raw_inputs(&self) -> &'a [(String, Vec<MemberInput>)] {
        &self.io.inputs
    }

    /// The logical digest of the artifact at a single-valued port.
    pub fn input_digest(&self, port: &str) -> Result<Digest, StageError> {
        Ok(self.the_one(port)?.digest)
    }

    /// The absolute path of the source declared for a config field.
    pub fn source(&self, field: &str) -> Result<&'a Path, StageError> {
        self.io.sources.get(field).ok_or_else(|| StageError::new(format!("no source was declared for `{field}`")))
    }

    /// A writer for an output that is one artifact. Each output is opened once.
    pub fn output(&self, name: &str) -> Result<ArtifactWriter, StageError> {
        self.output_keyed(name, "")
    }

    /// A writer for one key of a keyed output.
    pub fn output_keyed(&self, name: &str, key: &str) -> Result<ArtifactWriter, StageError> {
        let (folder, kind) = self.open_output(name, key)?;
        Ok(ArtifactWriter::create(&folder, kind)?)
    }

    /// As [`Self::output`], going on from what [`ArtifactWriter::checkpoint`] put into a checkpoint.
    pub fn output_resumed(&self, name: &str, checkpoint: &Path) -> Result<ArtifactWriter, StageError> {
        let (folder, kind) = self.open_output(name, "")?;
        Ok(ArtifactWriter::resume(&folder, kind, checkpoint)?)
    }

    /// The folder and kind of an output, which is opened once.
    fn open_output(&self, name: &str, key: &str) -> Result<(PathBuf, Kind), StageError> {
        let declared = self.io.outputs.iter().find(|(n, k, _)| n == name && k == key);
        let Some((_, _, kind)) = declared else {
            return Err(StageError::new(format!("the stage has no output `{name}` with key `{key}`")));
        };
        let mut opened = self.opened.take();
        let again = opened.insert(format!("{name}[{key}]"), *kind).is_some();
        self.opened.set(opened);
        if again {
            return Err(StageError::new(format!("output `{name}` was opened twice")));
        }
        let folder = self.io.staging.join(output_folder(name, key));
        std::fs::create_dir_all(&folder)?;
        Ok((folder, *kind))
    }

    /// Threads of the pool the stage runs in.
    pub fn threads(&self) -> usize {
        self.io.threads
    }

    /// Where to compute.
    pub fn device(&self) -> Device {
        self.io.device
    }

    /// Tells that `done` of `total` units (tokens, steps, …) are finished.
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        self.io.reporter.progress(done, total, unit);
    }

    /// Shows the user one line.
    pub fn note(&self, text: impl AsRef<str>) {
        self.io.reporter.note(text.as_ref());
    }

    /// Whether the run is being cancelled; long stages save a checkpoint and return [`StageError::cancelled`].
    pub fn cancelled(&self) -> bool {
        self.io.cancel.load(Ordering::Relaxed)
    }

    /// The flag behind [`RunContext::cancelled`], for threads that a stage starts.
    pub fn cancel_flag(&self) -> &'static AtomicBool {
        self.io.cancel
    }

    /// Returns early when the run is being cancelled.
    pub fn check_cancelled(&self) -> Result<(), StageError> {
        if self.cancelled() { Err(StageError::cancelled()) } else { Ok(()) }
    }

    /// Where the stage saves its state, to resume after an interruption.
    pub fn checkpoints(&self) -> &'a Checkpoints {
        &self.io.checkpoints
    }

    /// The least time between two checkpoints.
    pub fn checkpoint_every(&self) -> Duration {
        self.io.checkpoint_every
    }

    /// A folder for temporary files, gone when the action ends.
    pub fn scratch(&self) -> Result<PathBuf, StageError> {
        let folder = self.io.staging.join("scratch");
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The folder under staging that an output is written to.
pub(crate) fn output_folder(name: &str, key: &str) -> String {
    if key.is_empty() { format!("out-{name}") } else { format!("out-{name}-{key}") }
}
