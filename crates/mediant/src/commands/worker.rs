//! `mediant worker`: the process that does actions. Started by `mediant run`, not by people.

use std::path::PathBuf;

use clap::Args;

use crate::exit::{CommandResult, Failure};

#[derive(Args)]
pub(crate) struct Worker {
    /// The store's folder
    store: PathBuf,
}

impl Worker {
    pub(crate) fn run(self) -> CommandResult {
        crate::huge_pages(true);
        // To the action's log, which is where this process's standard error goes.
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        mediant_engine::serve(mediant_stages::catalogue(), &self.store).map_err(Failure::Other)
    }
}
