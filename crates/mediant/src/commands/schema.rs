//! `mediant schema`: the JSON schema of pipeline files.

use clap::Args;

use crate::exit::CommandResult;

/// Prints the JSON schema of pipeline files, from which editors complete and check.
#[derive(Args)]
#[command(
    after_help = "Example:\n  mediant schema > schemas/pipeline.schema.json\n\nA pipeline names it in its first line:\n  # yaml-language-server: $schema=../schemas/pipeline.schema.json"
)]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self) -> CommandResult {
        let schema = mediant_report::pipeline_schema(&super::stages::docs());
        anstream::println!("{}", serde_json::to_string_pretty(&schema)?);
        Ok(())
    }
}
