//! Effects: what was measured and how, the first ones with the names of their mediators.

use std::collections::BTreeMap;

use mediant_artifact::{Artifact, Contrast, Effects};

use super::rows::more;
use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, head: usize, page: &mut Page) -> Result<()> {
    let effects = Effects::open(artifact)?;
    let meta = &effects.meta;
    let method = method(&meta.method, &meta.metric, &meta.unit, meta.contrast, meta.counterfactual.as_deref());
    let counts = [
        ("model", Cell::Digest(meta.model.to_string())),
        ("prompts", Cell::Digest(meta.prompts.to_string())),
        ("examples", Cell::Count(meta.examples)),
        ("mediators", Cell::Count(meta.mediators)),
        ("effects", Cell::Count(meta.effects)),
        ("passes", Cell::Float(meta.passes)),
    ];
    page.facts("Effects", method.into_iter().chain(counts));
    settings(&meta.settings, page);
    let mut table = TextTable::new(["example", "mediator", "clean", "counterfactual", "patched"]);
    for effect in effects.rows()?.take(head) {
        let effect = effect?;
        table.push([
            Cell::Int(effect.example.into()),
            Cell::or_empty(effects.mediators.get(effect.mediator as usize), |mediator| Cell::text(&mediator.name)),
            Cell::Float(effect.clean),
            Cell::or_empty(effect.counterfactual, Cell::Float),
            Cell::Float(effect.patched),
        ]);
    }
    more(&mut table, meta.effects, "effect");
    page.table("First effects", table);
    Ok(())
}

/// The facts that effects and scores have in common.
pub(crate) fn method(
    method: &str,
    metric: &str,
    unit: &str,
    contrast: Contrast,
    counterfactual: Option<&str>,
) -> [(&'static str, Cell); 5] {
    [
        ("method", Cell::text(method)),
        ("metric", Cell::text(metric)),
        ("unit", if unit == "1" { Cell::Empty } else { Cell::text(unit) }),
        ("score", Cell::text(contrast.formula())),
        ("counterfactual", Cell::or_empty(counterfactual, Cell::text)),
    ]
}

/// The settings, where there are any.
pub(super) fn settings(settings: &BTreeMap<String, String>, page: &mut Page) {
    if !settings.is_empty() {
        page.facts("Settings", settings.iter().map(|(name, value)| (name, Cell::text(value))));
    }
}
