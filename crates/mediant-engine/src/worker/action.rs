//! Actions from lock to record.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mediant_artifact::{Artifact, Kind, MANIFEST, Manifest};
use mediant_store::{
    ActionLock, ActionRecord, ContentRecord, FileEntry, Id, ObjectState, OutputRecord, RawJson, Staging, StatIndex,
    Store, Written,
};
use serde_json::json;

use super::{CANCEL, Pools, Replies, Throttled, host};
use crate::catalogue::Catalogue;
use crate::context::{ActionIo, MemberInput, output_folder};
use crate::error::StageError;
use crate::plan::{digest_path, id, output_name};
use crate::protocol::{Action, Done, Reply};
use crate::stage::SourcePaths;

/// What a worker does actions with.
pub(super) struct Worker<'w> {
    pub(super) catalogue: &'w Catalogue,
    pub(super) store: &'w Store,
    pub(super) stats: &'w StatIndex,
    pub(super) replies: &'w Replies,
}

/// An action that holds its lock and has a folder to work in.
struct Begun<'a> {
    /// Its place in the request.
    member: usize,
    action: &'a Action,
    _lock: ActionLock,
    staging: Staging,
    started: jiff::Timestamp,
    clock: Instant,
}

impl Worker<'_> {
    /// Performs an action, or a gang of them, and says how each went.
    pub(super) fn perform(&self, actions: &[Action], pools: &mut Pools) {
        host::reset_peak_memory();
        let mut members: Vec<usize> = (0..actions.len()).collect();
        // Everybody takes locks in the same order, so nobody waits for one that waits for him.
        members.sort_by_key(|member| actions[*member].content);
        let mut begun = Vec::new();
        for member in members {
            match self.begin(member, &actions[member]) {
                Ok(Ok(one)) => begun.push(one),
                Ok(Err(done)) => self.replies.send(member, Reply::Done(Box::new(done))),
                Err(error) => self.failed(member, &error),
            }
        }
        begun.sort_by_key(|one| one.member);
        let mut open: Vec<Option<Begun<'_>>> = begun.into_iter().map(Some).collect();
        let ran = self.run(&mut open, pools);
        // A stage that panicked, or forgot a member, leaves some.
        for one in open.into_iter().flatten() {
            let forgotten = || StageError::new("the stage ended without saying what became of this action");
            self.failed(one.member, ran.as_ref().err().unwrap_or(&forgotten()));
        }
    }

    fn failed(&self, member: usize, error: &StageError) {
        self.replies.send(member, Reply::Failed { error: error.to_string(), cancelled: error.is_cancelled() });
    }

    /// Takes the action's lock; gives its result if that is there once the lock is held.
    fn begin<'a>(&self, member: usize, action: &'a Action) -> Result<Result<Begun<'a>, Done>, StageError> {
        let lock = self.store.lock_action(id(action.content), || self.replies.send(member, Reply::Waiting))?;
        if !action.force
            && let Some(done) = made_meanwhile(action, self.store, self.stats)?
        {
            return Ok(Err(done));
        }
        Ok(Ok(Begun {
            member,
            action,
            _lock: lock,
            staging: self.store.stage_dir(&action.label)?,
            started: jiff::Timestamp::now(),
            clock: Instant::now(),
        }))
    }

    /// Runs the stage; what is over is published, answered for and taken out of `open`.
    fn run(&self, open: &mut [Option<Begun<'_>>], pools: &mut Pools) -> Result<(), StageError> {
        let all: Vec<(usize, &Action)> = open.iter().flatten().map(|one| (one.member, one.action)).collect();
        let Some((_, first)) = all.first() else { return Ok(()) };
        let stage = self.catalogue.get(&first.stage).filter(|stage| stage.version() == first.version);
        let stage = stage.ok_or_else(|| {
            StageError::new(format!("this worker has no stage `{}` of version {}", first.stage, first.version))
        })?;
        let ios: Vec<ActionIo> = open.iter().flatten().map(|one| self.io(one)).collect();
        let together = all.len();
        let members: Vec<(&str, &ActionIo)> = all.iter().map(|(_, action)| &*action.config).zip(&ios).collect();
        redirect_output(&first.log)?;
        let mut done = |place: usize, result: Result<(), StageError>| {
            let Some(one) = open.get_mut(place).and_then(Option::take) else { return };
            let member = one.member;
            match result.and_then(|()| self.conclude(one, together)) {
                Ok(done) => self.replies.send(member, Reply::Done(Box::new(done))),
                Err(error) => self.failed(member, &error),
            }
        };
        let pool = pools.of(first.threads)?;
        let run = || pool.install(|| stage.run(&members, &mut done));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(StageError::new(format!("the stage panicked: {}", text.unwrap_or("no message"))))
        })
    }

    fn io(&self, one: &Begun<'_>) -> ActionIo {
        let action = one.action;
        let member = |member: &crate::protocol::WireMember| MemberInput {
            labels: member.labels.clone(),
            name: member.name.clone(),
            path: self.store.object_path(member.object),
            digest: member.digest,
        };
        let sources = action.sources.iter().map(|source| (source.field.clone(), source.path.clone()));
        ActionIo {
            inputs: action
                .inputs
                .iter()
                .map(|(port, members)| (port.clone(), members.iter().map(member).collect()))
                .collect(),
            outputs: action.outputs.clone(),
            sources: SourcePaths(sources.collect()),
            staging: one.staging.path().to_owned(),
            checkpoints: self.store.checkpoints(id(action.content), &checkpoint_tag(action)),
            checkpoint_every: Duration::from_secs(action.checkpoint_seconds),
            threads: action.threads,
            device: action.device,
            reporter: Box::new(Throttled { replies: self.replies.clone(), member: one.member, last: Mutex::new(None) }),
            cancel: &CANCEL,
        }
    }

    /// Publishes and records what the stage made. `together` is the number of actions that were done at the same time.
    fn conclude(&self, one: Begun<'_>, together: usize) -> Result<Done, StageError> {
        let (action, store) = (one.action, self.store);
        let outputs = publish(action, store, one.staging.path())?;
        let metrics = headline(action, store, &outputs)?;
        let (peak_memory, resident) = host::memory();
        let seconds = one.clock.elapsed().as_secs_f64();
        let mut done = Done {
            outputs,
            hit: false,
            metrics,
            seconds,
            peak_memory,
            resident,
            source_changed: None,
            divergent: None,
        };
        done.source_changed = changed_source(action, self.stats);
        if done.source_changed.is_none() {
            record(action, store, one.started, together, &mut done)?;
        }
        store.checkpoints(id(action.content), &checkpoint_tag(action)).clear()?;
        Ok(done)
    }
}

