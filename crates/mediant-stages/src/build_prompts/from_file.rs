//! Prompts of a file.

use std::path::Path;

use mediant_artifact::Prompt;
use mediant_engine::StageError;
use mediant_lm::prompts::{Assembler, read_drafts, report_misfits};
use rayon::prelude::*;

use super::{Config, OnMismatch};

/// The prompts of a file that fit the tokenizer, in its order, and what is to be said of the others.
pub(super) fn prompts(
    config: &Config,
    path: &Path,
    assembler: &Assembler<'_>,
) -> Result<(Vec<Prompt>, Option<String>), StageError> {
    let task = if config.columns.is_some() { "columns" } else { config.layout.unwrap_or_default().name() };
    let rows = read_drafts(path, &config.columns(), task, assembler.counterfactuals, config.n)?;
    let total = rows.len();
    let made: Vec<_> = rows.into_par_iter().map(|row| (assembler.assemble(&row.draft), row.place)).collect();
    let (mut prompts, mut misfits) = (Vec::with_capacity(total), Vec::new());
    for (prompt, place) in made {
        match prompt {
            Ok(prompt) => prompts.push(prompt),
            Err(misfit) => misfits.push((place, misfit)),
        }
    }
    let Some((place, first)) = misfits.first() else {
        return Ok((prompts, None));
    };
    if config.on_mismatch != Some(OnMismatch::Drop) {
        let report = report_misfits(&misfits, total);
        return Err(StageError::new(format!("{report}\n`on_mismatch: drop` leaves them out")));
    }
    if prompts.is_empty() {
        return Err(StageError::new(report_misfits(&misfits, total)));
    }
    let left_out = format!("{} of {total} prompts do not fit this tokenizer and are left out", misfits.len());
    Ok((prompts, Some(format!("{left_out}, the first of them {place}: {first}"))))
}
