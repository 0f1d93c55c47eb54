//! What a run leaves in the store: its plan, its events, its logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mediant_artifact::Digest;
use mediant_store::{Id, RunInfo};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::events::{Event, EventSink};
use crate::plan::{Plan, id};

const PLAN_FILE: &str = "plan.json";
const EVENTS: &str = "events.jsonl";
const LOGS: &str = "logs";

/// The folder of one run.
pub struct RunRecord {
    name: String,
    path: PathBuf,
    /// Of a run in a store that cannot be written: it may serve what is there, and what it says is not kept.
    _temporary: Option<tempfile::TempDir>,
}

/// What a run set out to do; kept so that a later one can say what has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file.
    pub file: PathBuf,
    /// `--set` values: path and text.
    pub overrides: Vec<(String, String)>,
    /// Recipe key of every instance, by label.
    pub instances: BTreeMap<String, Digest>,
}

impl RunRecord {
    /// Makes the folder of a new run of a plan.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn create(plan: &Plan) -> Result<Self> {
        if plan.store.is_read_only() {
            let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
            std::fs::create_dir(folder.path().join(LOGS)).map_err(Error::io(folder.path()))?;
            return Ok(Self { name: String::new(), path: folder.path().to_owned(), _temporary: Some(folder) });
        }
        let file = std::path::absolute(&plan.file).map_err(Error::io(&plan.file))?;
        let run = plan.store.create_run(&file.display().to_string())?;
        let instances: BTreeMap<_, _> =
            plan.instances.iter().map(|instance| (instance.label.clone(), instance.recipe)).collect();
        let keep: Vec<Id> = instances.values().map(|recipe| id(*recipe)).collect();
        run.keep(&keep)?;
        let kept = RunPlan {
            pipeline: plan.pipeline.name.clone(),
            file,
            overrides: plan.pipeline.overrides.clone(),
            instances,
        };
        let path = run.path().join(PLAN_FILE);
        let out = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
        serde_json::to_writer(out, &kept).map_err(|error| Error::io(&path)(error.into()))?;
        let logs = run.path().join(LOGS);
        std::fs::create_dir(&logs).map_err(Error::io(logs))?;
        Ok(Self { name: run.id().to_owned(), path: run.path().to_owned(), _temporary: None })
    }

    /// The run's name, a ULID; empty where nothing can be kept.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the output of an instance's stage goes.
    pub fn log(&self, label: &str) -> PathBuf {
        let plain: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.=,[]".contains(c) { c } else { '_' })
            .take(180)
            .collect();
        self.path.join(LOGS).join(format!("{plain}.log"))
    }

    /// Removes the log of an instance that printed nothing.
    pub(crate) fn tidy_log(&self, label: &str) {
        let log = self.log(label);
        if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() == 0) {
            let _ = std::fs::remove_file(log);
        }
    }

    /// Writes every event to `events.jsonl`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn events(&self) -> Result<EventLog> {
        let path = self.path.join(EVENTS);
        Ok(EventLog { out: BufWriter::new(File::create(&path).map_err(Error::io(path))?) })
    }
}

/// Writes events as JSON lines, each with the time.
pub struct EventLog {
    out: BufWriter<File>,
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: jiff::Timestamp,
    event: &'a Event,
}

impl EventSink for EventLog {
    fn event(&mut self, event: &Event) {
        // A log that cannot be written must not stop the work it tells of.
        let _ = serde_json::to_writer(&mut self.out, &Stamped { time: jiff::Timestamp::now(), event });
        let _ = self.out.write_all(b"\n");
        if !matches!(event, Event::Cached { .. } | Event::Progress { .. }) {
            let _ = self.out.flush();
        }
    }
}

/// The events of a run as `events.jsonl` has them, with their times; a line that was cut off is left out.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn events(run: &RunInfo) -> Result<Vec<serde_json::Value>> {
    let path = run.path.join(EVENTS);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(path)(error)),
    }
}

impl RunPlan {
    /// The plan of a run.
    ///
    /// # Errors
    /// If the run has none that can be read.
    pub fn read(run: &RunInfo) -> Result<Self> {
        let path = run.path.join(PLAN_FILE);
        let text = std::fs::read(&path).map_err(Error::io(&path))?;
        serde_json::from_slice(&text).map_err(|error| Error::io(&path)(error.into()))
    }
}