/// The result, if another process made it while this one waited for the lock.
fn made_meanwhile(action: &Action, store: &Store, stats: &StatIndex) -> Result<Option<Done>, StageError> {
    let Some(content) = store.read_content(id(action.content))? else { return Ok(None) };
    for output in content.outputs.values() {
        if store.check(output.object, MANIFEST, &output.files, stats)? != ObjectState::Intact {
            return Ok(None);
        }
    }
    let Some(made) =
        store.read_action(content.action)?.filter(|made| made.cacheable && made.outputs == content.outputs)
    else {
        return Ok(None);
    };
    let metrics = headline(action, store, &content.outputs)?;
    // The other process may have come to it by another recipe.
    let record = ActionRecord { preimage: RawJson::new(&action.preimage)?, inputs: input_ids(action), ..made };
    store.write_action(id(action.recipe), &record)?;
    store.checkpoints(id(action.content), &checkpoint_tag(action)).clear()?;
    let (peak_memory, resident) = host::memory();
    Ok(Some(Done {
        outputs: content.outputs,
        hit: true,
        metrics,
        seconds: 0.0,
        peak_memory,
        resident,
        source_changed: None,
        divergent: None,
    }))
}

/// Sends what the stage and its libraries print to the action's log.
fn redirect_output(log: &Path) -> Result<(), StageError> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stdout(&file)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok(())
}

