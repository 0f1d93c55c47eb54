//! `mediant status`: what of a pipeline is done, and where the results are.

use std::collections::BTreeSet;

use clap::Args;
use mediant_engine::{Status as State, describe, output_name};
use serde_json::json;

use crate::cli::PipelineArgs;
use crate::exit::CommandResult;

/// Shows the state of every stage, with the folder of each finished result.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant status pipelines/quickstart.yaml --json")]
pub(crate) struct Status {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let plan = self.pipeline.plan(&[])?;
        let statuses = super::plan::statuses(&plan, BTreeSet::new())?;
        if !self.json {
            anstream::println!("store {}", plan.store.root().display());
        }
        let mut rows = Vec::new();
        for (index, status) in &statuses {
            let instance = &plan.instances[*index];
            let label = &instance.label;
            match status {
                State::Cached(known, _) => {
                    for (output, key) in instance.artifacts() {
                        let (name, kind) = (output_name(&output.name, key), output.kind.name());
                        let Some(output) = known.output(&name) else { continue };
                        let path = plan.store.object_path(output.object);
                        if self.json {
                            rows.push(json!({ "stage": label, "state": "done", "output": name, "kind": kind, "path": path, "digest": output.digest }));
                        } else {
                            let shown = path.strip_prefix(plan.store.root()).unwrap_or(&path);
                            anstream::println!("done     {label}.{name}  {kind}  {}", shown.display());
                        }
                    }
                }
                other if self.json => {
                    rows.push(json!({ "stage": label, "state": "missing", "why": describe(&plan, other) }));
                }
                other => anstream::println!("missing  {label}  {}", describe(&plan, other)),
            }
        }
        if self.json {
            anstream::println!("{}", json!({ "store": plan.store.root(), "stages": rows }));
        }
        Ok(())
    }
}
