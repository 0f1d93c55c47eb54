//! `mediant explain`: why a stage runs again.

use std::collections::BTreeSet;

use clap::Args;
use mediant_engine::Judge;

use crate::cli::PipelineArgs;
use crate::exit::CommandResult;

/// Says in words what differs from the last run: options, outside files, inputs, and the stages where the change began.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant explain pipelines/quickstart.yaml eval")]
pub(crate) struct Explain {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The stage, or an instance such as sae[seed=0]
    #[arg(value_name = "STAGE")]
    stage: String,
    /// One JSON object an instance, a line each
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let plan = self.pipeline.plan(std::slice::from_ref(&self.stage))?;
        for index in plan.select(&self.stage)? {
            let mut judge = Judge::new(&plan, BTreeSet::new(), None)?;
            let explanation = mediant_engine::explain(&plan, &mut judge, index)?;
            if self.json {
                anstream::println!("{}", serde_json::to_string(&explanation)?);
                continue;
            }
            anstream::println!("{}: {}", explanation.stage, explanation.status);
            match &explanation.compared_with {
                None => anstream::println!("  this pipeline has not been run in this store"),
                Some(run) if explanation.changes.is_empty() && explanation.upstream.is_empty() => {
                    anstream::println!("  nothing has changed since run {run}");
                }
                Some(run) => anstream::println!("  since run {run}:"),
            }
            for change in &explanation.changes {
                anstream::println!("    {change}");
            }
            for upstream in &explanation.upstream {
                for change in &upstream.changes {
                    anstream::println!("    because in {}: {change}", upstream.stage);
                }
            }
        }
        Ok(())
    }
}
