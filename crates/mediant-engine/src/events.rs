//! The one stream of events that progress bars, plain lines, `--json` and the run's log all come from.

use mediant_artifact::Digest;
use serde::Serialize;

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// Name of the run, a ULID.
        run: String,
        /// Name of the pipeline.
        pipeline: String,
        /// The store's folder.
        store: String,
        /// Number of stage instances considered.
        instances: usize,
        /// Actions at a time.
        jobs: usize,
        /// Where stages compute.
        device: String,
    },
    /// A result was there already.
    Cached {
        /// The instance.
        stage: String,
        /// Recipe key.
        key: Digest,
        /// Why it is known to be right.
        how: Hit,
    },
    /// A worker began an action.
    Started {
        /// The instance.
        stage: String,
        /// Recipe key.
        key: Digest,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// Another run is doing the same action; this one waits for its result.
    Waiting {
        /// The instance.
        stage: String,
    },
    /// How far an action is.
    Progress {
        /// The instance.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// What a unit is.
        unit: String,
    },
    /// A line from a stage for the user.
    Note {
        /// The instance.
        stage: String,
        /// The line.
        text: String,
    },
    /// An action ended well.
    Finished {
        /// The instance.
        stage: String,
        /// Recipe key.
        key: Digest,
        /// Wall-clock seconds in the worker.
        seconds: f64,
        /// Largest resident memory of the worker in the action, bytes.
        peak_memory: u64,
    },
    /// A result is used in this run but will not be found by the next: an input file changed while the stage ran.
    NotCached {
        /// The instance.
        stage: String,
        /// Which file.
        reason: String,
    },
    /// A recomputed result differs from the recorded one, which stays in force.
    Divergent {
        /// The instance.
        stage: String,
        /// Recipe key.
        key: Digest,
        /// Where the new record was put.
        aside: String,
    },
    /// A stored object is damaged or gone; it is set aside and computed again.
    Damaged {
        /// The instance.
        stage: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An attempt failed for a transient cause and is repeated.
    Retry {
        /// The instance.
        stage: String,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        error: String,
    },
    /// An action failed.
    Failed {
        /// The instance.
        stage: String,
        /// Why.
        error: String,
        /// Where its output is.
        log: String,
    },
    /// An action was not tried, because one that it needs failed or the run was stopped.
    Skipped {
        /// The instance.
        stage: String,
        /// What it waited for.
        because: String,
    },
    /// The run is being stopped.
    Interrupted,
    /// The run is over.
    RunFinished {
        /// Actions executed.
        ran: usize,
        /// Actions whose result was there.
        cached: usize,
        /// Actions that failed.
        failed: usize,
        /// Actions not tried, because one that they need failed or the run was stopped.
        skipped: usize,
        /// Wall-clock seconds.
        seconds: f64,
    },
}

/// Why a stored result is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hit {
    /// The same recipe was run before, on the same inputs.
    Recipe,
    /// Another recipe led to the same config and inputs (early cutoff).
    Content,
    /// Another run computed it while this one waited.
    OtherRun,
}

/// Takes events as they happen.
pub trait EventSink {
    /// Called from one thread, in order.
    fn event(&mut self, event: &Event);
}

/// Sends each event to several sinks.
pub struct Fanout<'a>(pub Vec<&'a mut dyn EventSink>);

impl EventSink for Fanout<'_> {
    fn event(&mut self, event: &Event) {
        for sink in &mut self.0 {
            sink.event(event);
        }
    }
}
