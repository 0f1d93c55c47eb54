//! The engine: stages, the plan of a pipeline, keys, workers and runs.
//!
//! ```text
//! pipeline file ─▶ Plan::make ─▶ Judge ─▶ run ─▶ worker processes ─▶ store
//!                  expand, bind,  cached,  ready actions,  one action
//!                  infer, key     will run  events, lock    at a time
//! ```
//! A stage is one implementation of [`Stage`]; everything else here works on any of them.

mod canon;
mod catalogue;
mod context;
mod error;
mod events;
mod explain;
mod inputs;
mod keys;
mod lockfile;
mod plan;
mod problem;
mod project;
mod protocol;
mod record;
mod run;
mod stage;
mod worker;

pub use canon::{Canon, CanonError};
pub use catalogue::{AnyStage, Bound, Catalogue};
pub use context::{ActionIo, Device, Member, MemberInput, Reporter, RunContext};
pub use error::{Error, Result, StageError};
pub use events::{Event, EventSink, Fanout, Hit};
pub use explain::{Change, Explanation, Upstream, describe, explain};
pub use inputs::{InputFacts, MemberFacts};
pub use keys::{Domain, MemberKey, Origin, Preimage, SourceKey};
pub use lockfile::{LockFile, LockedStage, sources};
pub use plan::{
    HubPin, Judge, Known, KnownOutput, Made, Plan, PlanOptions, Planned, PlannedMember, PlannedPort, PlannedSource,
    Status, Why, output_name,
};
pub use problem::{At, Problem, Problems};
pub use project::{PROJECT_FILE, Project, ProjectConfig, STORE_FOLDER};
pub use record::{EventLog, RunPlan, RunRecord, events};
pub use run::{Outcome, RunOptions, WorkerCommand, run};
pub use stage::{Arity, Cpus, Docs, GangDone, Output, Port, Ports, Resources, Source, SourceKind, SourcePaths, Stage};
pub use worker::serve;
