//! `mediant export`: a result as files for other programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use mediant_artifact::{Artifact, Kind, TokenizerReader};
use mediant_dict::format::Format;
use serde_json::json;

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::results::{Finished, Results};

/// Writes a result as files for other programs.
///
/// A model becomes a Hugging Face folder that transformers loads, a dictionary a SAELens folder, a tokenizer its files, what the
/// stage `export` made the files that it holds, everything else one Parquet file named after the stage. Of a stage with a matrix, every instance is written: models, dictionaries, tokenizers and files to a
/// folder each. DIR is made; files that are there already are kept unless --force is given.
#[derive(Args)]
#[command(after_help = "\
A model becomes a folder for transformers, a dictionary one for SAELens, anything else a Parquet file.

Other formats come from a stage that `uses: export` (see `mediant stages export`), whose files this command writes:
  of a model       transformers, folded (frozen norms as part of the weights)
  of a dictionary  saelens, sparsify, gemma_scope, dictionary_learning

Examples:
  mediant export pipelines/quickstart.yaml model exported/tiny-gpt2
  mediant export pipelines/quickstart.yaml 'sae[name=topk16,seed=0]' exported/sae
  mediant export pipelines/quickstart.yaml acts exported
  mediant export pipelines/papers/ln-removal.yaml folded exported/tiny-gpt2-folded")]
pub(crate) struct Export {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// What to export: a stage, a stage.output, an instance such as sae[seed=0]
    #[arg(value_name = "STAGE[.OUTPUT]")]
    selector: String,
    /// The folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Overwrite files
    #[arg(long)]
    force: bool,
    /// The files written, as one JSON object
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let results = Results::of(self.pipeline.plan(&[])?)?;
        let found = results.select(&self.selector)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()))
        };
        if self.folder.exists() && !self.folder.is_dir() {
            return Err(Failure::input(format!(
                "{} is a file; what is exported goes into a folder",
                self.folder.display()
            )));
        }
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        // Everything is written aside first, in the same file system, so that nothing is ever half there.
        let draft =
            tempfile::Builder::new().prefix(".export-").tempdir_in(&self.folder).map_err(failed(&self.folder))?;
        for finished in &found {
            write(finished, found.len() > 1, draft.path())?;
        }
        let files = files(draft.path()).map_err(failed(draft.path()))?;
        let existing: Vec<&PathBuf> = files.iter().filter(|file| self.folder.join(file).exists()).collect();
        if !existing.is_empty() && !self.force {
            let list: String =
                existing.iter().map(|file| format!("  {}\n", self.folder.join(file).display())).collect();
            return Err(Failure::Input(format!(
                "error: these files are there already; nothing was written\n{list}help: --force overwrites them\n"
            )));
        }
        for file in &files {
            let target = self.folder.join(file);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(failed(parent))?;
            }
            fs::rename(draft.path().join(file), &target).map_err(failed(&target))?;
        }
        if self.json {
            anstream::println!("{}", json!({ "folder": self.folder, "files": files }));
        } else {
            for file in &files {
                anstream::println!("{}", self.folder.join(file).display());
            }
        }
        Ok(())
    }
}

/// Writes one artifact below `draft`.
fn write(finished: &Finished<'_>, many: bool, draft: &Path) -> CommandResult {
    let artifact = finished.open()?;
    // Labels may hold anything; a file name may not.
    let name: String = finished.label().chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    let folder = if many { draft.join(&name) } else { draft.to_owned() };
    match artifact.kind() {
        Kind::Model => mediant_lm::export(&artifact, &folder)?,
        Kind::Dictionary => mediant_dict::artifact::export(&artifact, Format::Saelens, false, &folder)?,
        Kind::Tokenizer => write_tokenizer(&artifact, &folder)?,
        Kind::Files => {
            fs::create_dir_all(&folder)?;
            for file in &artifact.manifest().files {
                fs::copy(artifact.dir().join(&file.file), folder.join(&file.file))?;
            }
        }
        _ => {
            let file = draft.join(format!("{name}.parquet"));
            artifact.export_parquet(&file)?;
            artifact.export_further_parquet(&file)?;
        }
    }
    Ok(())
}

fn write_tokenizer(artifact: &Artifact, folder: &Path) -> CommandResult {
    let reader = TokenizerReader::open(artifact)?;
    fs::create_dir_all(folder)?;
    for name in reader.files.names() {
        // The names of a damaged artifact must not lead elsewhere.
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(Failure::Other(format!("`{}` is no file name", name.escape_debug())));
        }
        fs::write(folder.join(name), reader.files.get(name).unwrap_or_default())?;
    }
    Ok(())
}

/// All files below a folder, relative to it, sorted; readable by everyone.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut open = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(current) = open.pop() {
        for entry in fs::read_dir(current)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
                files.extend(path.strip_prefix(folder).map(Path::to_owned));
            }
        }
    }
    files.sort();
    Ok(files)
}
