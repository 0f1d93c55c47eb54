//! `mediant plan`: what would run, and why. Changes nothing.

use std::collections::BTreeSet;

use clap::Args;
use mediant_engine::{Judge, Plan, Status, describe};
use serde_json::json;

use crate::cli::PipelineArgs;
use crate::exit::CommandResult;

/// Shows what of a pipeline is cached, what would run and why, without running anything.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant plan pipelines/quickstart.yaml --set stages.sae.with.steps=200")]
pub(crate) struct PlanCommand {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// Plan as if with `run --force`
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl PlanCommand {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let plan = self.pipeline.plan(&self.targets)?;
        let mut forced = BTreeSet::new();
        for selector in &self.force {
            forced.extend(plan.select(selector)?);
        }
        let statuses = statuses(&plan, forced)?;
        let count = |wanted: fn(&Status) -> bool| statuses.iter().filter(|(_, status)| wanted(status)).count();
        let (cached, run, depend) = (
            count(|status| matches!(status, Status::Cached(..))),
            count(|status| matches!(status, Status::Run(_))),
            count(|status| matches!(status, Status::Depends(_))),
        );
        if self.json {
            let stages: Vec<_> = statuses.iter().map(|(index, status)| stage_json(&plan, *index, status)).collect();
            anstream::println!(
                "{}",
                json!({ "pipeline": plan.pipeline.name, "cached": cached, "run": run, "depends": depend, "stages": stages })
            );
            return Ok(());
        }
        let width =
            statuses.iter().map(|(index, _)| plan.instances[*index].label.chars().count()).max().unwrap_or(0).min(60);
        for (index, status) in &statuses {
            anstream::println!("{:width$}  {}", plan.instances[*index].label, describe(&plan, status));
        }
        anstream::println!("\n{cached} cached, {run} to run, {depend} depending on those");
        Ok(())
    }
}

/// The status of every wanted instance.
pub(crate) fn statuses(plan: &Plan, forced: BTreeSet<usize>) -> Result<Vec<(usize, Status)>, crate::exit::Failure> {
    let mut judge = Judge::new(plan, forced, None)?;
    let mut statuses = Vec::new();
    for index in 0..plan.instances.len() {
        if plan.wanted[index] {
            statuses.push((index, judge.decide(index)?));
        }
    }
    Ok(statuses)
}

fn stage_json(plan: &Plan, index: usize, status: &Status) -> serde_json::Value {
    let instance = &plan.instances[index];
    let state = match status {
        Status::Cached(..) => "cached",
        Status::Run(_) => "run",
        Status::Depends(_) => "depends",
    };
    json!({
        "stage": instance.label,
        "uses": instance.uses,
        "recipe": instance.recipe,
        "state": state,
        "why": describe(plan, status),
    })
}