fn publish(action: &Action, store: &Store, staging: &Path) -> Result<BTreeMap<String, OutputRecord>, StageError> {
    let mut outputs = BTreeMap::new();
    for (name, key, kind) in &action.outputs {
        let folder = staging.join(output_folder(name, key));
        let shown = output_name(name, key);
        if !folder.join(MANIFEST).exists() {
            return Err(StageError::new(format!("the stage ended without finishing its output `{shown}`")));
        }
        let manifest = Manifest::read(&folder)?;
        if manifest.kind != *kind {
            return Err(StageError::new(format!("output `{shown}` is {} and was declared as {kind}", manifest.kind)));
        }
        let files = manifest
            .stored()
            .map(|(name, bytes, digest)| FileEntry { name: name.to_owned(), bytes, blake3: id(digest) })
            .collect();
        let object = store.publish(&folder, MANIFEST)?;
        outputs
            .insert(shown, OutputRecord { kind: kind.name().to_owned(), object, logical: id(manifest.logical), files });
    }
    Ok(outputs)
}

/// How many numbers of a metrics artifact stand for it in lock files and on the terminal.
const HEADLINES: usize = 24;

/// The first numbers of the action's metrics.
fn headline(
    action: &Action,
    store: &Store,
    outputs: &BTreeMap<String, OutputRecord>,
) -> Result<BTreeMap<String, f64>, StageError> {
    let mut headline = BTreeMap::new();
    for (name, key, kind) in &action.outputs {
        let Some(output) = outputs.get(&output_name(name, key)).filter(|_| *kind == Kind::Metrics) else { continue };
        let artifact = Artifact::open(&store.object_path(output.object))?;
        for row in mediant_artifact::read_metrics(&artifact)?.into_iter().take(HEADLINES) {
            headline.entry(row.name).or_insert(row.value);
        }
    }
    headline.retain(|_, value| value.is_finite());
    Ok(headline)
}

/// The first source that no longer holds what it held when the plan was made.
fn changed_source(action: &Action, stats: &StatIndex) -> Option<String> {
    action
        .sources
        .iter()
        .find(|source| digest_path(&source.path, &source.globs, stats).ok() != Some(source.digest))
        .map(|source| source.path.display().to_string())
}

fn record(
    action: &Action,
    store: &Store,
    started: jiff::Timestamp,
    together: usize,
    done: &mut Done,
) -> Result<(), StageError> {
    let provenance = json!({
        "mediant": env!("CARGO_PKG_VERSION"),
        "run": action.run,
        "stage": action.label,
        "device": action.device.kind(),
        "machine": host::machine(),
        "threads": action.threads,
        "started": started,
        "finished": jiff::Timestamp::now(),
        "seconds": done.seconds,
        "peak_memory": done.peak_memory,
        // Time and memory are those of all of them.
        "actions_together": together,
        "metrics": done.metrics,
    });
    let record = ActionRecord {
        stage: action.stage.clone(),
        preimage: RawJson::new(&action.preimage)?,
        inputs: input_ids(action),
        outputs: done.outputs.clone(),
        content: id(action.content),
        provenance: RawJson::new(&provenance)?,
        cacheable: true,
    };
    let recipe = id(action.recipe);
    // The same recipe on other inputs is no divergence: an input was computed again, to other values.
    if store.read_action(recipe)?.is_some_and(|earlier| earlier.inputs != record.inputs) {
        store.replace_action(recipe, &record)?;
    }
    match store.write_action(recipe, &record)? {
        Written::Divergent(path) => {
            // The first result stays in force; this run goes on with it too, so that runs agree.
            done.divergent = Some(path);
            if let Some(first) = store.read_action(recipe)? {
                done.outputs = first.outputs;
            }
        }
        Written::First | Written::Agrees | Written::Replaced | Written::Ignored => {
            store
                .write_content(id(action.content), &ContentRecord { action: recipe, outputs: done.outputs.clone() })?;
        }
    }
    Ok(())
}

fn input_ids(action: &Action) -> Vec<Id> {
    action.inputs.iter().flat_map(|(_, members)| members).map(|member| id(member.digest)).collect()
}

/// Checkpoints hold raw state, so they belong to a device kind and a set of kernels.
fn checkpoint_tag(action: &Action) -> String {
    format!("{}-{}", action.device.kind(), host::cpu_features())
}
