//! What gc would remove: everything that no run, pin, lock file or recent work needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::action::{ActionRecord, Outputs};
use crate::roots::Roots;
use crate::store::Folder;
use crate::{Error, Id, Result, Store, files};

/// What gc spares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// How many runs of each pipeline keep their results.
    pub keep_runs: usize,
    /// Whatever is younger stays: a run that holds no lock (a file system without any) may be about to refer to it.
    pub grace: Duration,
    /// Checkpoints of actions that never finished stay this long.
    pub checkpoint_age: Duration,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { keep_runs: 20, grace: Duration::from_secs(3600), checkpoint_age: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// An object that gc would remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcObject {
    /// Its id.
    pub id: Id,
    /// What its files take.
    pub bytes: u64,
    /// The stage and output that it is from, where a record still says so.
    pub made_by: Option<String>,
}

/// What gc would remove. Shown with `{}`, carried out with [`GcPlan::execute`].
#[derive(Debug)]
pub struct GcPlan {
    pub(crate) store: Store,
    pub(crate) options: GcOptions,
    /// Objects that nothing refers to.
    pub objects: Vec<GcObject>,
    /// Records of recipe keys that nothing asks for, or whose objects are gone.
    pub actions: Vec<Id>,
    /// The same by content key.
    pub contents: Vec<Id>,
    /// Checkpoints of finished or long abandoned actions.
    pub checkpoints: Vec<PathBuf>,
    /// Runs beyond the last ones of their pipeline.
    pub runs: Vec<String>,
    /// Damaged things that were set aside.
    pub quarantined: Vec<PathBuf>,
    /// Lock files of pipelines that have been gone for long.
    pub lost_lock_files: Vec<String>,
    /// How many objects stay.
    pub kept_objects: usize,
    pub(crate) lost_lock_file_records: Vec<PathBuf>,
    /// Objects that stay, for the stat index.
    pub(crate) kept: BTreeSet<Id>,
}

impl Store {
    /// Finds out what gc would remove; removes nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] if something that says what to keep cannot be read.
    pub fn plan_gc(&self, options: &GcOptions) -> Result<GcPlan> {
        let roots = self.roots(options.keep_runs)?;
        let mut mark = Mark { store: self, options, live: Live::default(), origin: BTreeMap::new() };
        let mut actions = mark.actions(&roots)?;
        let contents = mark.contents()?;
        let Mark { live, mut origin, .. } = mark;
        actions.retain(|key| !live.makers.contains(key));
        let mut plan = GcPlan {
            store: self.clone(),
            options: options.clone(),
            objects: Vec::new(),
            actions,
            checkpoints: self.old_checkpoints(options, &contents)?,
            contents,
            runs: self.old_runs(options, &roots),
            quarantined: entries(&self.folder(Folder::Quarantine))?
                .into_iter()
                .filter(|path| !path.ends_with("VERSION") && !files::is_young(path, options.grace))
                .collect(),
            lost_lock_files: roots.lost_lock_files.iter().map(|(_, path)| path.clone()).collect(),
            kept_objects: 0,
            lost_lock_file_records: roots.lost_lock_files.into_iter().map(|(record, _)| record).collect(),
            kept: BTreeSet::new(),
        };
        for id in self.listed(Folder::Objects)? {
            let path = self.object_path(id);
            if live.objects.contains(&id) || files::is_young(&path, options.grace) {
                plan.kept.insert(id);
            } else {
                plan.objects.push(GcObject { id, bytes: size(&path), made_by: origin.remove(&id) });
            }
        }
        plan.kept_objects = plan.kept.len();
        Ok(plan)
    }

    fn old_checkpoints(&self, options: &GcOptions, dead_contents: &[Id]) -> Result<Vec<PathBuf>> {
        let mut old = Vec::new();
        for path in entries(&self.folder(Folder::Checkpoints))? {
            let key = path.file_name().and_then(|name| Id::parse(name.to_str()?.get(..64)?));
            let Some(key) = key else { continue };
            let finished = !dead_contents.contains(&key) && self.sharded(Folder::Contents, key, ".json").exists();
            let age = if finished { options.grace } else { options.checkpoint_age };
            if !files::is_young(&path, age) {
                old.push(path);
            }
        }
        Ok(old)
    }

    fn old_runs(&self, options: &GcOptions, roots: &Roots) -> Vec<String> {
        let old = roots.old_runs.iter().filter(|run| !files::is_young(&run.path, options.grace));
        old.map(|run| run.id.clone()).collect()
    }

