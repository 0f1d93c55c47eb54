//! What a run and its worker processes say to each other: JSON lines over a private socket.

use std::path::PathBuf;

use mediant_artifact::{Digest, Kind};
use mediant_store::{Id, OutputRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::context::Device;

/// From the run to a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Do this action, or the members of a gang. One request at a time.
    Run(Vec<Action>),
    /// Stop what is running when it next asks.
    Cancel,
}

/// An action, complete: a worker needs nothing else but the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Action {
    /// The instance, for people.
    pub(crate) label: String,
    pub(crate) stage: String,
    pub(crate) version: u32,
    /// The typed config as YAML, which unlike JSON holds every float.
    pub(crate) config: String,
    pub(crate) preimage: serde_json::Value,
    pub(crate) recipe: Digest,
    pub(crate) content: Digest,
    pub(crate) inputs: Vec<(String, Vec<WireMember>)>,
    pub(crate) outputs: Vec<(String, String, Kind)>,
    pub(crate) sources: Vec<WireSource>,
    pub(crate) threads: usize,
    /// Least seconds between two checkpoints.
    pub(crate) checkpoint_seconds: u64,
    pub(crate) device: Device,
    /// Compute even if the result is there.
    pub(crate) force: bool,
    /// Where the stage's own output goes.
    pub(crate) log: PathBuf,
    /// The run that asks, for the provenance.
    pub(crate) run: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireMember {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) name: Option<String>,
    pub(crate) object: Id,
    pub(crate) digest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireSource {
    pub(crate) field: String,
    pub(crate) path: PathBuf,
    /// Globs of the files that count, when it is a folder.
    pub(crate) globs: Vec<String>,
    /// What it held when the plan was made.
    pub(crate) digest: Digest,
}

/// From a worker to the run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Which of the actions of the request is meant, by its place.
    pub(crate) member: usize,
    /// What is said of it.
    pub(crate) reply: Reply,
}

/// What a worker says of an action.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Another process holds the action's lock.
    Waiting,
    Progress {
        done: u64,
        total: u64,
        unit: String,
    },
    Note(String),
    /// The action is over and its result is published.
    Done(Box<Done>),
    Failed {
        error: String,
        cancelled: bool,
    },
}

/// The result of an action.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) outputs: BTreeMap<String, OutputRecord>,
    /// Found under the content key once the lock was held: nothing was computed.
    pub(crate) hit: bool,
    /// Headline metrics.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) seconds: f64,
    pub(crate) peak_memory: u64,
    /// Resident memory now; the run renews workers that grew.
    pub(crate) resident: u64,
    /// Set when a source changed while the stage ran: which.
    pub(crate) source_changed: Option<String>,
    /// Set when a recorded result differs from this one: where this one's record was put.
    pub(crate) divergent: Option<PathBuf>,
}
