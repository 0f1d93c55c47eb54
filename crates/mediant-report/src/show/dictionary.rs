//! A dictionary: what it is, how its training ended, its tensors.

use indexmap::IndexMap;
use mediant_artifact::{Artifact, CurveRow, DictionaryReader};

use super::tensors;
use super::tree::leaves;
use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, page: &mut Page) -> Result<()> {
    let dictionary = DictionaryReader::open(artifact)?;
    let meta = &dictionary.meta;
    page.facts(
        "Dictionary",
        [
            ("architecture", Cell::text(&meta.architecture)),
            ("reads", Cell::text(&meta.hook)),
            ("writes", Cell::or_empty(meta.hook_out.as_ref(), Cell::text)),
            ("d_in", Cell::Count(meta.d_in as u64)),
            ("d_sae", Cell::Count(meta.d_sae as u64)),
            ("model", Cell::or_empty(meta.model.as_ref(), |model| Cell::Digest(model.to_string()))),
        ],
    );
    let mut options = Vec::new();
    leaves("", &meta.config, &mut options);
    page.facts("Trained with", options);
    page.table("Training curve", curve(&dictionary.curve()?));
    page.table("Tensors", tensors::table(&dictionary.tensors));
    Ok(())
}

/// First and last value of everything that was measured during training.
fn curve(rows: &[CurveRow]) -> TextTable {
    let mut ends: IndexMap<&str, (&CurveRow, &CurveRow)> = IndexMap::new();
    for row in rows {
        ends.entry(&row.name).and_modify(|ends| ends.1 = row).or_insert((row, row));
    }
    let mut table = TextTable::new(["measure", "first", "last", "step", "tokens"]);
    for (name, (first, last)) in ends {
        table.push([
            Cell::text(name),
            Cell::Float(first.value),
            Cell::Float(last.value),
            Cell::Count(last.step),
            Cell::Count(last.tokens),
        ]);
    }
    table
}
