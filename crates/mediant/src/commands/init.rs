//! `mediant init`: a project to start from.

use std::path::{Path, PathBuf};

use clap::Args;
use mediant_engine::PROJECT_FILE;

use crate::exit::{CommandResult, Failure};

/// Makes a folder with a mediant.toml, a .gitignore and a first pipeline.
#[derive(Args)]
#[command(after_help = "Example:\n  mediant init my-experiment\n  mediant run my-experiment/pipeline.yaml")]
pub(crate) struct Init {
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
}

const PROJECT: &str = "# The root of a Mediant project: results are kept in .mediant/ beside this file.\n\n\
# Let pipelines of this project run programs (`uses: command`) without --allow-command.\n\
allow_command = false\n\n\
# Least seconds between two checkpoints of a long stage.\n\
checkpoint_seconds = 30\n";

const PIPELINE: &str = include_str!("init.yaml");

impl Init {
    pub(crate) fn run(self) -> CommandResult {
        let files = [(PROJECT_FILE, PROJECT), ("pipeline.yaml", PIPELINE), (".gitignore", "/.mediant/\n")];
        // Looked at before anything is written: a project is made whole or not at all.
        if let Some((name, _)) = files.iter().find(|(name, _)| *name != ".gitignore" && self.folder.join(name).exists())
        {
            return Err(Failure::input(format!(
                "{} is there already; nothing was written",
                self.folder.join(name).display()
            )));
        }
        std::fs::create_dir_all(&self.folder)?;
        for (name, text) in files {
            write_new(&self.folder.join(name), text)?;
        }
        anstream::println!(
            "made {}\nnext: mediant run {}",
            self.folder.join("pipeline.yaml").display(),
            self.folder.join("pipeline.yaml").display()
        );
        Ok(())
    }
}

/// Writes a file that is not there yet; an existing .gitignore is the user's own and stays as it is.
fn write_new(path: &Path, text: &str) -> CommandResult {
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => Ok(std::io::Write::write_all(&mut file, text.as_bytes())?),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::Other(format!("{}: {error}", path.display()))),
    }
}
