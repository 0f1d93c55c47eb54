//! What scores say of the search that they come from, and what is checked of it where they are measured.

use std::collections::BTreeMap;

use mediant_engine::{RunContext, StageError};
use mediant_methods::{SEARCHED_IN, SEARCHED_ON};

/// The setting of scores that names the autoencoder whose latents they are of.
const SCORED_DICTIONARY: &str = "sae";

/// The model that is searched in, the prompts, and the autoencoder at `sae`, if there is one.
pub(crate) fn searched<C>(cx: &RunContext<'_, C>) -> Result<Vec<(&'static str, String)>, StageError> {
    let mut settings = vec![
        (SEARCHED_IN, cx.input_digest("model")?.to_string()),
        (SEARCHED_ON, cx.input_digest("prompts")?.to_string()),
    ];
    if cx.optional("sae")?.is_some() {
        settings.push((SCORED_DICTIONARY, cx.input_digest("sae")?.to_string()));
    }
    Ok(settings)
}

/// Says so where a search is measured on the prompts that it saw.
pub(crate) fn note_same_prompts<C>(cx: &RunContext<'_, C>, searched_on: Option<&str>) -> Result<(), StageError> {
    if searched_on == Some(&cx.input_digest("prompts")?.to_string()) {
        cx.note("the search saw these prompts: what it learnt of them by heart counts, too; measure on others");
    }
    Ok(())
}

/// Whether the autoencoder at `sae` is the one whose latents were scored, where the scores' settings name it.
pub(crate) fn check_same_dictionary<C>(
    cx: &RunContext<'_, C>,
    settings: &BTreeMap<String, String>,
) -> Result<(), StageError> {
    let own = cx.input_digest("sae")?.to_string();
    match settings.get(SCORED_DICTIONARY) {
        Some(scored) if *scored != own => {
            Err(StageError::new("input `sae`: the scores are of the latents of another autoencoder than this"))
        }
        _ => Ok(()),
    }
}
