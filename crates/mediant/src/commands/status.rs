//! `mediant status`: what of a pipeline is done, and where the results are.

use std::collections::BTreeSet;

use clap::Args;
use mediant_engine::{Status as State, describe};
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
            let label = &plan.instances[*index].label;
            match status {
                State::Cached(known, _) => {
                    for (name, output) in &known.outputs {
                        let path = plan.store.object_path(output.object);
                        if self.json {
                            rows.push(json!({ "stage": label, "state": "done", "output": name, "kind": output.kind, "path": path, "digest": output.logical }));
                        } else {
                            let shown = path.strip_prefix(plan.store.root()).unwrap_or(&path);
                            anstream::println!("done     {label}.{name}  {}  {}", output.kind, shown.display());
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
