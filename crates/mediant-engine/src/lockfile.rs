//! `NAME.lock`, committed beside a pipeline: what was run, from what, to what result.
//!
//! Recipe keys are the same on every machine, so `run --locked` can say before any work whether the pipeline, the
//! outside files and the stages are those that the committed results were made with.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use mediant_artifact::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::{Known, Plan, PlannedSource, id};

/// Version of the lock file's form.
const VERSION: u32 = 1;

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// Version of the form.
    pub lock: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The Mediant that wrote it.
    pub mediant: String,
    /// `--set` values that were in force: path and text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<(String, String)>,
    /// Outside files by path as the pipeline has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, Digest>,
    /// Commits of the hub, by repository and revision as the pipeline has them. They stay what they are until their lines
    /// are deleted here, or the pipeline names another revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hub: BTreeMap<String, String>,
    /// Every instance by label.
    pub stages: BTreeMap<String, LockedStage>,
}

/// One instance in a lock file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    /// Recipe key.
    pub recipe: Digest,
    /// Kind of device that computed it.
    pub device: String,
    /// Logical digest of every output.
    pub outputs: IndexMap<String, Digest>,
    /// Headline metrics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

impl LockFile {
    /// Where the lock file of a pipeline is: `quickstart.yaml` has `quickstart.lock`.
    pub fn path(pipeline: &Path) -> PathBuf {
        pipeline.with_extension("lock")
    }

    /// The lock of a plan whose instances all have results.
    pub fn of(plan: &Plan, known: &[Option<Known>]) -> Option<Self> {
        let mut stages = BTreeMap::new();
        for (instance, known) in plan.instances.iter().zip(known) {
            let known = known.as_ref()?;
            let outputs = known.outputs().iter().map(|(name, output)| (name.clone(), output.digest)).collect();
            let locked = LockedStage {
                recipe: instance.recipe,
                device: known.made.device.clone(),
                outputs,
                metrics: known.made.metrics.clone(),
            };
            stages.insert(instance.label.clone(), locked);
        }
        Some(Self {
            lock: VERSION,
            pipeline: plan.pipeline.name.clone(),
            mediant: env!("CARGO_PKG_VERSION").to_owned(),
            overrides: plan.pipeline.overrides.clone(),
            sources: sources(plan),
            hub: hub(plan),
            stages,
        })
    }

    /// Reads a lock file; `None` if there is none.
    ///
    /// # Errors
    /// If it is there and not a lock file that this version reads.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path)(error)),
        };
        let wrong = |why: String| {
            Error::Input(format!("error: {} is not a lock file that this Mediant reads\n{why}\n", path.display()))
        };
        let lock: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if lock.lock != VERSION {
            return Err(wrong(format!("it has version {}, this Mediant reads {VERSION}", lock.lock)));
        }
        Ok(Some(lock))
    }

    /// Writes the lock file if it says something new; says whether it did. Tells the store of it, so that gc keeps its results.
    ///
    /// # Errors
    /// If the file or the store cannot be written.
    pub fn write(&self, path: &Path, plan: &Plan) -> Result<bool> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Error::io(path)(error.into()))?;
        text.push(b'\n');
        if std::fs::read(path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(path))?;
        draft.write_all(&text).and_then(|()| draft.as_file().sync_all()).map_err(Error::io(path))?;
        // Readable by everyone, as a file written plainly would be.
        use std::os::unix::fs::PermissionsExt;
        draft.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(Error::io(path))?;
        draft.persist(path).map_err(|error| Error::io(path)(error.error))?;
        let path = std::path::absolute(path).map_err(Error::io(path))?;
        let recipes: Vec<_> = self.stages.values().map(|stage| id(stage.recipe)).collect();
        plan.store.saw_lock_file(&path, &recipes)?;
        Ok(true)
    }

    /// Every way in which a plan differs from the lock, in words; empty if it does not. Compares recipe keys and outside
    /// files, before any work.
    pub fn differences(&self, plan: &Plan) -> Vec<String> {
        let mut found = Vec::new();
        let now = sources(plan);
        for (path, digest) in &now {
            match self.sources.get(path) {
                None => found.push(format!("{path} is not in the lock")),
                Some(locked) if locked != digest => {
                    found.push(format!(
                        "{path} has changed: {} is locked, {} is there",
                        locked.short(),
                        digest.short()
                    ));
                }
                Some(_) => {}
            }
        }
        found.extend(
            self.sources
                .keys()
                .filter(|path| !now.contains_key(*path))
                .map(|path| format!("{path} is in the lock and no longer used")),
        );
        for instance in &plan.instances {
            match self.stages.get(&instance.label) {
                None => found.push(format!("stage {} is not in the lock", instance.label)),
                Some(locked) if locked.recipe != instance.recipe => found.push(format!(
                    "stage {} has changed: recipe {} is locked, {} is planned",
                    instance.label,
                    locked.recipe.short(),
                    instance.recipe.short()
                )),
                Some(_) => {}
            }
        }
        let gone = self.stages.keys().filter(|label| plan.find(label).is_none());
        found.extend(gone.map(|label| format!("stage {label} is in the lock and no longer in the pipeline")));
        found
    }
}

/// Outside files of a plan by their path relative to the pipeline, or their address.
pub fn sources(plan: &Plan) -> BTreeMap<String, Digest> {
    let shown = |source: &PlannedSource| match &source.hub {
        Some(pin) => pin.address.clone(),
        None => source.path.strip_prefix(&plan.pipeline.dir).unwrap_or(&source.path).display().to_string(),
    };
    let sources = plan.instances.iter().flat_map(|instance| &instance.sources);
    sources.map(|source| (shown(source), source.key.digest)).collect()
}

/// What revisions of the hub were taken to mean.
fn hub(plan: &Plan) -> BTreeMap<String, String> {
    let sources = plan.instances.iter().flat_map(|instance| &instance.sources);
    let pins = sources.filter_map(|source| source.hub.as_ref());
    pins.filter(|pin| !pin.asked.ends_with(&pin.commit)).map(|pin| (pin.asked.clone(), pin.commit.clone())).collect()
}
