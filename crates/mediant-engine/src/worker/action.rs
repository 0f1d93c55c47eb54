//! One action from lock to record.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use mediant_artifact::{Artifact, Kind, MANIFEST, Manifest};
use mediant_store::{
    ActionRecord, ContentRecord, FileEntry, Id, ObjectState, OutputRecord, RawJson, StatIndex, Store, Written,
};
use serde_json::json;

use super::{CANCEL, Pools, Replies, Throttled, host};
use crate::catalogue::Catalogue;
use crate::context::{ActionIo, MemberInput, output_folder};
use crate::error::StageError;
use crate::plan::{digest_path, id, output_name};
use crate::protocol::{Action, Done, Reply};
use crate::stage::SourcePaths;

/// Performs an action; the answer says how it went.
pub(super) fn perform(
    action: &Action,
    catalogue: &Catalogue,
    store: &Store,
    stats: &StatIndex,
    pools: &mut Pools,
    replies: &Replies,
) -> Reply {
    match attempt(action, catalogue, store, stats, pools, replies) {
        Ok(done) => Reply::Done(Box::new(done)),
        Err(error) => Reply::Failed { error: error.to_string(), cancelled: error.is_cancelled() },
    }
}

fn attempt(
    action: &Action,
    catalogue: &Catalogue,
    store: &Store,
    stats: &StatIndex,
    pools: &mut Pools,
    replies: &Replies,
) -> Result<Done, StageError> {
    let _lock = store.lock_action(id(action.content), || replies.send(&Reply::Waiting))?;
    if !action.force
        && let Some(done) = made_meanwhile(action, store, stats)?
    {
        return Ok(done);
    }
    let started = jiff::Timestamp::now();
    let clock = Instant::now();
    host::reset_peak_memory();
    let staging = store.stage_dir(&action.label)?;
    run_stage(action, catalogue, store, pools, replies, staging.path())?;
    let outputs = publish(action, store, staging.path())?;
    let metrics = headline(action, store, &outputs)?;

    let (peak_memory, resident) = host::memory();
    let seconds = clock.elapsed().as_secs_f64();
    let mut done =
        Done { outputs, hit: false, metrics, seconds, peak_memory, resident, source_changed: None, divergent: None };
    done.source_changed = changed_source(action, stats);
    if done.source_changed.is_none() {
        record(action, store, started, &mut done)?;
    }
    store.checkpoints(id(action.content), &checkpoint_tag(action)).clear()?;
    Ok(done)
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

fn run_stage(
    action: &Action,
    catalogue: &Catalogue,
    store: &Store,
    pools: &mut Pools,
    replies: &Replies,
    staging: &Path,
) -> Result<(), StageError> {
    let stage = catalogue.get(&action.stage).filter(|stage| stage.version() == action.version);
    let stage = stage.ok_or_else(|| {
        StageError::new(format!("this worker has no stage `{}` of version {}", action.stage, action.version))
    })?;
    let bound = stage.bind_yaml(&action.config)?;
    let member = |member: &crate::protocol::WireMember| MemberInput {
        labels: member.labels.clone(),
        name: member.name.clone(),
        path: store.object_path(member.object),
        digest: member.digest,
    };
    let io = ActionIo {
        inputs: action
            .inputs
            .iter()
            .map(|(port, members)| (port.clone(), members.iter().map(member).collect()))
            .collect(),
        outputs: action.outputs.clone(),
        sources: SourcePaths(action.sources.iter().map(|source| (source.field.clone(), source.path.clone())).collect()),
        staging: staging.to_owned(),
        checkpoints: store.checkpoints(id(action.content), &checkpoint_tag(action)),
        threads: action.threads,
        device: action.device,
        reporter: Box::new(Throttled { replies: replies.clone(), last: Mutex::new(None) }),
        cancel: &CANCEL,
    };
    redirect_output(&action.log)?;
    let pool = pools.of(action.threads)?;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(|| bound.run(&io))));
    match result {
        Ok(result) => result,
        Err(panic) => {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(StageError::new(format!("the stage panicked: {}", text.unwrap_or("no message"))))
        }
    }
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
            .parts()
            .map(|part| FileEntry { name: part.file.clone(), bytes: part.bytes, blake3: id(part.blake3) })
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

fn record(action: &Action, store: &Store, started: jiff::Timestamp, done: &mut Done) -> Result<(), StageError> {
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