    /// The ids in a folder: of whatever is named `ab/cdef…`, with any suffix. Other names are passed over.
    fn listed(&self, folder: Folder) -> Result<BTreeSet<Id>> {
        let mut found = BTreeSet::new();
        for shard in entries(&self.folder(folder))? {
            let Some(start) = shard.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 2) else {
                continue;
            };
            for path in entries(&shard)? {
                let rest = path.file_name().and_then(|name| name.to_str()?.split('.').next());
                found.extend(rest.and_then(|rest| Id::parse(&format!("{start}{rest}"))));
            }
        }
        Ok(found)
    }
}

/// What stays.
#[derive(Default)]
struct Live {
    contents: BTreeSet<Id>,
    /// The actions that content records name: they hold the provenance of what was found by content.
    makers: BTreeSet<Id>,
    objects: BTreeSet<Id>,
}

struct Mark<'a> {
    store: &'a Store,
    options: &'a GcOptions,
    live: Live,
    /// Which stage and output an unneeded object is from.
    origin: BTreeMap<Id, String>,
}

impl Mark<'_> {
    /// Marks what the actions that stay refer to; returns the others.
    fn actions(&mut self, roots: &Roots) -> Result<Vec<Id>> {
        let mut dead = Vec::new();
        for key in self.store.listed(Folder::Actions)? {
            // Divergent records may outlive the one that they diverge from, if that was damaged.
            let Some(record) = self.store.read_action(key)? else {
                dead.push(key);
                continue;
            };
            let wanted = roots.actions.contains(&key) && self.store.are_present(&record.outputs);
            if !wanted && !self.is_young(Folder::Actions, key, ".json") {
                self.remember_origin(&record);
                dead.push(key);
                continue;
            }
            self.keep_objects(&record.outputs);
            self.live.contents.insert(record.content);
            for other in self.store.divergent_actions(key)? {
                self.keep_objects(&other.outputs);
            }
        }
        Ok(dead)
    }

    /// As [`Mark::actions`], for content keys.
    fn contents(&mut self) -> Result<Vec<Id>> {
        let mut dead = Vec::new();
        for key in self.store.listed(Folder::Contents)? {
            let Some(record) = self.store.read_content(key)? else {
                continue;
            };
            let wanted = self.live.contents.contains(&key) && self.store.are_present(&record.outputs);
            if wanted || self.is_young(Folder::Contents, key, ".json") {
                self.keep_objects(&record.outputs);
                let maker = self.store.read_action(record.action)?;
                if let Some(maker) = maker.filter(|maker| self.store.are_present(&maker.outputs)) {
                    self.keep_objects(&maker.outputs);
                    self.live.makers.insert(record.action);
                }
            } else {
                dead.push(key);
            }
        }
        Ok(dead)
    }

    fn is_young(&self, folder: Folder, key: Id, suffix: &str) -> bool {
        files::is_young(&self.store.sharded(folder, key, suffix), self.options.grace)
    }

    fn keep_objects(&mut self, outputs: &Outputs) {
        self.live.objects.extend(outputs.values().map(|output| output.object));
    }

    fn remember_origin(&mut self, record: &ActionRecord) {
        for (name, output) in &record.outputs {
            self.origin.insert(output.object, format!("{}.{name}", record.stage));
        }
    }
}

impl GcPlan {
    /// What the objects take.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.actions.is_empty()
            && self.contents.is_empty()
            && self.checkpoints.is_empty()
            && self.runs.is_empty()
            && self.quarantined.is_empty()
            && self.lost_lock_files.is_empty()
    }
}

impl fmt::Display for GcPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            let made_by = object.made_by.as_deref().unwrap_or("unfinished work");
            writeln!(f, "object {}  {:>10}  {made_by}", object.id.short(), human(object.bytes))?;
        }
        for run in &self.runs {
            writeln!(f, "run {run}")?;
        }
        for path in &self.lost_lock_files {
            writeln!(f, "lock file {path}: gone for 30 days, its results are no longer kept for it")?;
        }
        write!(
            f,
            "{} objects ({}), {} action records, {} content records, {} checkpoints, {} runs, {} damaged things set aside; {} objects stay",
            self.objects.len(),
            human(self.bytes()),
            self.actions.len(),
            self.contents.len(),
            self.checkpoints.len(),
            self.runs.len(),
            self.quarantined.len(),
            self.kept_objects,
        )
    }
}

pub(crate) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// What a folder holds, sorted; nothing if it is no folder.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).map_err(Error::io("list", dir))?.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn size(dir: &Path) -> u64 {
    let files = entries(dir).unwrap_or_default();
    files.iter().filter_map(|path| fs::symlink_metadata(path).ok()).map(|metadata| metadata.len()).sum()
}
