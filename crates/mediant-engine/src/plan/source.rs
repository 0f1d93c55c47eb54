//! Outside files: where they are, and what they hold.

use std::path::{Path, PathBuf};

use mediant_artifact::Digest;
use mediant_hub::{Address, Hub, Wanted};
use mediant_spec::{Diagnostic, Diagnostics, Pipeline, did_you_mean, node_at};
use mediant_store::StatIndex;

use super::Planned;
use crate::canon::Canon;
use crate::keys::SourceKey;
use crate::plan::bind::Checked;
use crate::problem::Problems;
use crate::stage::{Source, SourceKind};

/// A source whose path exists.
pub(super) struct Located {
    pub(super) field: String,
    pub(super) path: PathBuf,
    pub(super) globs: Vec<String>,
    pub(super) hub: Option<HubPin>,
}

/// What a source on the hub was taken to mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPin {
    /// Repository and revision as the pipeline has them.
    pub asked: String,
    /// The commit that this is.
    pub commit: String,
    /// The whole address at that commit.
    pub address: String,
}

/// A source with the digest of what it holds.
#[derive(Debug, Clone)]
pub struct PlannedSource {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Globs of the files that count, when it is a folder.
    pub globs: Vec<String>,
    /// Set if it is in the cache of the hub.
    pub hub: Option<HubPin>,
    /// How it enters keys.
    pub key: SourceKey,
}

/// Finds a source; says what is wrong if it is not there.
pub(super) fn locate(dir: &Path, source: &Source, hub: &mut Hub) -> Result<Located, Problems> {
    let field = &source.field;
    if Address::is(&source.path) {
        return on_hub(source, hub).map_err(|error| {
            let problem = Problems::config(field, error.to_string());
            match error.help().filter(|help| !help.is_empty()) {
                Some(help) => problem.help(help),
                None => problem,
            }
        });
    }
    if source.path.is_empty() {
        return Err(Problems::config(field, "the path is empty"));
    }
    // Absolute: workers and the programs they start have folders of their own.
    let path =
        std::path::absolute(dir.join(&source.path)).map_err(|error| Problems::config(field, error.to_string()))?;
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let problem = Problems::config(field, format!("there is no file or folder {}", path.display()));
            return Err(match sibling(&path) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help("paths are relative to the pipeline file"),
            });
        }
        Err(error) => return Err(Problems::config(field, format!("{} cannot be read: {error}", path.display()))),
    };
    let globs = match (source.what.clone(), metadata.is_dir()) {
        (SourceKind::File | SourceKind::FileOrFolder(_), false) => Vec::new(),
        (SourceKind::Folder(globs) | SourceKind::FileOrFolder(globs), true) => {
            globs.iter().map(|glob| (*glob).to_owned()).collect()
        }
        (SourceKind::File, true) => {
            return Err(Problems::config(field, format!("{} is a folder; a file is needed", path.display())));
        }
        (SourceKind::Folder(_), false) => {
            return Err(Problems::config(field, format!("{} is a file; a folder is needed", path.display())));
        }
    };
    Ok(Located { field: field.clone(), path, globs, hub: None })
}

/// Finds a source on the hub: fetches what counts of it into the cache, where it is like any other from then on.
fn on_hub(source: &Source, hub: &mut Hub) -> Result<Located, mediant_hub::Error> {
    let address: Address = source.path.parse()?;
    let wanted = match source.what {
        SourceKind::File => Wanted::File,
        SourceKind::Folder(globs) => Wanted::Folder(globs),
        SourceKind::FileOrFolder(globs) => Wanted::FileOrFolder(globs),
    };
    let fetched = hub.fetch(&address, wanted)?;
    let globs = match source.what {
        SourceKind::Folder(globs) | SourceKind::FileOrFolder(globs) if fetched.path.is_dir() => globs,
        _ => &[],
    };
    let pin = HubPin {
        asked: address.asked(),
        commit: fetched.address.revision().to_owned(),
        address: fetched.address.to_string(),
    };
    let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Ok(Located { field: source.field.clone(), path: fetched.path, globs, hub: Some(pin) })
}

/// The nearest name in the same folder.
fn sibling(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(path.parent()?)
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = did_you_mean(wanted, names.iter().map(String::as_str))?;
    Some(path.with_file_name(near).display().to_string())
}

/// Digests the sources of a checked instance, which completes it but for its key.
pub(super) fn digest(checked: Checked, pipeline: &Pipeline, stats: &StatIndex) -> Result<Planned, Diagnostics> {
    let at_field = |field: &str, message: String| {
        let node = node_at(&checked.instance.with, field);
        Diagnostics::from(Diagnostic::new("source", message).at(node.span, "").via(node.via))
    };
    let mut config = checked.bound.canon().map_err(|error| {
        let uses = &pipeline.stages[checked.instance.stage].uses;
        Diagnostics::from(Diagnostic::new("stage", error.to_string()).at(uses.span, ""))
    })?;
    let mut sources = Vec::with_capacity(checked.sources.len());
    for Located { field, path, globs, hub } in &checked.sources {
        let digest = digest_path(path, globs, stats).map_err(|error| at_field(field, error.to_string()))?;
        // The digest of the content stands in the key instead of the path.
        config.replace(field, Canon::Null);
        let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
        sources.push(PlannedSource {
            path: path.clone(),
            globs: globs.clone(),
            hub: hub.clone(),
            key: SourceKey { field: field.clone(), extension, digest },
        });
    }
    let Checked { instance, uses, version, bound, inputs, outputs, facts, resources, .. } = checked;
    Ok(Planned {
        label: instance.label,
        decl: instance.stage,
        axes: instance.axes,
        uses,
        version,
        bound,
        config,
        inputs,
        outputs,
        facts,
        sources,
        resources,
        recipe: Digest::from([0; 32]),
    })
}

/// The digest of a file, or of the files of a folder that count: their relative names and contents.
pub(crate) fn digest_path(path: &Path, globs: &[String], stats: &StatIndex) -> Result<Digest, mediant_store::Error> {
    let id = if globs.is_empty() {
        stats.digest_file(path)?.blake3
    } else {
        let patterns: Vec<&str> = globs.iter().map(String::as_str).collect();
        stats.digest_tree(path, &patterns)?.blake3
    };
    Ok(Digest::from(*id.as_bytes()))
}
