//! What a report is made from: neutral structures, which the caller fills from a plan, a run or a lock file.

use std::path::PathBuf;

use mediant_artifact::Artifact;
use serde_json::Value;

use crate::dag::{Graph, State};

/// A pipeline with whatever of its results is at hand.
#[derive(Clone, Debug)]
pub struct Run {
    /// The pipeline's name.
    pub pipeline: String,
    /// What was run, when and with what: names and values.
    pub about: Vec<(String, String)>,
    /// Outside files and repositories, each with its digest or commit.
    pub sources: Vec<(String, String)>,
    /// What `--set` changed: path and value.
    pub overrides: Vec<(String, String)>,
    /// The store's folder, absolute: files are named relative to it.
    pub store: PathBuf,
    /// The stages and what goes where.
    pub graph: Graph,
    /// The instances of every stage, in the order of the nodes.
    pub instances: Vec<InstanceRun>,
}

/// An instance of a stage.
#[derive(Clone, Debug)]
pub struct InstanceRun {
    /// The node of the graph that it belongs to.
    pub node: usize,
    /// `sae[k=4,seed=0]`.
    pub label: String,
    /// Its axes with labels.
    pub axes: Vec<(String, String)>,
    /// What became of it, where that is known.
    pub state: Option<State>,
    /// Why it is not done, in words; empty if it is.
    pub why: String,
    /// Its recipe key, in hex.
    pub recipe: String,
    /// Its options, those left to their defaults included; null if they are not known.
    pub options: Value,
    /// What making it took.
    pub cost: Option<Cost>,
    /// The numbers that a lock file has of it, where its results are not at hand.
    pub headline: Vec<(String, f64)>,
    /// Its artifacts.
    pub results: Vec<ResultFile>,
}

/// What an action took, and where it ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Largest resident memory, in bytes.
    pub peak_memory: u64,
    /// How many actions ran as one, whose time and memory this is.
    pub together: u64,
    /// Kind of device: `cpu`, `cuda`.
    pub device: String,
    /// Processor and vector instructions.
    pub machine: String,
    /// Threads it had.
    pub threads: u64,
    /// When it began, in RFC 3339.
    pub started: String,
    /// The Mediant that made it.
    pub mediant: String,
}

/// An artifact of an instance.
#[derive(Clone, Debug)]
pub struct ResultFile {
    /// `metrics`, `checkpoints[step=100]`.
    pub output: String,
    /// Whether it is the default output.
    pub default: bool,
    /// The parts of its key: (`step`, `100`).
    pub key: Vec<(String, String)>,
    /// The artifact.
    pub artifact: Artifact,
}

impl Run {
    /// The instances of a node.
    pub(crate) fn of(&self, node: usize) -> &[InstanceRun] {
        let start = self.instances.partition_point(|instance| instance.node < node);
        let end = self.instances.partition_point(|instance| instance.node <= node);
        &self.instances[start..end]
    }
}

impl InstanceRun {
    /// Seconds that are this instance's own: a share where several ran as one.
    pub(crate) fn own_seconds(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a count of actions")]
        self.cost.as_ref().map(|cost| cost.seconds / cost.together.max(1) as f64)
    }
}

/// `k=4,seed=0`.
pub(crate) fn joined(axes: &[(String, String)]) -> String {
    axes.iter().map(|(axis, label)| format!("{axis}={label}")).collect::<Vec<_>>().join(",")
}
