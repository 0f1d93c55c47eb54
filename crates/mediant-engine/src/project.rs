//! Where a pipeline's project and store are.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// Name of the file that marks a project's root.
pub const PROJECT_FILE: &str = "mediant.toml";

/// Name of the store's folder in the project's root.
pub const STORE_FOLDER: &str = ".mediant";

/// What `mediant.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectConfig {
    /// Whether pipelines of this project may run programs (`uses: command`) without `--allow-command`.
    pub allow_command: bool,
    /// Least seconds between two checkpoints of a long stage; 0 for one after every step.
    pub checkpoint_seconds: u64,
}

impl Default for ProjectConfig {
    fn default() -> Self {
        Self { allow_command: false, checkpoint_seconds: 30 }
    }
}

/// The folder that a pipeline belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The nearest parent folder with a `mediant.toml`, else the pipeline's own folder.
    pub root: PathBuf,
    /// What its `mediant.toml` says.
    pub config: ProjectConfig,
}

impl Project {
    /// The project of a pipeline in `folder`.
    pub fn of(folder: &Path) -> Result<Self> {
        // The folder of a plain file name is the empty path.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = std::path::absolute(folder).map_err(Error::io(folder))?;
        for root in folder.ancestors() {
            let file = root.join(PROJECT_FILE);
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let config = toml::from_str(&text)
                        .map_err(|e| Error::Input(format!("error: {} is not right\n{e}", file.display())))?;
                    return Ok(Self { root: root.to_owned(), config });
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(file)(e)),
            }
        }
        Ok(Self { root: folder, config: ProjectConfig::default() })
    }

    /// The store's folder: `chosen` (from `--store` or `MEDIANT_STORE`), else `.mediant` in the root.
    pub fn store(&self, chosen: Option<&Path>) -> PathBuf {
        chosen.map_or_else(|| self.root.join(STORE_FOLDER), Path::to_owned)
    }
}
