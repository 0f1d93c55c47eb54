//! Removing what nothing needs.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::gc_plan::{entries, human};
use crate::scratch::Scratch;
use crate::stat::StatKey;
use crate::store::Folder;
use crate::{Error, ExclusiveLock, GcPlan, Id, Result, StatIndex, Store, files};

/// Without locks, nothing younger than this is touched.
const GRACE_WITHOUT_LOCKS: Duration = Duration::from_secs(24 * 3600);

/// What gc removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Objects.
    pub objects: usize,
    /// What they took.
    pub bytes: u64,
    /// Records of recipe keys.
    pub actions: usize,
    /// Folders and lock files of processes that had died.
    pub leftovers: usize,
}

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, actions, leftovers, .. } = self;
        let bytes = human(self.bytes);
        write!(
            f,
            "removed {objects} objects ({bytes}), {actions} action records, {leftovers} leftovers of dead processes"
        )
    }
}

impl GcPlan {
    /// Removes what the plan names and what is still not needed now: a run may have come between the plan and the lock.
    pub fn execute(&self, lock: &ExclusiveLock) -> Result<GcReport> {
        let mut options = self.options.clone();
        if !lock.is_real() {
            options.grace = options.grace.max(GRACE_WITHOUT_LOCKS);
        }
        let store = &self.store;
        let now = store.plan_gc(&options)?;
        let mut report = GcReport::default();
        // Records before what they name: whatever the moment of a crash, no record loses its objects.
        for key in both(&self.actions, &now.actions) {
            for path in store.divergent_paths(key) {
                remove(&path)?;
            }
            remove(&store.sharded(Folder::Actions, key, ".json"))?;
            report.actions += 1;
        }
        for key in both(&self.contents, &now.contents) {
            remove(&store.sharded(Folder::Contents, key, ".json"))?;
        }
        let planned: BTreeSet<Id> = self.objects.iter().map(|object| object.id).collect();
        let staging = store.stage_dir("gc")?;
        for object in now.objects.iter().filter(|object| planned.contains(&object.id)) {
            store.remove_object(object.id, staging.path())?;
            report.objects += 1;
            report.bytes += object.bytes;
        }
        for run in both(&self.runs, &now.runs) {
            remove(&store.folder(Folder::Runs).join(run))?;
        }
        for path in both(&self.checkpoints, &now.checkpoints) {
            remove(&path)?;
        }
        for path in both(&self.quarantined, &now.quarantined) {
            remove(&path)?;
        }
        for path in both(&self.lost_lock_file_records, &now.lost_lock_file_records) {
            remove(&path)?;
        }
        report.leftovers = store.remove_stale_locks()? + Scratch::remove_dead(&store.folder(Folder::Tmp))?;
        if !lock.is_real() {
            report.leftovers +=
                store.remove_old(Folder::Tmp, options.grace)? + store.remove_old(Folder::Locks, options.grace)?;
        }
        StatIndex::prune(store, &store.stat_keys(&now.kept))?;
        Ok(report)
    }
}

impl Store {
    /// First out of its place, in one step, so that a half-removed object is never met there.
    fn remove_object(&self, id: Id, staging: &Path) -> Result<()> {
        let path = self.object_path(id);
        let aside = staging.join(id.to_string());
        files::make_writable(&path).and_then(|()| fs::rename(&path, &aside)).map_err(Error::write("remove", &path))?;
        remove(&aside)
    }

    /// Where there are no locks, only age tells what the dead left.
    fn remove_old(&self, folder: Folder, age: Duration) -> Result<usize> {
        let old = |path: &PathBuf| !path.ends_with("VERSION") && !files::is_young(path, age);
        let leftovers: Vec<PathBuf> = entries(&self.folder(folder))?.into_iter().filter(old).collect();
        leftovers.iter().try_for_each(|path| remove(path))?;
        Ok(leftovers.len())
    }

    /// The stat index's keys of all files of these objects.
    fn stat_keys(&self, objects: &BTreeSet<Id>) -> HashSet<StatKey> {
        let mut keys = HashSet::new();
        for &id in objects {
            let names = files::flat_names(&self.object_path(id)).unwrap_or_default();
            keys.extend(names.iter().map(|name| StatKey::in_object(id, name)));
        }
        keys
    }
}

fn both<T: Clone + Ord>(planned: &[T], now: &[T]) -> Vec<T> {
    let now: BTreeSet<&T> = now.iter().collect();
    planned.iter().filter(|item| now.contains(item)).cloned().collect()
}

fn remove(path: &Path) -> Result<()> {
    files::remove_tree(path).map_err(Error::write("remove", path))
}
