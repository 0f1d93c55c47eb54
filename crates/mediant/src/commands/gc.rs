//! `mediant gc`: frees space.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mediant_engine::Project;
use mediant_store::{GcOptions, Store};
use serde_json::json;

use crate::exit::{CommandResult, Failure};

/// Removes results that no recent run, pin or lock file needs. They can be computed again.
///
/// Kept are the results of the last runs of each pipeline, of pinned actions, and those that a lock file names.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant gc --dry-run")]
pub(crate) struct Gc {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// The last runs of each pipeline whose results stay
    #[arg(long, value_name = "N", default_value_t = GcOptions::default().keep_runs)]
    keep_runs: usize,
    /// Objects younger than this many minutes stay
    #[arg(long, value_name = "MINUTES", default_value_t = GcOptions::default().grace.as_secs() / 60)]
    grace: u64,
    /// The store's folder [default: .mediant beside the nearest mediant.toml, else in this folder]
    #[arg(long, value_name = "DIR", env = "MEDIANT_STORE")]
    store: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let folder = Project::of(std::path::Path::new("."))?.store(self.store.as_deref());
        if !folder.is_dir() {
            return Err(Failure::Input(format!(
                "error: there is no store {}\nhelp: give it with --store DIR\n",
                folder.display()
            )));
        }
        let store = Store::open(&folder)?;
        let options = GcOptions {
            keep_runs: self.keep_runs,
            grace: Duration::from_secs(self.grace.saturating_mul(60)),
            ..GcOptions::default()
        };
        if self.dry_run {
            let plan = store.plan_gc(&options)?;
            if self.json {
                let objects: Vec<_> = plan
                    .objects
                    .iter()
                    .map(|object| json!({ "object": object.id, "bytes": object.bytes, "made_by": object.made_by }))
                    .collect();
                anstream::println!(
                    "{}",
                    json!({ "dry_run": true, "bytes": plan.bytes(), "objects": objects, "actions": plan.actions, "kept_objects": plan.kept_objects })
                );
            } else {
                anstream::println!("{plan}");
                anstream::println!("nothing was removed (--dry-run)");
            }
            return Ok(());
        }
        let lock = store.exclusive_lock(|| tracing::warn!("waiting for runs that use the store"))?;
        let report = store.plan_gc(&options)?.execute(&lock)?;
        if self.json {
            anstream::println!(
                "{}",
                json!({ "dry_run": false, "bytes": report.bytes, "objects": report.objects, "actions": report.actions })
            );
        } else {
            anstream::println!(
                "removed {} objects ({}) and {} records",
                report.objects,
                crate::progress::bytes(report.bytes),
                report.actions
            );
        }
        Ok(())
    }
}
